"""What a page of the instructor's guide runs in: an empty folder, a plain shell, and a jail where there is one."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from attnkit.grading.jail import why_no_jail


def begin() -> None:
    """Go to an empty folder, which is gone when the kernel ends, and set the shell up for output that never differs.

    `$ISOLATION` is jail, or none where bubblewrap cannot run: a page is built wherever the book is.
    """
    folder = tempfile.TemporaryDirectory(prefix="attnkit-guide-")
    _FOLDERS.append(folder)
    os.chdir(folder.name)
    # The commands of this attnkit, and not those of another one on the path.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for name in ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):  # a kernel asks for colours; the page has none
        os.environ.pop(name, None)
    os.environ.update(
        COLUMNS="100", NO_COLOR="1", TERM="dumb", OMP_NUM_THREADS="1", ISOLATION="none" if why_no_jail() else "jail"
    )


# Kept until the kernel ends.
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
