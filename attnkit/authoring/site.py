"""Builds the site: lint, twins in step, chapters executed, pages written with warnings as errors."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from attnkit.authoring.chapters import load_chapters, pages
from attnkit.authoring.execution import refresh
from attnkit.authoring.lint import lint
from attnkit.authoring.vendor import vendor

Say = Callable[[str], None]


class BuildError(RuntimeError):
    """The site could not be built; the message says what to do."""


def site_folder(root: Path) -> Path:
    """Where the built site lies."""
    return root / "_build" / "html"


def build(root: Path, jobs: int = 2, force: bool = False, say: Say = print) -> Path:
    """Build what changed and return the folder of the site. Safe to call from several processes at once."""
    (root / ".cache").mkdir(exist_ok=True)
    with FileLock(root / ".cache" / "book.lock"):
        vendor(root)
        stamp, key = root / ".cache" / "site.key", site_key(root)
        if not force and stamp.is_file() and stamp.read_text() == key and (site_folder(root) / "index.html").is_file():
            say("the site is up to date")
            return site_folder(root)
        stamp.unlink(missing_ok=True)
        if force:
            shutil.rmtree(root / "_build", ignore_errors=True)
            shutil.rmtree(root / ".cache" / "chapters", ignore_errors=True)
        _execute(root, jobs, say)
        faults = lint(root)
        if faults:
            raise BuildError("The pages have faults:\n" + "\n".join(f"  {fault}" for fault in faults))
        say("writing pages")
        _run_jupyter_book(root)
        stamp.write_text(key)
    return site_folder(root)


def _execute(root: Path, jobs: int, say: Say) -> None:
    """Execute what changed; once more if somebody saved a file meanwhile."""
    for _ in range(3):
        chapters = load_chapters(root)
        stale = sum(not chapter.is_current for chapter in chapters)
        if not stale:
            return
        say(f"executing {stale} of {len(chapters)} chapters")
        refresh(chapters, jobs=jobs, say=say)
    if not all(chapter.is_current for chapter in load_chapters(root)):
        raise BuildError("The sources keep changing while the chapters run. Run attnkit book build when they rest.")


def site_key(root: Path) -> str:
    """Changes whenever the site would: with pages, settings, assets, attnkit, or the outputs of a chapter."""
    digest = hashlib.sha256()
    files = [root / name for name in ("_config.yml", "_toc.yml", "pyproject.toml")]
    files += [path for path in sorted((root / "book").rglob("*")) if path.is_file() and path.suffix != ".ipynb"]
    files += sorted((root / "attnkit" / "authoring").rglob("*.py"))
    files += sorted((root / "labs").glob("*/*.ipynb"))  # offered for download
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for chapter in load_chapters(root):
        digest.update(chapter.key.encode())
    return digest.hexdigest()


def _run_jupyter_book(root: Path) -> None:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    result = subprocess.run(
        [*command, "build", str(root), "-n", "-W", "--keep-going"],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if result.returncode:
        # The next build must meet the same warnings: Sphinx repeats them only for pages that it reads again.
        shutil.rmtree(root / "_build", ignore_errors=True)
        told = [line for line in result.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
        raise BuildError(
            "jupyter-book stopped. Mend these and run attnkit book build again:\n"
            + "\n".join(told or result.stdout.splitlines()[-30:])
        )


def page_names(root: Path) -> list[str]:
    """The path of each page below the site, as `book/idea/softmax.html`."""
    return [path.relative_to(root).with_suffix(".html").as_posix() for path in pages(root)]
