"""Write the generated class into a folder, to see `attnkit grade` at work: `python -m tests.redteam.make_class DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.redteam.corpus import make_class


def main() -> None:
    """Make the class and print what each submission deserves."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.redteam.make_class DIR")
    folder = Path(sys.argv[1])
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"DIR: {folder} is not empty; name a new folder")
    for entry in make_class(folder):
        print(f"{entry.number}  {entry.total:4g} of 10  {entry.family:8} {entry.name}: {entry.why}")


if __name__ == "__main__":
    main()
