"""What is counted: a stack of layers as a configuration, and the matrices that each layer has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import no_type_check

from attnkit.nn.config import Config
from attnkit.nn.feedforward import GATED

# Settings of other configurations that change nothing that is counted here.
FREE = {"rope_base", "scaling", "trained_length", "pad", "target_vocab"}

Matrix = tuple[int, int, bool]  # from how many numbers, to how many, is there a bias


@no_type_check
@dataclass(frozen=True, kw_only=True)
class CostConfig(Config):
    """A stack as `cost` sees it: a `Config`, and what models add to one.

    - `vocab`: None for a stack on vectors. `tied`: is the head the embedding? `context`: rows of a learned table of
      positions. `window`: how many tokens a token sees, itself included.
    - `d_latent`, `d_rope`: both, for `LatentAttention` in the place of `MultiHeadAttention`; kv_heads is then None.
    - `qkv_bias`, `out_bias`, `mlp_bias`: which projections have a bias; None: as `bias` says.
    - `source_vocab`: of an encoder as deep as the decoder, which then attends to it. `shared`: one table for both.

    >>> CostConfig.of(Config(d_model=64, heads=4, kv_heads=2)).kv_heads
    2
    """

    vocab: int | None = None
    tied: bool = True
    context: int | None = None
    window: int | None = None
    d_latent: int | None = None
    d_rope: int | None = None
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    mlp_bias: bool | None = None
    source_vocab: int | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocab", "context", "window", "d_latent", "d_rope", "source_vocab"):
            self.check_count(name, optional=True)
        if (self.d_latent is None) != (self.d_rope is None):
            self.refuse("d_rope", f"be given with d_latent = {self.d_latent}, and only with it")
        if self.d_latent and self.kv_heads is not None:
            self.refuse("kv_heads", "be None with d_latent: the heads share one latent vector")
        if self.d_latent and (self.qk_norm or self.source_vocab):
            self.refuse("d_latent", "be None with qk_norm or source_vocab: attnkit has no such model")
        if self.source_vocab and self.vocab is None:
            self.refuse("vocab", "be the target's vocabulary when there is a source")

    @property
    def width(self) -> int:
        """Of a head's query, key and value; a latent attention's query and key have d_rope more."""
        return self.d_head or self.d_model // self.heads

    @property
    def key_heads(self) -> int:
        """How many heads keys and values have."""
        return self.kv_heads or self.heads

    @classmethod
    @no_type_check
    def of(cls, config: Config) -> CostConfig:
        """The same stack, from the configuration of `GPT`, `Llama`, `Translator` or a plain `Config`.

        Raises TypeError for what is no configuration, ValueError for one with settings that are not known here.
        """
        if not isinstance(config, Config):
            raise TypeError(f"config is a {type(config).__name__}; it must be a Config, such as GPTConfig()")
        if isinstance(config, cls):
            return config
        given = config.to_dict()
        unknown = sorted(given.keys() - {field.name for field in fields(cls)} - FREE)
        if unknown:
            raise ValueError(
                f"config is a {type(config).__name__}, whose {', '.join(unknown)} cost() cannot count; "
                "describe its stack by a CostConfig"
            )
        if "target_vocab" in given:
            given["vocab"] = given["target_vocab"]
        return cls(**{name: value for name, value in given.items() if name not in FREE})


def attention_maps(config: CostConfig) -> list[Matrix]:
    """The matrices of every new token: query, key, value, out; of a latent attention query, down, out."""
    qkv = config.bias if config.qkv_bias is None else config.qkv_bias
    out = config.bias if config.out_bias is None else config.out_bias
    heads = config.heads * config.width
    if config.d_latent and config.d_rope:
        query = (config.d_model, heads + config.heads * config.d_rope, False)
        return [query, (config.d_model, config.d_latent + config.d_rope, qkv), (heads, config.d_model, out)]
    key = (config.d_model, config.key_heads * config.width, qkv)
    return [(config.d_model, heads, qkv), key, key, (heads, config.d_model, out)]


def up_maps(config: CostConfig) -> list[Matrix]:
    """From the latent of a latent attention to keys and values; none otherwise."""
    return [(config.d_latent, config.heads * config.width, False)] * 2 if config.d_latent else []


def feed_forward_maps(config: CostConfig) -> list[Matrix]:
    """up, down, and with a gate a third."""
    bias = config.bias if config.mlp_bias is None else config.mlp_bias
    up = (config.d_model, config.d_hidden, bias)
    return [up] * (2 if config.activation in GATED else 1) + [(config.d_hidden, config.d_model, bias)]
