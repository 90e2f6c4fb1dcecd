"""Attention that is not the scaled dot product of the base model.

additive           scores by a small network (Bahdanau et al. 2015)
kernel_regression  scores by distance (Nadaraya 1964, Watson 1964)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnkit._lazy import on_first_use

# At once, not on first use: it shares its name with its module, which would else stand in its place.
from attnkit.variants.kernel_regression import kernel_regression

if TYPE_CHECKING:
    from attnkit.variants.additive import AdditiveAttention

__all__ = ["AdditiveAttention", "kernel_regression"]

# Where each other name lives. Loaded on first use.
_HOMES = {"AdditiveAttention": "additive"}

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
