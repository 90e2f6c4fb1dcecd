"""See `attnkit grade` at work on a generated class, honest, mistaken and hostile:

python -m tests.redteam.make_class DIR         writes the class into the new folder DIR
attnkit grade DIR --lab attention --out OUT    grades it
python -m tests.redteam.make_class DIR OUT     compares what each got with what it deserves
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from tests.redteam.corpus import Entry, corpus, make_class

FAMILIES = {
    "honest": "honest, in several styles and with mangled notebooks",
    "mistake": "with a mistake, blank, or not readable as Python",
    "hostile": "hostile: forging, escaping, exhausting, killing",
    "file": "no notebook, far too large, or a zip that wants out",
}


def write(folder: Path) -> None:
    """Make the class and print what each submission deserves."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"DIR: {folder} is not empty; name a new folder, or a second one with its grades")
    for entry in make_class(folder):
        print(f"{entry.number}  {entry.total:4g} of 10  {entry.family:8} {entry.name}: {entry.why}")


def read_points(*outs: Path) -> dict[Entry, dict[str, float]]:
    """What each submission of the class got, by question, from one folder of results or several."""
    rows: dict[str, dict[str, str]] = {}
    for out in outs:
        with (out / "grades.csv").open(newline="", encoding="utf-8-sig") as file:
            rows |= {row["student_id"]: row for row in csv.DictReader(file)}
    return {entry: {name: float(rows[entry.number][name]) for name in entry.deserved} for entry in corpus()}


def as_table(given: dict[Entry, dict[str, float]]) -> str:
    """Points deserved and given, by family of submissions."""
    lines = [
        "| submissions | how many | points deserved | points given | graded otherwise than deserved |",
        "|---|---|---|---|---|",
    ]
    for family, words in FAMILIES.items():
        entries = [entry for entry in given if entry.family == family]
        deserved = sum(entry.total for entry in entries)
        got = sum(sum(given[entry].values()) for entry in entries)
        wrong = [entry.name for entry in entries if given[entry] != entry.deserved]
        lines.append(f"| {words} | {len(entries)} | {deserved:g} | {got:g} | {', '.join(wrong) or 'none'} |")
    return "\n".join(lines)


def compare(out: Path) -> None:
    """Print the table; exit code 1 when any submission got other points than it deserves."""
    given = read_points(out)
    print(as_table(given))
    sys.exit(any(points != entry.deserved for entry, points in given.items()))


def main() -> None:
    """The command line."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    compare(Path(sys.argv[2])) if len(sys.argv) == 3 else write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
