"""Where do tokens stand? One encoding per file, behind one protocol (`Position`).

An encoding acts on the embedding (`OneHot`, `Learned`, `Sinusoidal`), on queries and keys (`Rotary`), or on the scores
(`Shaw`, `TransformerXL`, `T5`, `ALiBi`); those of the last two kinds know only distances.
"""

from attnkit.positions.alibi import ALiBi, alibi_slopes
from attnkit.positions.base import Place, Position
from attnkit.positions.learned import Learned
from attnkit.positions.one_hot import OneHot
from attnkit.positions.rotary import Rotary, half_to_interleaved, interleaved_to_half
from attnkit.positions.rotary_scaling import NTK, DynamicNTK, Linear, Llama3, Scaling, YaRN
from attnkit.positions.shaw import Shaw
from attnkit.positions.sinusoidal import Sinusoidal
from attnkit.positions.t5 import T5, t5_bucket
from attnkit.positions.transformer_xl import TransformerXL, relative_shift

__all__ = [
    "NTK",
    "T5",
    "ALiBi",
    "DynamicNTK",
    "Learned",
    "Linear",
    "Llama3",
    "OneHot",
    "Place",
    "Position",
    "Rotary",
    "Scaling",
    "Shaw",
    "Sinusoidal",
    "TransformerXL",
    "YaRN",
    "alibi_slopes",
    "half_to_interleaved",
    "interleaved_to_half",
    "relative_shift",
    "t5_bucket",
]
