"""What of this machine a worker sees: the system's programs and libraries, the interpreter, NumPy, torch, einops.

An allow-list: of each tree only the folders that programs and libraries lie in. So a course folder that lies beside
them (an environment made in the course folder, another environment of the same conda, a clone below /usr/local)
is not there to begin with. attnkit itself is hidden wherever it is installed: its references are the answers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse

PARTS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "pyvenv.cfg")
SYSTEM = (Path("/usr"), Path("/usr/local"))
# Where Debian's alternatives and the dynamic loader look libraries up.
LOOKUPS = (Path("/etc/alternatives"), Path("/etc/ld.so.cache"))
# Here a library is a folder of its own, and each names others: all or none.
STORES = (Path("/nix/store"), Path("/gnu/store"))
_PACKAGE = Path(__file__).resolve().parents[1]


def library_folders() -> list[Path]:
    """Folders and files that a worker must see, none within another; nothing below a folder that is not listed."""
    interpreter = Path(sys.executable).resolve()
    bases = [*SYSTEM, Path(sys.base_prefix), Path(sys.prefix), interpreter.parent.parent]
    wanted = [base.resolve() / part for base in bases if base != Path("/") for part in PARTS]
    wanted += [*package_folders(), *LOOKUPS, *(store for store in STORES if interpreter.is_relative_to(store))]
    found: list[Path] = []
    for path in sorted({path.resolve() for path in wanted if path.exists()}, key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return found


def links(shown: Iterable[Path]) -> dict[Path, str]:
    """Symbolic links outside the `shown` folders that lead to the interpreter or the libraries, with their targets."""
    bases = (Path(sys.prefix), Path(sys.base_prefix), *SYSTEM, Path("/"))
    waiting = [Path(sys.executable), *(base / part for base in bases for part in PARTS)]
    found: dict[Path, str] = {}
    while waiting:
        path = waiting.pop()
        for depth in range(1, len(path.parts)):
            link = Path(*path.parts[: depth + 1])
            if link.is_symlink() and link not in found:
                target = os.readlink(link)
                waiting.append(Path(os.path.normpath(link.parent / target), *path.parts[depth + 1 :]))
                found[link] = target
                break
    return {link: to for link, to in found.items() if not any(link.is_relative_to(folder) for folder in shown)}


def package_folders() -> list[Path]:
    """The site-packages folders that NumPy and torch are imported from."""
    folders = []
    for name in ("numpy", "torch", "einops"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            folders.append(Path(spec.origin).resolve().parents[1])
    return sorted(set(folders))


def hidden_folders(shown: Iterable[Path]) -> list[Path]:
    """Folders that no worker may see, even inside a folder that it does: every attnkit, and a clone's sources."""
    sites = dict.fromkeys((*package_folders(), *(site for path in shown for site in _sites(path))))
    packages = [_PACKAGE, *(site / "attnkit" for site in sites), *(Path(entry) / "attnkit" for entry in sys.path)]
    clones = [_PACKAGE.parent, *(clone for site in sites for clone in _editable(site))]
    for clone in clones:
        if (clone / "pyproject.toml").is_file():
            packages += [clone / name for name in ("attnkit", "labs", "book", "tests")]
    return sorted({package.resolve() for package in packages if package.is_dir()})


def _sites(folder: Path) -> list[Path]:
    """The package folders of every Python in `folder` (a lib, or a tree of them)."""
    if not folder.is_dir() or folder in STORES:
        return []
    found = [folder] if folder.name.endswith("-packages") else []
    for depth in ("", "python*/", "lib*/python*/", "*/lib*/python*/"):
        found += [site for site in folder.glob(f"{depth}*-packages") if site.is_dir()]
    return found


def _editable(site: Path) -> list[Path]:
    """The sources of an attnkit that is installed in `site` by reference (PEP 610)."""
    found = []
    for record in site.glob("attnkit-*.dist-info/direct_url.json"):
        try:
            url = urlparse(json.loads(record.read_text("utf-8"))["url"])
        except (ValueError, KeyError, TypeError, OSError):
            continue
        if url.scheme == "file":
            found.append(Path(unquote(url.path)).resolve())
    return found
