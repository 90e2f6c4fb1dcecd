"""A checkpoint's folder: config.json, and one safetensors file or several shards with their index.

Weights are read from safetensors only, one tensor at a time, and settings from JSON: neither can run code.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnkit._optional import require

WEIGHTS, INDEX, SETTINGS = "model.safetensors", "model.safetensors.index.json", "config.json"
FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Tensors:
    """The tensors of an open checkpoint, by name. None is read before `read`.

    `source` is what errors call it, `notes` the text that `write` kept beside the tensors.
    """

    def __init__(self, source: Path, homes: dict[str, Any], notes: dict[str, str]) -> None:
        self.source, self.homes, self.notes = source, homes, notes

    def names(self) -> list[str]:
        return sorted(self.homes)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.homes[name].get_slice(name).get_shape())

    def kind(self, name: str) -> str:
        """How the file's format names the type of its numbers: "F32", "I8", ..."""
        return self.homes[name].get_slice(name).get_dtype()

    def read(self, name: str) -> Tensor:
        return self.homes[name].get_tensor(name)

    def dtype(self) -> torch.dtype:
        """The type that holds every floating point tensor exactly; float32 when there is none."""
        stored = {self.kind(name) for name in self.homes}
        found = [dtype for kind, dtype in FLOATS.items() if kind in stored]
        return functools.reduce(torch.promote_types, found) if found else torch.float32


def locate(folder_or_name: str | os.PathLike) -> Path:
    """The folder of that path, or the local copy of the repository of that name on the Hugging Face hub.

    Raises NotADirectoryError for a file, FileNotFoundError when there is no such folder and nothing can be fetched.
    """
    folder = Path(folder_or_name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"{folder} is a file; give the folder that holds it and {SETTINGS}")
    name = str(folder_or_name)
    if isinstance(folder_or_name, Path) or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        raise FileNotFoundError(f"there is no folder {name}")
    hub = require("huggingface_hub", extra="models")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=[SETTINGS, WEIGHTS, INDEX, "model-*.safetensors"]))
    except Exception as error:  # the hub's client has dozens of errors; each means that there is nothing to load
        raise FileNotFoundError(
            f"there is no folder {name!r} here, and it could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}): without network, give the folder of a checkpoint that is on this machine"
        ) from None


def settings(folder: Path) -> dict[str, Any]:
    """config.json as a dict."""
    path = folder / SETTINGS
    if not path.is_file():
        found = sorted(child.name for child in folder.iterdir())
        raise FileNotFoundError(f"{folder} has no {SETTINGS}; it holds {', '.join(found[:10]) or 'nothing'}")
    return _json(path)


def _json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object."""
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds a JSON {type(entries).__name__}; it must hold an object")
    return entries


@contextmanager
def tensors(folder: Path) -> Iterator[Tensors]:
    """Open the weights of a folder, sharded or not.

    Raises FileNotFoundError when they, or a shard, are not there, and ValueError when they are damaged, pickled, or do
    not hold what their index says.
    """
    with ExitStack() as open_files:
        if (folder / WEIGHTS).is_file():
            file = _open(folder / WEIGHTS, open_files)
            yield Tensors(folder / WEIGHTS, dict.fromkeys(file.keys(), file), file.metadata() or {})
        elif (folder / INDEX).is_file():
            yield Tensors(folder / INDEX, _shards(folder, open_files), {})
        else:
            raise _no_weights(folder)


def _open(path: Path, open_files: ExitStack) -> Any:
    """One safetensors file."""
    safetensors = require("safetensors", extra="models")
    try:
        return open_files.enter_context(safetensors.safe_open(path, framework="pt"))
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from None


def _shards(folder: Path, open_files: ExitStack) -> dict[str, Any]:
    """The open shard of each tensor that the index names."""
    index = _json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise ValueError(f"{folder / INDEX} has no weight_map, which says the shard of each tensor")
    shards = sorted(set(index.values()))
    strange = [shard for shard in shards if Path(shard).name != shard]
    if strange:
        raise ValueError(f"{folder / INDEX} names {', '.join(strange)}; a shard is a file of the same folder")
    absent = [shard for shard in shards if not (folder / shard).is_file()]
    if absent:
        raise FileNotFoundError(f"{folder} lacks {len(absent)} of {len(shards)} shards: {', '.join(absent)}")
    files = {shard: _open(folder / shard, open_files) for shard in shards}
    said = {(name, shard) for name, shard in index.items()}
    held = {(name, shard) for shard, file in files.items() for name in file.keys()}  # noqa: SIM118 - not a dict
    if said != held:
        odd = ", ".join(f"{name} in {shard}" for name, shard in sorted(said ^ held)[:10])
        raise ValueError(f"{folder / INDEX} and its shards disagree about: {odd}")
    return {name: files[shard] for name, shard in index.items()}


def _no_weights(folder: Path) -> Exception:
    """Why there is nothing to read."""
    found = sorted(child.name for child in folder.iterdir() if child.suffix in PICKLED)
    if found:
        return ValueError(
            f"{folder} holds {', '.join(found)} and no safetensors: pickled weights can run code when they are "
            "opened, so they are not read. Transformers' from_pretrained and save_pretrained write them anew"
        )
    return FileNotFoundError(f"{folder} has neither {WEIGHTS} nor {INDEX}")


def write(folder: Path, entries: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write config.json and model.safetensors, each whole or not at all; the weights carry the settings too.

    Each is written under another name and renamed when it is complete, so that a crash leaves what was there before.
    """
    save_file = require("safetensors.torch", extra="models").save_file
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(entries, indent=2, sort_keys=True)
    drafts = {name: folder / f".{name}.{os.getpid()}.part" for name in (WEIGHTS, SETTINGS)}
    try:
        save_file(weights, drafts[WEIGHTS], metadata={"format": "pt", "attnkit": text})
        drafts[SETTINGS].write_text(text + "\n", "utf-8")
        for name, draft in drafts.items():
            with open(draft, "rb") as file:
                os.fsync(file.fileno())  # the rename must not reach the disk before the contents
            os.replace(draft, folder / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
