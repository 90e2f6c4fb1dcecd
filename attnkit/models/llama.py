"""Llama: RMSNorm, rotary positions, grouped keys and values, a gated feed-forward; no table of positions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, no_type_check

from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnkit import positions as encodings
from attnkit.masks import Mask, Window
from attnkit.models.decoder_only import DecoderOnly
from attnkit.models.initial import as_published, initialize
from attnkit.nn import Config, Embedding, Encoder, KVCache, causal
from attnkit.nn.config import Activation, Norm
from attnkit.nn.linear import Linear
from attnkit.positions import Rotary


@no_type_check
@dataclass(frozen=True, kw_only=True)
class LlamaConfig(Config):
    """The settings of a Llama; the defaults are those of Llama 2 with 7 billion parameters.

    - `rope_base`, `scaling`: of the rotary encoding; a scaling is one of `attnkit.positions`, such as
      `Llama3(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, trained_length=8192)`.
    - `trained_length`: the longest sequence in training, for information: there is no table that could end.
    - `tied`: is the head the embedding? `window`: how many tokens a token sees, itself included (Mistral).
    - `qkv_bias`, `out_bias`, `mlp_bias`: which projections have a bias (Qwen2's queries, keys and values do).
    """

    vocab: int = 32000
    rope_base: float = 10000.0
    scaling: Any = None
    trained_length: int | None = None
    tied: bool = False
    window: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    d_model: int = 4096
    heads: int = 32
    layers: int = 32
    d_hidden: int = 11008
    activation: Activation = "swiglu"
    norm: Norm = "rms"
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.scaling, dict):  # as it is written in config.json
            arguments = dict(self.scaling)
            object.__setattr__(self, "scaling", getattr(encodings, arguments.pop("kind"))(**arguments))
        for name, optional in (("vocab", False), ("window", True)):
            self.check_count(name, optional=optional)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them; the scaling by name."""
        named = (
            {} if self.scaling is None else {"scaling": {"kind": type(self.scaling).__name__, **asdict(self.scaling)}}
        )
        return super().to_dict() | named


class Llama(DecoderOnly):
    """tokens -> embedding -> [x + attention(norm(x)); x + swiglu(norm(x))] * layers -> norm -> logits.

    Touvron et al. 2023, arXiv:2302.13971, section 2.2; grouped queries since arXiv:2307.09288, section 2.2.

    >>> config = LlamaConfig(vocab=100, d_model=16, heads=4, kv_heads=2, layers=2, d_hidden=48)
    >>> Llama(config).eval()(torch.tensor([[5, 3, 8]])).shape
    torch.Size([1, 3, 100])
    """

    config: LlamaConfig
    config_class = LlamaConfig
    family = "llama"

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        d_head = config.d_head or config.d_model // config.heads
        rotary = Rotary(d_head, base=config.rope_base, scaling=config.scaling)
        self.embedding = Embedding(config.vocab, config.d_model)
        self.decoder = Encoder(config, rotary)  # only the causal mask makes a decoder of it
        self.head = None if config.tied else Linear(config.d_model, config.vocab, bias=False)
        as_published(self.decoder, qkv=config.qkv_bias, out=config.out_bias, mlp=config.mlp_bias)
        initialize(self)

    def forward(
        self,
        ids: Int[Tensor, "batch len"],
        *,
        mask: Mask | Bool[Tensor, "#batch #heads #len k_len"] | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: KVCache | None = None,
        last: bool = False,
    ) -> Float[Tensor, "batch out_len vocab"]:
        """The logits of the token after each position, or with `last` only those after the last: (batch, 1, vocab).

        - `mask`: what hides more than the future, such as padding; over all keys, those in the cache included.
        - `positions`: counted from what the cache holds unless given.
        - `cache`: from `new_cache`; `ids` are then the tokens that follow those it has seen.
        """
        visible = self._near(causal(mask, ids.shape[1], cache), ids.shape[1], cache)
        x = self.decoder(self.embedding(ids), mask=visible, positions=positions, cache=cache)
        x = x[:, -1:] if last else x
        return self.embedding.logits(x) if self.head is None else self.head(x)

    def _near(self, mask: Mask | None, q_len: int, cache: KVCache | None) -> Mask | None:
        """The mask, and nothing that is further back than the window."""
        window, seen = self.config.window, 0 if cache is None else cache.length
        if window is None or seen + q_len <= window:
            return mask
        near = Window(window - 1, 0, align="lower_right")
        return near if mask is None else mask & near
