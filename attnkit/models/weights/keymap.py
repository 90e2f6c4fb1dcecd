"""Which tensor of a file fills which parameter of a model, with nothing left over on either side.

A family's `KeyMap` is two tables of names, ours to theirs: one for a layer, one for the rest of the model. All else is
bookkeeping: every parameter is filled, every tensor is used exactly once or is spare for a stated reason, and every
shape fits, or one error lists what does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from attnkit.models.weights.files import FLOATS, Tensors


@dataclass(frozen=True, kw_only=True)
class KeyMap:
    """One family's names. Where several of ours name the same one of theirs, its rows are cut into as many parts.

    - `layer`, `rest`: tables of modules or single parameters, ours to theirs.
    - `layers`: what stands before the number of a layer: ours, theirs.
    - `own`: begins our names and not those of the tables (`bert.` where a head stands on a BERT).
    - `prefix`: begins their names in some files and not in others, so it is dropped.
    - `shaped`: by the name of their tensor (inside its layer), what turns it into ours.
    - `old`: endings that early files spelled differently.
    - `tied`: their tensors that may be there a second time under another name; both must then be equal.
    - `spare`: patterns of tensors that the model has no use for, and why.
    """

    layer: Mapping[str, str]
    rest: Mapping[str, str]
    layers: tuple[str, str]
    own: str = ""
    prefix: str = ""
    shaped: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    old: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    spare: Mapping[str, str] = field(default_factory=dict)

    def plain(self, name: str) -> str:
        """Their name, without what differs from file to file."""
        stem, dot, ending = name.removeprefix(self.prefix).rpartition(".")
        return f"{stem}{dot}{self.old.get(ending, ending)}"

    def place(self, name: str) -> Place:
        """Where our parameter is found among their tensors."""
        ours, theirs = self.layers
        inside = name.removeprefix(self.own)
        at = re.fullmatch(rf"{re.escape(ours)}\.(\d+)\.(.+)", inside)
        table, inside, start = (self.layer, at[2], f"{theirs}.{at[1]}.") if at else (self.rest, inside, "")
        module, _, ending = inside.rpartition(".")
        entry, ending = (inside, "") if inside in table else (module, f".{ending}")
        if entry not in table:
            raise LookupError(f"the key map has no entry for {name}")
        siblings = [own for own, their in table.items() if their == table[entry]]
        theirs = f"{table[entry]}{ending}"
        return Place(f"{start}{theirs}", siblings.index(entry), len(siblings), self.shaped.get(theirs, _as_it_is))

    def spared(self, key: str) -> bool:
        """Is this a tensor that the model has no use for?"""
        return any(re.fullmatch(pattern, key) for pattern in self.spare)


@dataclass(frozen=True)
class Place:
    """Part number `part` of `parts` of their tensor `key`, once it has been through `shape`."""

    key: str
    part: int
    parts: int
    shape: Callable[[Tensor], Tensor]

    def of(self, tensor: Tensor) -> Tensor:
        """What fills our parameter."""
        return self.shape(tensor).chunk(self.parts)[self.part]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


class Same(KeyMap):
    """Our own format: each parameter under its own name."""

    def __init__(self) -> None:
        super().__init__(layer={}, rest={}, layers=("", ""))

    def place(self, name: str) -> Place:
        """Each parameter is itself."""
        return Place(name, 0, 1, _as_it_is)


def fill(model: nn.Module, tensors: Tensors, keys: KeyMap, fresh: tuple[str, ...] = ()) -> None:
    """Copy every tensor to its place, or raise one ValueError that lists what is missing, left over or misshapen.

    The modules named in `fresh` keep their initial value, whatever the file has for them.
    """
    parameters = dict(model.named_parameters())
    new = {name for name in parameters if any(f"{name}.".startswith(f"{module}.") for module in fresh)}
    unknown = [module for module in fresh if not any(f"{name}.".startswith(f"{module}.") for name in new)]
    if unknown:
        raise ValueError(f"fresh names {', '.join(unknown)}; {type(model).__name__} has no such module")
    places = {name: keys.place(name) for name in parameters}
    theirs, problems = _named(tensors, keys)
    wanted: dict[str, list[str]] = {}
    for name in parameters:
        if name not in new:
            wanted.setdefault(places[name].key, []).append(name)
    known = {place.key for place in places.values()} | keys.tied.keys()
    left_over = [name for key, name in theirs.items() if not (key in known or keys.spared(key))]
    missing = [f"{key} (for {', '.join(names)})" for key, names in wanted.items() if key not in theirs]
    problems += _listed("missing", missing) + _listed("left over", left_over)
    there = {name: theirs[key] for key, names in wanted.items() if key in theirs for name in names}
    problems += _listed("misshapen", _misshapen(parameters, places, there, tensors))
    if missing:
        problems.append("  (a module that the file lacks for good reason, as a new head, can be named in fresh=)")
    if problems:
        raise ValueError(f"{tensors.source} does not fit {type(model).__name__}:\n" + "\n".join(problems))
    _check_tied(tensors, keys, theirs)
    with torch.no_grad():
        for key, names in wanted.items():
            tensor = tensors.read(theirs[key])
            for name in names:
                parameters[name].copy_(places[name].of(tensor))


def _named(tensors: Tensors, keys: KeyMap) -> tuple[dict[str, str], list[str]]:
    """Plain name to name in the file; a tied tensor stands in for its other half where that is not there."""
    theirs: dict[str, str] = {}
    twice = []
    for name in tensors.names():
        if (key := keys.plain(name)) in theirs:
            twice.append(f"{theirs[key]} and {name}")
        theirs[key] = name
    for copy, original in keys.tied.items():
        if copy in theirs and original not in theirs:
            theirs[original] = theirs.pop(copy)
    return theirs, _listed("there twice", twice)


def _misshapen(parameters: dict, places: dict[str, Place], there: dict[str, str], tensors: Tensors) -> list[str]:
    """The tensors whose shape is not what the model needs, with both shapes, or which are no plain numbers."""
    wrong = []
    for name, their_name in there.items():
        shape, needed = tensors.shape(their_name), tuple(parameters[name].shape)
        try:
            found = tuple(places[name].of(torch.empty(shape, device="meta")).shape)
        except (RuntimeError, IndexError):  # of another rank, or of fewer rows than parts
            found = None
        if found != needed:
            seen = "" if found in (None, shape) else f", {found} as {name}"
            wrong.append(f"{their_name} has shape {shape}{seen}; {name} needs {needed}")
        if tensors.kind(their_name) not in FLOATS:
            wrong.append(f"{their_name} holds {tensors.kind(their_name)}; {name} needs one of {', '.join(FLOATS)}")
    return wrong


def _check_tied(tensors: Tensors, keys: KeyMap, theirs: dict[str, str]) -> None:
    """A tensor that is there twice because it is tied must be the same twice: only one of the two is used."""
    for copy, original in keys.tied.items():
        if copy in theirs and original in theirs:
            first, second = (tensors.read(theirs[key]) for key in (copy, original))
            if not torch.equal(first, second):
                raise ValueError(
                    f"{tensors.source}: {theirs[copy]} differs from {theirs[original]}, "
                    "though config.json says that the two are tied"
                )


def _listed(what: str, names: list[str], most: int = 20) -> list[str]:
    """One paragraph of the error, or none."""
    if not names:
        return []
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return [f"  {what} ({len(names)}):", *(f"    {name}" for name in [*names[:most], *more])]
