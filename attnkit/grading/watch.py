"""`--watch`: grade what arrives in a folder. It looks again and again, and needs nothing of the file system for it.

A file is graded once it has stayed the same from one look to the next: one that is still being copied waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 2.0
# Size, time of change, inode.
Look = tuple[int, int, int]


@dataclass
class Watcher:
    """What has changed in a folder, and what has settled."""

    source: Path
    skip: tuple[Path, ...] = ()
    _seen: dict[Path, Look] = field(default_factory=dict)
    _done: dict[Path, Look] | None = None

    def look(self) -> list[Path] | None:
        """Look once. None when there is nothing to do, else the files that are still changing, to be left out.

        There is something to do when a file has settled that was not there before or was another, or is gone.
        """
        now = dict(self._files())
        moving = [path for path, look in now.items() if self._seen.get(path) != look]
        self._seen = now
        done = self._done or {}
        fresh = {path: look for path, look in now.items() if path not in moving and done.get(path) != look}
        kept = {path: look for path, look in done.items() if path in now}
        idle = not fresh and len(kept) == len(done) and (self._done is not None or moving)
        self._done = self._done if idle else {**kept, **fresh}
        return None if idle else moving

    def _files(self) -> Iterator[tuple[Path, Look]]:
        skipped = {path.resolve() for path in self.skip}
        if self.source.is_file():
            yield from self._file(self.source)
        for folder, folders, files in os.walk(self.source):
            folders[:] = [name for name in folders if (Path(folder) / name).resolve() not in skipped]
            for name in files:
                if (path := Path(folder) / name).resolve() not in skipped:
                    yield from self._file(path)

    def _file(self, path: Path) -> Iterator[tuple[Path, Look]]:
        try:
            status = path.lstat()
        except OSError:  # gone between the list and the look
            return
        yield path, (status.st_size, status.st_mtime_ns, status.st_ino)


def watch(watcher: Watcher, grade: Callable[[list[Path]], None], seconds: float) -> None:
    """Call `grade(files to leave out)` whenever something has settled, looking every `seconds`, until interrupted."""
    while True:
        moving = watcher.look()
        if moving is not None:
            grade(moving)
        time.sleep(seconds)
