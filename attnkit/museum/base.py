"""What a specimen is, and the register of all of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# The arguments and the result of attention, as annotations that fit on a line.
Query = Float[Tensor, "batch heads q_len d"]
Key = Float[Tensor, "batch heads k_len d"]
Value = Float[Tensor, "batch heads k_len d_v"]
Out = Float[Tensor, "batch heads q_len d_v"]

# What a tester does who catches them: each specimen names the one that catches it.
HABITS = (
    "go to extremes",
    "let no two sizes be equal",
    "ask who hears of whom",
    "set one thing to zero",
    "compare the parts with the whole",
    "state the law",
    "know one answer beforehand",
    "move it, save it, count it",
    "break it on purpose",
)
ROOMS = ("scores", "masks", "heads", "positions", "model", "use")


@dataclass(frozen=True)
class Specimen:
    """One error. `wrong` and `right` take the same arguments; the other three take either of the two.

    - `does(f)`: what f computes on telling inputs, as {what: how it is shown}.
    - `hides(f)`: a plausible check that both pass.
    - `catches(f)`: the smallest test that `right` passes and `wrong` fails. Its message names the invariant.
    - `story`: what is wrong, and why somebody writes it. `seen`: where it was met.
    - `chapter`: where the book explains it, as `page` or `page#label`, below `book/`. `habit`: the one of HABITS that
      catches it.
    """

    slug: str
    title: str
    room: str
    seen: tuple[str, ...]
    chapter: str
    habit: str
    story: str
    home: type
    wrong: Callable[..., Any]
    right: Callable[..., Any]
    does: Callable[[Callable[..., Any]], dict[str, str]]
    hides: Callable[[Callable[..., Any]], None]
    catches: Callable[[Callable[..., Any]], None]

    @property
    def checks(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """The check that it passes, and the one that it fails."""
        return self.hides, self.catches

    @property
    def plausible(self) -> str:
        """The check that it passes, in a line."""
        return first_line(self.hides)

    @property
    def invariant(self) -> str:
        """What the test that catches it asks for, in a line."""
        return first_line(self.catches)

    def complaint(self, f: Callable[..., Any]) -> str | None:
        """What the catching test says of f: None when f passes."""
        return verdict(self.catches, f)


SPECIMENS: dict[str, Specimen] = {}


def specimen(
    *, slug: str, title: str, room: str, seen: Iterable[str], chapter: str, habit: str
) -> Callable[[type], type]:
    """Class decorator: register the class's `wrong`, `right`, `does`, `hides` and `catches`, all static methods.

    Raises ValueError for a slug that is taken, a room that is none, or a part that is missing.
    """
    if slug in SPECIMENS:
        raise ValueError(f"slug is {slug!r}, which {SPECIMENS[slug].title!r} has already; it must be new")
    if room not in ROOMS:
        raise ValueError(f"room is {room!r}; it must be one of {', '.join(map(repr, ROOMS))}")

    if habit not in HABITS:
        raise ValueError(f"habit is {habit!r}; it must be one of {', '.join(map(repr, HABITS))}")

    def register(home: type) -> type:
        names = ("wrong", "right", "does", "hides", "catches")
        missing = [name for name in names if not callable(getattr(home, name, None))]
        if missing:
            raise ValueError(f"{home.__name__} has no {missing[0]}; a specimen needs {', '.join(names)}")
        parts = {name: getattr(home, name) for name in names}
        story = inspect.getdoc(home) or ""
        SPECIMENS[slug] = Specimen(slug, title, room, tuple(seen), chapter, habit, story, home, **parts)
        return home

    return register


def arrange(homes: Sequence[str]) -> None:
    """Put the register into the order of these modules."""
    tour = sorted(SPECIMENS.values(), key=lambda specimen: homes.index(specimen.home.__module__))
    SPECIMENS.clear()
    SPECIMENS.update({specimen.slug: specimen for specimen in tour})


def find(slug: str) -> Specimen:
    """The specimen of this slug. ValueError, with the nearest slugs, when there is none."""
    if slug not in SPECIMENS:
        near = difflib.get_close_matches(str(slug), SPECIMENS, n=3, cutoff=0.4)
        near = near or [name for name in SPECIMENS if str(slug) in name or name.split("-")[0] in str(slug)]
        hint = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(SPECIMENS)}"
        raise ValueError(f"slug is {slug!r}, which no specimen has; {hint}")
    return SPECIMENS[slug]


def verdict(check: Callable[[Callable[..., Any]], None], f: Callable[..., Any]) -> str | None:
    """None when f passes the check, else what the check says. Other errors than a failed assertion go through."""
    try:
        check(f)
    except AssertionError as error:
        return str(error)
    return None


def first_line(f: Callable[..., Any]) -> str:
    """The first line of a docstring, without its full stop."""
    return (inspect.getdoc(f) or "").partition("\n")[0].rstrip(".")


# Small tools that specimens share.


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def row(values: Tensor | Iterable[Any], digits: int = 2) -> str:
    """Numbers in a line, as a table shows them."""
    listed = values.flatten().tolist() if isinstance(values, Tensor) else [float(x) for x in values]
    return " ".join(f"{round(x, digits) + 0.0:.{digits}f}" for x in listed)


def softmax(scores: Float[Tensor, "*rows keys"]) -> Float[Tensor, "*rows keys"]:
    """The right one: e^(s - max s), over its sum, in each row."""
    return torch.softmax(scores, dim=-1)
