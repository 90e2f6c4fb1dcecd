"""Config: the numbers that a stack of layers is built from, checked where they are written down."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NoReturn, Self, no_type_check

from attnkit import backends

Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu"]
Norm = Literal["layer", "rms"]

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu")
NORMS = ("layer", "rms")


# Values are checked by hand, since whoever writes a configuration deserves better than a type checker's message.
@no_type_check
@dataclass(frozen=True, kw_only=True)
class Config:
    """What the layers of a Transformer are made of; the defaults are the base model of arXiv:1706.03762.

    - `d_model`: width of the vectors between the layers. `d_hidden`: width inside the feed-forward.
    - `heads`, `kv_heads` (None: as many as heads), `d_head` (None: d_model / heads), `qk_norm`: see MultiHeadAttention.
    - `layers`: how many layers a stack has.
    - `activation`: "relu", "gelu" (exact), "gelu_tanh", "silu", or gated: "swiglu", "geglu".
    - `norm`: "layer" or "rms", with `eps` under its root. `norm_first`: normalise what goes into a sub-layer (pre-norm)
      instead of what comes out of the sum (post-norm, as in the paper).
    - `bias`: whether projections and layer norms add a bias.
    - `dropout`: on what a sub-layer adds to the stream, and inside the feed-forward. `attention_dropout`: on the
      attention weights (None: as `dropout`).
    - `backend`: who computes attention, see `attnkit.attention`.

    Subclasses add fields, and checks in `__post_init__`. Raises ValueError or TypeError naming the field.

    >>> from attnkit.nn import Config
    >>> Config(d_model=512, heads=7)
    Traceback (most recent call last):
        ...
    ValueError: Config: heads is 7; it must divide d_model = 512, or d_head must be given
    >>> Config.from_dict({"d_modle": 64})
    Traceback (most recent call last):
        ...
    ValueError: Config has no field 'd_modle'; did you mean 'd_model'?
    """

    d_model: int = 512
    heads: int = 8
    kv_heads: int | None = None
    d_head: int | None = None
    d_hidden: int = 2048
    layers: int = 6
    activation: Activation = "relu"
    norm: Norm = "layer"
    eps: int | float = 1e-5
    norm_first: bool = True
    bias: bool = True
    qk_norm: bool = False
    dropout: int | float = 0.0
    attention_dropout: int | float | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in ("d_model", "heads", "d_hidden", "layers"):
            self.check_count(name)
        for name in ("kv_heads", "d_head"):
            self.check_count(name, optional=True)
        if self.d_head is None and self.d_model % self.heads:
            self.refuse("heads", f"divide d_model = {self.d_model}, or d_head must be given")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            self.refuse("kv_heads", f"divide heads = {self.heads}")
        self.check_choice("activation", ACTIVATIONS)
        self.check_choice("norm", NORMS)
        self.check_choice("backend", ("auto", *backends.ORDER))
        for name in ("norm_first", "bias", "qk_norm"):
            self.check_choice(name, (True, False))
        if not _is_number(self.eps) or not 0 < self.eps < math.inf:
            self.refuse("eps", "be a number above 0")
        self.check_probability("dropout")
        self.check_probability("attention_dropout", optional=True)

    def refuse(self, name: str, need: str) -> NoReturn:
        """Raise the error of a field that is not what it `must` be."""
        raise ValueError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; it must {need}")

    def check_count(self, name: str, *, optional: bool = False) -> None:
        """The field is a whole number of at least 1 (or None, where that means something)."""
        value = getattr(self, name)
        if optional and value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(name, "be a whole number of at least 1" + (", or None" if optional else ""))

    def check_choice(self, name: str, choices: tuple) -> None:
        """The field is one of the choices, which are of one type."""
        value = getattr(self, name)
        if not isinstance(value, type(choices[0])) or value not in choices:
            self.refuse(name, f"be one of {', '.join(map(repr, choices))}")

    def check_probability(self, name: str, *, optional: bool = False) -> None:
        """The field is at least 0 and below 1 (or None, where that means something)."""
        value = getattr(self, name)
        if optional and value is None:
            return
        if not _is_number(value) or not 0 <= value < 1:
            self.refuse(name, "be a probability of at least 0 and below 1" + (", or None" if optional else ""))

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` described. ValueError for a name that is no field."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
                raise ValueError(f"{cls.__name__} has no field {name!r}; {hint}")
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
