"""Where do tokens stand? One encoding per file, behind one protocol (`Position`).

An encoding acts on the embedding (`OneHot`, `Learned`, `Sinusoidal`), on queries and keys (`Rotary`), or on the scores
(`Shaw`, `TransformerXL`, `T5`, `ALiBi`); those of the last two kinds know only distances.
"""

from attnkit.positions.base import Position
from attnkit.positions.learned import Learned
from attnkit.positions.rotary import Rotary, half_to_interleaved, interleaved_to_half
from attnkit.positions.rotary_scaling import NTK, DynamicNTK, Linear, Llama3, YaRN
from attnkit.positions.sinusoidal import Sinusoidal

__all__ = [
    "NTK",
    "DynamicNTK",
    "Learned",
    "Linear",
    "Llama3",
    "Position",
    "Rotary",
    "Sinusoidal",
    "YaRN",
    "half_to_interleaved",
    "interleaved_to_half",
]
