"""How rotary encodings are stretched beyond the length they were trained on: each maps inverse frequencies to others.

A pair with inverse frequency f turns by f from a position to the next, and once around in a wavelength of 2 pi / f.
Each scaling is called with the inverse frequencies (float64), the base they came from, and the number of positions in
use, which only `DynamicNTK` looks at. They agree with `ROPE_INIT_FUNCTIONS` of Hugging Face Transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor


@no_type_check
@dataclass(frozen=True)
class Scaling:
    """What every scaling is: a factor of at least 1 by which the usable length grows, and a map of frequencies."""

    factor: float
    by_length: ClassVar[bool] = False  # do the frequencies depend on the number of positions in use?

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise ValueError(f"factor is {self.factor}; it must be 1 or more: the length grows by it")

    @property
    def magnitude(self) -> float:
        """What queries and keys are multiplied by, besides being turned."""
        return 1.0

    def __call__(self, inv_freq: Float[Tensor, " pairs"], base: float, length: int = 0) -> Float[Tensor, " pairs"]:
        """The scaled inverse frequencies."""
        raise NotImplementedError


@no_type_check
@dataclass(frozen=True)
class Linear(Scaling):
    """Position interpolation: every position is divided by the factor, and so every frequency.

    Extending Context Window of Large Language Models via Positional Interpolation (Chen et al. 2023, arXiv:2306.15595).
    """

    def __call__(self, inv_freq: Float[Tensor, " pairs"], base: float, length: int = 0) -> Float[Tensor, " pairs"]:
        return inv_freq / self.factor


@no_type_check
@dataclass(frozen=True)
class NTK(Scaling):
    """NTK-aware interpolation: the base grows to base * factor^(d / (d - 2)).

    The fastest pair keeps its frequency, which tells neighbours apart; the slowest is divided by the factor, as in
    position interpolation. Proposed by the user bloc97 on Reddit in 2023, written down in the YaRN paper
    (Peng et al. 2023, arXiv:2309.00071, section 3.1).
    """

    def __call__(self, inv_freq: Float[Tensor, " pairs"], base: float, length: int = 0) -> Float[Tensor, " pairs"]:
        return larger_base(inv_freq, self.factor)


@no_type_check
@dataclass(frozen=True)
class DynamicNTK(Scaling):
    """NTK-aware interpolation that begins beyond the trained length L: by factor * length / L - (factor - 1).

    The YaRN paper's "dynamic scaling" (arXiv:2309.00071, section 3.3), in the form of Hugging Face Transformers, where
    the factor says how fast the base grows. `length` is 1 + the greatest position of the call: keys that were turned
    in an earlier call (a cache of turned keys) keep the frequencies that held then.
    """

    trained_length: int
    by_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trained_length(self.trained_length)

    def __call__(self, inv_freq: Float[Tensor, " pairs"], base: float, length: int = 0) -> Float[Tensor, " pairs"]:
        if length <= self.trained_length:
            return inv_freq
        return larger_base(inv_freq, self.factor * length / self.trained_length - (self.factor - 1))


@no_type_check
@dataclass(frozen=True)
class YaRN(Scaling):
    """Interpolates the slow pairs, leaves the fast ones, blends between; and sharpens attention.

    YaRN: Efficient Context Window Extension of Large Language Models (Peng et al. 2023, arXiv:2309.00071, sections 3.2
    and 3.4). A pair is fast if it turns more than `beta_fast` times within the trained length, and slow below
    `beta_slow`. Queries and keys are multiplied by the attention factor, 0.1 ln(factor) + 1 unless given.

    - `mscale` and `mscale_all_dim`: DeepSeek's refinement, (0.1 mscale ln(factor) + 1) over the same of mscale_all_dim.
    - `truncate`: round the two bounds of the blend outwards to whole pairs, as published code does.
    """

    trained_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trained_length(self.trained_length)
        if not self.beta_fast > self.beta_slow > 0:
            raise ValueError(
                f"beta_fast is {self.beta_fast} and beta_slow {self.beta_slow}; both count turns within the trained "
                "length, so beta_fast must be greater, and beta_slow above 0"
            )

    @property
    def magnitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        numerator, denominator = (self.mscale, self.mscale_all_dim) if self.mscale and self.mscale_all_dim else (1, 0)
        return (0.1 * numerator * math.log(self.factor) + 1) / (0.1 * denominator * math.log(self.factor) + 1)

    def __call__(self, inv_freq: Float[Tensor, " pairs"], base: float, length: int = 0) -> Float[Tensor, " pairs"]:
        pairs = len(inv_freq)
        fast, slow = (self._pair_that_turns(beta, pairs, base) for beta in (self.beta_fast, self.beta_slow))
        if self.truncate:
            fast, slow = math.floor(fast), math.ceil(slow)
        fast, slow = max(fast, 0), min(slow, 2 * pairs - 1)
        slow += 0.001 if fast == slow else 0  # a step instead of a ramp
        index = torch.arange(pairs, dtype=inv_freq.dtype, device=inv_freq.device)
        interpolated = ((index - fast) / (slow - fast)).clamp(0, 1)
        return inv_freq / self.factor * interpolated + inv_freq * (1 - interpolated)

    def _pair_that_turns(self, times: float, pairs: int, base: float) -> float:
        """Which pair (a fraction, maybe) turns so often within the trained length: L base^(-i / pairs) = 2 pi times."""
        return pairs * math.log(self.trained_length / (times * 2 * math.pi)) / math.log(base)


@no_type_check
@dataclass(frozen=True)
class Llama3(Scaling):
    """Divides by the factor what is slow, leaves what is fast, blends between; bounds in turns per trained length.

    The Llama 3 Herd of Models (2024, arXiv:2407.21783) tells of the longer context; the rule is in the published code
    of Llama 3.1. A pair is slow if it turns fewer than `low_freq_factor` times within the trained length, and fast
    above `high_freq_factor`.
    """

    low_freq_factor: float
    high_freq_factor: float
    trained_length: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trained_length(self.trained_length)
        if not self.high_freq_factor > self.low_freq_factor > 0:
            raise ValueError(
                f"high_freq_factor is {self.high_freq_factor} and low_freq_factor {self.low_freq_factor}; both count "
                "turns within the trained length, so high_freq_factor must be greater, and low_freq_factor above 0"
            )

    def __call__(self, inv_freq: Float[Tensor, " pairs"], base: float, length: int = 0) -> Float[Tensor, " pairs"]:
        turns = self.trained_length * inv_freq / (2 * math.pi)
        kept = ((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)).clamp(0, 1)
        return inv_freq / self.factor * (1 - kept) + inv_freq * kept


def larger_base(inv_freq: Float[Tensor, " pairs"], growth: float) -> Float[Tensor, " pairs"]:
    """The inverse frequencies of base * growth^(d / (d - 2)), by which pair i is divided by growth^(2i / (d - 2))."""
    pairs = len(inv_freq)
    index = torch.arange(pairs, dtype=inv_freq.dtype, device=inv_freq.device)
    return inv_freq * growth ** -(index / max(pairs - 1, 1))


def check_trained_length(length: object) -> None:
    """ValueError when the length is none."""
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise ValueError(f"trained_length is {length!r}; it must be an integer of at least 1")
