"""The notebook around us, as far as it can be known: its kernel, its names, its cells, its file. Nothing here raises.

Outside a notebook there is none of it. IPython and Colab's own modules are taken from where they are loaded already.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_FILE = 64 * 2**20
_COLAB_SECONDS = 20


@dataclass(frozen=True)
class Saved:
    """A notebook's file: its bytes, and whether it is what the browser shows just now (Colab) or was saved before.

    One that is `guessed` has the lab's name and lies in the working folder, and may be another than the one that runs.
    """

    data: bytes
    live: bool = False
    guessed: bool = False


def shell() -> Any | None:
    """IPython's shell where a notebook's kernel runs, else None."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    found = ask() if ask is not None else None
    return found if getattr(found, "kernel", None) is not None else None


def names() -> Mapping[str, Any]:
    """The notebook's own names."""
    found = getattr(shell(), "user_ns", None)
    return found if isinstance(found, Mapping) else {}


def executed() -> list[str]:
    """The cells that were run in this kernel, as they were typed, in order."""
    history = getattr(getattr(shell(), "history_manager", None), "input_hist_raw", ())
    return [one for one in list(history) if isinstance(one, str) and one.strip()]


def in_colab() -> bool:
    """Whether this is Google Colab."""
    return "google.colab" in sys.modules


def saved(lab: str) -> Saved | None:
    """The notebook that is being worked in, if it can be found."""
    if in_colab():
        return _from_colab()
    own = [names().get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")]
    for name in own:
        if isinstance(name, str) and name.endswith(".ipynb") and (data := _read(Path(name))):
            return Saved(data)
    beside = _read(Path(f"{lab}.ipynb"))
    return Saved(beside, guessed=True) if beside else None


def offer(path: Path) -> bool:
    """Have the browser download the file, where that can be done from here: in Colab."""
    if not in_colab():
        return False
    try:
        from google.colab import files

        files.download(str(path))
    except Exception:  # the browser may refuse, or be another's
        return False
    return True


def _from_colab() -> Saved | None:
    try:
        from google.colab import _message

        reply = _message.blocking_request("get_ipynb", request="", timeout_sec=_COLAB_SECONDS)
        return Saved(json.dumps(reply["ipynb"]).encode(), live=True)
    except Exception:  # it is not made for others, and may change
        return None


def _read(path: Path) -> bytes:
    """The file's bytes; none where there is no such file, or one that no notebook is as large as."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_FILE else b""
    except OSError:
        return b""
