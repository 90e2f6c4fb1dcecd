"""Where do tokens stand? One encoding per file, behind one protocol (`Position`).

| encoding        | acts on        | learns       | beyond the trained length            |
|-----------------|----------------|--------------|--------------------------------------|
| `OneHot`        | embedding      |              | an error: there is no unit vector    |
| `Learned`       | embedding      | a table      | an error: the table ends             |
| `Sinusoidal`    | embedding      |              | defined                              |
| `Rotary`        | query, key     |              | defined, or stretched by a `scaling` |
| `Shaw`          | scores, output | 1-2 tables   | all far distances are one            |
| `TransformerXL` | scores         | W_R, u, v    | defined                              |
| `T5`            | scores         | a table      | all far distances are one            |
| `ALiBi`         | scores         |              | what it was made for                 |

Those that act on queries and keys or on the scores know distances only, not places.
`LinearBias` is what ALiBi adds to the scores, told by its slopes, for `attention(bias=...)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnkit._lazy import on_first_use

if TYPE_CHECKING:
    from attnkit.positions.alibi import ALiBi, alibi_slopes
    from attnkit.positions.base import Place, Position
    from attnkit.positions.learned import Learned
    from attnkit.positions.linear_bias import LinearBias
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
    "LinearBias",
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

# Where each name lives. Loaded on first use.
_HOMES = {
    "ALiBi": "alibi",
    "DynamicNTK": "rotary_scaling",
    "Learned": "learned",
    "Linear": "rotary_scaling",
    "LinearBias": "linear_bias",
    "Llama3": "rotary_scaling",
    "NTK": "rotary_scaling",
    "OneHot": "one_hot",
    "Place": "base",
    "Position": "base",
    "Rotary": "rotary",
    "Scaling": "rotary_scaling",
    "Shaw": "shaw",
    "Sinusoidal": "sinusoidal",
    "T5": "t5",
    "TransformerXL": "transformer_xl",
    "YaRN": "rotary_scaling",
    "alibi_slopes": "alibi",
    "half_to_interleaved": "rotary",
    "interleaved_to_half": "rotary",
    "relative_shift": "transformer_xl",
    "t5_bucket": "t5",
}

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
