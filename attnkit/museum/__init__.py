"""The error museum: wrong code that runs, what it does, how it hides, and the smallest test that catches it.

>>> from attnkit.museum import visit
>>> print(visit("merge-without-permute").says)
a token was put together from the heads of other tokens

Each specimen is a class, registered by `@specimen`, in a module named after its room. `SPECIMENS` holds all of them by
slug, in the order of the tour.
"""

from __future__ import annotations

from attnkit.museum import (
    heads_project,
    heads_shape,
    masks_fill,
    masks_rule,
    model_layers,
    model_wiring,
    positions,
    scores_scale,
    scores_softmax,
    use_tests,
    use_training,
)
from attnkit.museum.base import HABITS, ROOMS, SPECIMENS, Specimen, arrange, find, specimen
from attnkit.museum.guide import Exhibit, directory, visit

__all__ = ["HABITS", "ROOMS", "SPECIMENS", "Exhibit", "Specimen", "directory", "find", "specimen", "visit"]

TOUR = (
    scores_softmax,
    scores_scale,
    masks_fill,
    masks_rule,
    heads_shape,
    heads_project,
    positions,
    model_layers,
    model_wiring,
    use_training,
    use_tests,
)
arrange([module.__name__ for module in TOUR])
