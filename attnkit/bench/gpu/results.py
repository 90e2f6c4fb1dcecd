"""What was found on a GPU: each contender's samples in each case, or why it has none; kept as stamped JSON."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnkit.bench.gpu.cases import Case
from attnkit.bench.gpu.origin import kernel_hash
from attnkit.bench.gpu.timing import COPY, MATMUL, Anchor
from attnkit.bench.report import Stamp

SCHEMA = 1
KIND = "attention on a GPU"
FOLDER = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True)
class Entry:
    """One contender in one case: samples in ms, or the `reason` why it was not timed.

    `error` is its largest error as a share of what is allowed, None where it gave no result. `first` is how many
    seconds its first call took, compilation included.
    """

    case: Case
    contender: str
    samples: tuple[float, ...] = ()
    reason: str = ""
    error: float | None = None
    first: float | None = None

    @property
    def median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.samples)


@dataclass
class Results:
    """A whole run. `left` names the cases it did not come to, `stopped` says why; both grow while it runs."""

    stamp: Stamp
    told: dict[str, str]
    anchors: list[Anchor] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    stopped: str = ""

    def cases(self) -> list[Case]:
        """The cases measured, in order."""
        return list(dict.fromkeys(entry.case for entry in self.entries))

    def find(self, case: Case, contender: str) -> Entry | None:
        """The entry of a contender in a case, timed or not."""
        return next((e for e in self.entries if e.case == case and e.contender == contender), None)

    def timed(self, case: Case, *names: str) -> list[Entry]:
        """Those of the named contenders that have samples in a case."""
        found = (self.find(case, name) for name in names)
        return [entry for entry in found if entry is not None and entry.samples]

    def rate(self, anchor: str) -> float | None:
        """TFLOPS or TB/s of an anchor, from all samples before and after the cases; None when there are none."""
        same = [one for one in self.anchors if one.name.startswith(anchor)]
        if not same:
            return None
        return Anchor(anchor, same[0].amount, tuple(x for one in same for x in one.samples)).rate

    @property
    def matmul(self) -> float | None:
        return self.rate(MATMUL)

    @property
    def copy(self) -> float | None:
        return self.rate(COPY)

    @property
    def stale(self) -> bool:
        """Were the kernels changed since?"""
        return self.told.get("kernels") != kernel_hash()


def as_json(results: Results) -> str:
    """Everything, with raw samples."""
    told: dict[str, Any] = {"schema": SCHEMA, "kind": KIND, **asdict(results)}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def write(results: Results, path: Path) -> None:
    """Write it whole or not at all: a run may be cut short while it writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(as_json(results), "utf-8")
    os.replace(part, path)


def read(path: Path) -> Results:
    """What `write` wrote. Raises ValueError for another kind of file."""
    told = json.loads(path.read_text("utf-8"))
    if (told.get("kind"), told.get("schema")) != (KIND, SCHEMA):
        found = f"{told.get('kind')!r} with schema {told.get('schema')!r}"
        raise ValueError(f"path: {path} holds {found}; it should be {KIND!r} with schema {SCHEMA}")
    return Results(
        stamp=Stamp(**told["stamp"]),
        told=told["told"],
        anchors=[Anchor(x["name"], x["amount"], tuple(x["samples"])) for x in told["anchors"]],
        entries=[Entry(**x | {"case": Case(**x["case"]), "samples": tuple(x["samples"])}) for x in told["entries"]],
        left=told["left"],
        stopped=told["stopped"],
    )


def kept(folder: Path | None = None) -> dict[Path, Results]:
    """The measurements of GPUs in a folder, FOLDER unless said; those of a CPU lie beside them and are left out."""
    paths = sorted((folder or FOLDER).glob("*.json"))
    return {path: read(path) for path in paths if json.loads(path.read_text("utf-8")).get("kind") == KIND}
