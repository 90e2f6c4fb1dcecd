"""What a Transformer costs: parameters, floating-point operations, bytes of its cache; counted, not measured.

Matrix products only, two operations for each multiplication with its addition, as PyTorch's `FlopCounterMode` counts.
Norms, activations, softmax and the look-up of embeddings are left out: they grow with the width, not with its square.
For one layer of width d, a feed-forward of 4d and n keys that a token sees, that is for each token

    projections  8 d²        feed-forward  16 d²        scores and weighted sum  4 d n

so the part that is quadratic in the length overtakes the rest when n is above 6 d. Compare Kaplan et al. 2020,
arXiv:2001.08361, table 1, where the weighted sum is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, no_type_check

from attnkit.nn.config import Config
from attnkit.nn.cost_config import CostConfig, Matrix, attention_maps, feed_forward_maps, up_maps
from attnkit.positions.base import check_count


@dataclass(frozen=True)
class Cost:
    """Counts by part. `flops` of one forward pass; the names are those of the parts of the model.

    - `parameters`: embedding, positions, attention, feed_forward, norms, head (0 when tied).
    - `flops`: projections (into heads and out of them), scores (QK^T, and the weighted sum of the values),
      feed_forward, logits.
    - `cache_bytes`: keys and values of all tokens seen. `score_bytes`: one layer's table of scores, if it is written
      out, which a fused kernel never does.
    """

    parameters: dict[str, int]
    flops: dict[str, int]
    cache_bytes: int
    score_bytes: int

    @property
    def total_parameters(self) -> int:
        """Of the whole model; what is shared is counted once."""
        return sum(self.parameters.values())

    @property
    def total_flops(self) -> int:
        """Of the whole forward pass."""
        return sum(self.flops.values())


@no_type_check
def cost(
    config: Config,
    length: int,
    *,
    batch: int = 1,
    cached: int = 0,
    last: bool = False,
    causal: bool = True,
    pairs: Literal["visible", "all"] = "visible",
    itemsize: int = 2,
    source_length: int | None = None,
) -> Cost:
    """What a forward pass over `length` new tokens costs, after `cached` tokens whose keys and values are kept.

    - `last`: logits of the last position alone. `itemsize`: bytes of a number in the cache and in the scores.
    - `pairs`: "visible" counts the scores that the causal mask and the window leave; "all" those that a plain
      implementation computes and then hides, which is what `FlopCounterMode` counts.
    - `source_length`: of the encoder's source. The encoder runs when nothing is cached, then never again.

    Reading a prompt and then decoding costs as much as reading all at once:

    >>> from attnkit.nn import Config
    >>> config = Config(d_model=64, heads=4, d_hidden=256, layers=2)
    >>> cost(config, 10).total_flops + cost(config, 1, cached=10).total_flops == cost(config, 11).total_flops
    True
    >>> cost(config, 1, cached=99).cache_bytes  # 2 layers * 100 tokens * 2 * 4 heads * 16 numbers * 2 bytes
    51200

    Raises ValueError for counts that are none, and for a source length without a source or the other way round.
    """
    config = CostConfig.of(config)
    for name, value in (("length", length), ("batch", batch), ("itemsize", itemsize)):
        check_count(name, value)
    if isinstance(cached, bool) or not isinstance(cached, int) or cached < 0:
        raise ValueError(f"cached is {cached!r}; it must be a whole number, 0 or more")
    if pairs not in ("visible", "all"):
        raise ValueError(f"pairs is {pairs!r}; it must be 'visible' or 'all'")
    if (source_length is None) != (config.source_vocab is None):
        have = "has no source_vocab" if config.source_vocab is None else "has a source_vocab"
        raise ValueError(f"source_length is {source_length!r}, and the config {have}; give both or neither")
    source = 0 if source_length is None else check_count("source_length", source_length)
    seen = cached + length
    counted = visible_pairs(length, cached, config.window, causal) if pairs == "visible" else length * seen
    flops = _flops(config, length, seen, counted, 1 if last else length, source, source if cached == 0 else 0)
    return Cost(
        parameters(config),
        {name: batch * value for name, value in flops.items()},
        batch * itemsize * config.layers * cache_numbers(config, seen, source),
        batch * itemsize * config.heads * length * seen,
    )


def visible_pairs(length: int, cached: int = 0, window: int | None = None, causal: bool = True) -> int:
    """How many (query, key) pairs `length` queries see whose first stands at position `cached`.

    >>> visible_pairs(4), visible_pairs(4, causal=False), visible_pairs(4, window=2), visible_pairs(1, cached=9)
    (10, 16, 7, 10)
    """
    if not causal:
        return length * (cached + length)
    seen, most = cached + length, math.inf if window is None else window
    short = int(max(0, min(seen, most) - cached))  # queries that see everything up to themselves
    return short * (2 * cached + short + 1) // 2 + (length - short) * (window or 0)


def cache_numbers(config: CostConfig, seen: int, source: int = 0) -> int:
    """How many numbers one layer keeps of `seen` tokens of one sequence, and of the memory that it reads.

    With a window only its last tokens are kept, as `SlidingCache` does.
    """
    kept = seen if config.window is None else min(seen, config.window)
    if config.d_latent:
        return kept * (config.d_latent + (config.d_rope or 0))
    return 2 * (kept + source) * config.key_heads * config.width


def quadratic_from(config: Config, *, step: bool = False) -> int | None:
    """The least length at which scores and weighted sums take more operations than all else in the layers.

    Of a causal forward pass over the whole length, or with `step` of decoding one token more after that many. None
    when a window stops it before. Logits are not counted, since a prompt needs only the last.

    >>> from attnkit.nn import Config
    >>> quadratic_from(Config()), quadratic_from(Config(), step=True)  # 12 d, and just above 6 d
    (6144, 3073)
    """
    config = CostConfig.of(config)

    def overtaken(length: int) -> bool:
        found = cost(config, 1, cached=length - 1) if step else cost(config, length)
        return found.flops["scores"] > found.flops["projections"] + found.flops["feed_forward"]

    high = 1
    while not overtaken(high):
        high *= 2
        if high > 2**48:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if overtaken(middle) else (middle, high)
    return high


def parameters(config: CostConfig) -> dict[str, int]:
    """How many numbers are trained, by part of the model; equal to those of the real one."""
    blocks, norms, stacks = 1, 2, 1
    if config.source_vocab:  # an encoder, and a decoder with two attentions in each layer
        blocks, norms, stacks = 3, 5, 2
    tables = (config.vocab or 0) + (config.source_vocab or 0) * (not config.shared)
    norm = config.d_model * (2 if config.norm == "layer" and config.bias else 1)
    head_norms = 2 * config.width * config.qk_norm + (config.d_latent or 0)
    attention = _size([*attention_maps(config), *up_maps(config)])
    return {
        "embedding": tables * config.d_model,
        "positions": (config.context or 0) * config.d_model,
        "attention": config.layers * blocks * attention,
        "feed_forward": config.layers * stacks * _size(feed_forward_maps(config)),
        "norms": config.layers * (norms * norm + blocks * head_norms) + stacks * norm * config.norm_first,
        "head": 0 if config.tied or not config.vocab else config.vocab * config.d_model,
    }


def _size(maps: list[Matrix]) -> int:
    return sum(fan_in * fan_out + bias * fan_out for fan_in, fan_out, bias in maps)


def _products(maps: list[Matrix]) -> int:
    """Operations for one token."""
    return 2 * sum(fan_in * fan_out for fan_in, fan_out, _ in maps)


def _flops(
    config: CostConfig, length: int, seen: int, pairs: int, written: int, source: int, read: int
) -> dict[str, int]:
    """Operations of one sequence. `written`: positions with logits. `read`: source tokens that the encoder reads."""
    maps, width = attention_maps(config), config.heads * config.width
    projections, scores = _products(maps) * length, 4 * width * pairs
    if config.d_latent and config.d_rope:
        ups, per = _products(up_maps(config)), 2 * config.heads * pairs
        # Keys and values for every token seen, or the queries brought to the latents: as LatentAttention decides.
        expanded = (ups * seen, per * (2 * config.width + config.d_rope))
        absorbed = (ups * length, per * (2 * config.d_latent + config.d_rope))
        fewer = min(expanded, absorbed, key=sum)
        projections, scores = projections + fewer[0], fewer[1]
    feed = _products(feed_forward_maps(config))
    if config.source_vocab:  # attention to the memory, and the encoder
        query, key, value, out = maps
        projections += _products([query, out]) * length + (_products([key, value]) + _products(maps)) * read
        scores += 4 * width * (length * source + read * read)
    return {
        "projections": config.layers * projections,
        "scores": config.layers * scores,
        "feed_forward": config.layers * feed * (length + read),
        "logits": 2 * config.d_model * (config.vocab or 0) * written,
    }
