"""Builds the site: chapters executed, linted, written with warnings as errors; or a few pages for their author."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from filelock import FileLock

from attnkit.authoring.chapters import TOC, is_notebook, load_chapters, pages
from attnkit.authoring.execution import refresh
from attnkit.authoring.lint import lint
from attnkit.authoring.pagetext import directives
from attnkit.authoring.plain import label_homes
from attnkit.authoring.vendor import vendor

Say = Callable[[str], None]


class BuildError(RuntimeError):
    """The site could not be built; the message says what to do."""


def site_folder(root: Path) -> Path:
    """Where the built site lies."""
    return root / "_build" / "html"


def build(root: Path, jobs: int | None = None, force: bool = False, say: Say = print) -> Path:
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
        _stop_at(lint(root))
        say("writing pages")
        code, told = _run_jupyter_book(root, "-n", "-W", "--keep-going")
        if code:
            # The next build must meet the same warnings: Sphinx repeats them only for pages that it reads again.
            shutil.rmtree(root / "_build", ignore_errors=True)
            raise BuildError("jupyter-book stopped. Mend these and run attnkit book build again:\n" + "\n".join(told))
        stamp.write_text(key)
    return site_folder(root)


def build_only(root: Path, names: Sequence[str], jobs: int | None = None, say: Say = print) -> Path:
    """Build the pages `names` (as `book/idea/masks`) alone, into _build/only/html; for whoever writes them.

    A page need not be in _toc.yml yet. What points to a page outside the selection stays unresolved without complaint;
    every other warning is an error, as in the whole book.
    """
    names = [Path(name).with_suffix("").as_posix() for name in names]
    (root / ".cache").mkdir(exist_ok=True)
    toc, place = root / ".cache" / "only-toc.yml", root / "_build" / "only"
    listed = yaml.safe_load((root / TOC).read_text("utf-8"))
    first = names[0] if is_notebook(root / f"{listed['root']}.md") else listed["root"]  # a root with cells would run
    cited = ["book/references"] if (root / "book" / "references.md").is_file() else []
    chosen = [{"file": name} for name in dict.fromkeys([*names, *cited]) if name != first]
    with FileLock(root / ".cache" / "book.lock"):
        vendor(root)
        listed = {"format": "jb-book", "root": first} | ({"chapters": chosen} if chosen else {})
        toc.write_text(yaml.safe_dump(listed), "utf-8")
        wanted = [root / f"{name}.md" for name in names]
        chapters = [chapter for chapter in load_chapters(root, toc) if chapter.path in wanted]
        refresh(chapters, jobs=jobs, say=say)
        _stop_at(lint(root, chapters, pages=wanted))
        say("writing pages")
        shutil.rmtree(place, ignore_errors=True)
        code, told = _run_jupyter_book(root, "-n", "--keep-going", "--toc", str(toc), "--path-output", str(place))
        faults = [line for line in told if not _points_outside(line, root, wanted)]
        if code or faults:
            raise BuildError("Mend these and run attnkit book build --only again:\n" + "\n".join(faults or told))
    return place / "_build" / "html"


def _stop_at(faults: Sequence[str]) -> None:
    if faults:
        raise BuildError("The pages have faults:\n" + "\n".join(f"  {fault}" for fault in faults))


def _points_outside(line: str, root: Path, wanted: Sequence[Path]) -> bool:
    """Whether a warning is about another page, or about a link or citation to what is outside the selection."""
    about = re.match(r"(\S+?\.md)(?::\d+)?: ", line)
    if about and (root / about[1]).resolve() not in {path.resolve() for path in wanted}:
        return True
    target = re.search(
        r"(?:target not found|undefined label|nknown (?:source )?document|not found)[^'\"]*['\"]([^'\"]+)['\"]", line
    )
    if not target:
        return False
    path, _, label = target[1].partition("#")
    every = sorted((root / "book").rglob("*.md"))
    if (root / f"{path}.md").is_file():
        return True
    return (label or path) in label_homes(every) or any((base / path).exists() for base in {p.parent for p in every})


def _execute(root: Path, jobs: int | None, say: Say) -> None:
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
    """Changes whenever the site would: with pages, settings, assets, shown code, or the outputs of a chapter."""
    digest = hashlib.sha256()
    files = [root / name for name in ("_config.yml", TOC, "pyproject.toml")]
    files += [path for path in sorted((root / "book").rglob("*")) if path.is_file() and path.suffix != ".ipynb"]
    files += sorted((root / "attnkit" / "authoring").rglob("*.py"))
    files += [*sorted((root / "attnkit" / "viz").rglob("*.js")), *shown_files(root)]
    files += sorted((root / "labs").glob("*/*.ipynb"))  # offered for download
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for chapter in load_chapters(root):
        digest.update(chapter.key.encode())
    return digest.hexdigest()


def shown_files(root: Path) -> list[Path]:
    """The sources that pages show by literalinclude."""
    shown = {
        (page.parent / directive.argument).resolve()
        for page in pages(root)
        for directive in directives(page.read_text("utf-8"))
        if directive.name == "literalinclude"
    }
    return sorted(path for path in shown if path.is_file() and path.is_relative_to(root.resolve()))


def _run_jupyter_book(root: Path, *options: str) -> tuple[int, list[str]]:
    """Run it; return its exit status and what it warned of."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    result = subprocess.run(
        [*command, "build", str(root), *options],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    here = f"{root}/"
    said = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).splitlines()
    told = [line.replace(here, "") for line in said if "WARNING" in line or "ERROR" in line]
    if result.returncode and not told:
        told = said[-30:]
    return result.returncode, told


def page_names(root: Path) -> list[str]:
    """The path of each page below the site, as `book/idea/softmax.html`."""
    return [path.relative_to(root).with_suffix(".html").as_posix() for path in pages(root)]
