"""Which key may each query attend to? One small class per answer; `&`, `|` and `~` compose them.

A mask is a rule, not a table: it is asked about single positions (`rule`), about a tile of the score matrix
(`tile`), or whether a tile is fully visible, fully hidden or mixed (`cover`), so a backend that works tile by tile
never holds a (q_len, k_len) table, and skips the tiles in which nothing is visible.

In the drawings queries run down, keys run right, `#` is visible and `.` hidden.
"""

from attnkit.masks.base import And, Cover, Mask, Not, Or, Sizes
from attnkit.masks.content import Dense, Document, Padding, Prefix
from attnkit.masks.pattern import Blocked, Global, RandomKeys, Strided
from attnkit.masks.position import Align, Causal, Window

__all__ = [
    "Align",
    "And",
    "Blocked",
    "Causal",
    "Cover",
    "Dense",
    "Document",
    "Global",
    "Mask",
    "Not",
    "Or",
    "Padding",
    "Prefix",
    "RandomKeys",
    "Sizes",
    "Strided",
    "Window",
]
