"""What a measurement is and how it is told: rows with goals, a table, and JSON that says where it came from."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One measured thing beside its peer.

    `ours` and `peer` hold the raw samples in `unit` (ms, s or MB); a peer that was not measured has a name that says
    so. With `against_peer` the goal bounds the ratio
    of the medians; without it the goal bounds our own median, and the peer is shown for comparison.
    """

    name: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str = ""
    unit: str = "ms"
    goal: float | None = None
    against_peer: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        if not self.ours:
            raise ValueError(f"ours: row {self.name!r} has no samples; it should have at least one")
        if self.against_peer and not self.peer:
            raise ValueError(f"peer: row {self.name!r} is against a peer but has no samples of it")

    @property
    def ratio(self) -> float | None:
        """Our median over the peer's: below 1 we are faster or smaller."""
        return statistics.median(self.ours) / statistics.median(self.peer) if self.peer else None

    @property
    def measured(self) -> float:
        """What the goal bounds: the ratio, or our median."""
        return self.ratio if self.against_peer and self.ratio is not None else statistics.median(self.ours)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None when there is none."""
        return None if self.goal is None else self.measured <= self.goal


@dataclass(frozen=True)
class Stamp:
    """The machine and the versions that a measurement belongs to."""

    command: str
    date: str
    python: str
    platform: str
    processor: str
    cores: int
    versions: dict[str, str] = field(default_factory=dict)


def stamp() -> Stamp:
    """Describe this machine, by what identifies a measurement and nothing that identifies its owner."""
    import numpy
    import torch

    import attnkit

    return Stamp(
        command=" ".join(["attnkit", *(Path(word).name for word in sys.argv[1:])]),  # without the owner's folders
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        versions={
            "attnkit": attnkit.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "transformers": version_of("transformers"),
            "threads": str(torch.get_num_threads()),
        },
    )


def version_of(package: str) -> str:
    """The installed version of a package, or "none"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def as_sentence(where: Stamp) -> str:
    """The stamp in a line, to stand above a table."""
    return f"{where.processor}, {where.cores} cores, torch {where.versions['torch']}, {where.date}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def as_json(rows: Sequence[Row], where: Stamp) -> str:
    """The rows with raw samples and the stamp."""
    entries: list[dict[str, Any]] = [
        {**asdict(row), "measured": row.measured, "ratio": row.ratio, "met": row.met} for row in rows
    ]
    return json.dumps({"schema": SCHEMA, "stamp": asdict(where), "rows": entries}, indent=1) + "\n"


def read_rows(path: Path) -> tuple[list[Row], Stamp]:
    """What `attnkit bench --out` wrote to `path`: the rows and the stamp."""
    told = json.loads(path.read_text("utf-8"))
    if told.get("schema") != SCHEMA:
        raise ValueError(f"path: {path} has schema {told.get('schema')!r}; it should be {SCHEMA}")
    derived = {"measured", "ratio", "met"}
    return [Row(**{k: v for k, v in row.items() if k not in derived}) for row in told["rows"]], Stamp(**told["stamp"])


def as_table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: median and half the interquartile range, the ratio, the goal and whether met."""
    lines = ["| what | ours | peer | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        goal = "" if row.goal is None else f"<= {row.goal:g}" + ("" if row.against_peer else f" {row.unit}")
        met = {None: "", True: "yes", False: "no"}[row.met]
        peer = f"{spread(row.peer, row.unit)} {row.peer_name}".strip() if row.peer else row.peer_name
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        lines.append(f"| {row.name} | {spread(row.ours, row.unit)} | {peer} | {ratio} | {goal} | {met} |")
    return "\n".join(lines)


def spread(samples: Sequence[float], unit: str) -> str:
    """`median ± half the interquartile range unit`."""
    middle = statistics.median(samples)
    if len(samples) < 4:
        return f"{middle:.3g} {unit}"
    low, _, high = statistics.quantiles(samples, n=4)
    return f"{middle:.3g} ± {(high - low) / 2:.2g} {unit}"
