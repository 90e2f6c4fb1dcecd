"""Text from a language model: greedy decoding, sampling and beam search, over any model that gives next-token logits.

>>> from attnkit.generation import Beam, Generated, Greedy, Sample, generate
"""

from attnkit.generation.beam import Beam
from attnkit.generation.filters import min_p, penalize_repetition, temperature, top_k, top_p
from attnkit.generation.generate import evaluating, generate
from attnkit.generation.greedy import Greedy, Stop, one_by_one
from attnkit.generation.prompts import Prompts, read_prompts
from attnkit.generation.protocol import LanguageModel
from attnkit.generation.result import Generated, Hypothesis
from attnkit.generation.sampling import Sample, draw
from attnkit.generation.stepper import Stepper

__all__ = [
    "Beam",
    "Generated",
    "Greedy",
    "Hypothesis",
    "LanguageModel",
    "Prompts",
    "Sample",
    "Stepper",
    "Stop",
    "draw",
    "evaluating",
    "generate",
    "min_p",
    "one_by_one",
    "penalize_repetition",
    "read_prompts",
    "temperature",
    "top_k",
    "top_p",
]
