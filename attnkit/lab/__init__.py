"""What a student imports: `Lab("attention").check(softmax)`, with feedback that explains."""

from attnkit.lab.lab import Feedback, Lab
from attnkit.lab.picture import Heatmap

__all__ = ["Feedback", "Heatmap", "Lab"]
