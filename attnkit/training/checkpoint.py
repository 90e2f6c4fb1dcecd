"""Checkpoints: one safetensors file, in which the tensors have flat names and everything else is JSON in the header.

One file, because one `os.replace` is atomic: a checkpoint is there in full or not at all, whenever the power fails.

    model.<name>            the weights and buffers, each stored once however many names it has
    optimizer.state.<i>...  the optimizer's averages, for the i-th of the parameters that the header lists
    random..., history...   generators, and what was measured

On the CPU a resumed run gives the same bytes as one that was never stopped.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from attnkit._optional import require
from attnkit.training.loop import Trainer
from attnkit.training.tree import flatten, unflatten

FORMAT, VERSION = "attnkit checkpoint", 1
SUFFIX = ".safetensors"


class Damaged(ValueError):
    """A file that is not a checkpoint, or no longer the one that was written."""


@no_type_check
def save(trainer: Trainer, path: str | os.PathLike[str]) -> Path:
    """Write all that the next step depends on to `path`, atomically; whatever was there is replaced."""
    path = Path(path)
    weights, aliases = _stored_once(trainer.model)
    tree, tensors = flatten(trainer.state_dict(), "trainer")
    tensors = _apart({f"model.{name}": tensor for name, tensor in weights.items()} | tensors)
    body = {
        "model": type(trainer.model).__name__,
        "optimizer": type(trainer.optimizer).__name__,
        "parameters": _parameter_names(trainer),
        "aliases": aliases,
        "state": tree,
        "crc32": {name: _crc(tensor) for name, tensor in tensors.items()},
    }
    text = json.dumps(body, allow_nan=False)
    header = {"format": FORMAT, "version": VERSION, "crc32": zlib.crc32(text.encode()), "body": text}
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, tensors, {"attnkit": json.dumps(header)})
    return path


@no_type_check
def resume(trainer: Trainer, path: str | os.PathLike[str]) -> Trainer:
    """Put a trainer, made as the first one was, where the one stood that was saved; `fit` then goes on from there.

    `path` is a checkpoint, or a folder of them, of which the latest is taken. Nothing is changed before everything has
    been checked. Raises FileNotFoundError, Damaged for a file that is not what was written, and ValueError, with the
    names, for the checkpoint of another model or optimizer.
    """
    path = Path(path)
    path = latest(path) if path.is_dir() else path
    tensors, body = read(path)
    weights = model_weights(tensors, body)
    _same_model(weights, trainer.model, path, body["model"])
    _same_optimizer(trainer, path, body)
    trainer.load_state_dict(unflatten(body["state"], tensors))
    trainer.model.load_state_dict(weights)
    return trainer


def latest(folder: str | os.PathLike[str]) -> Path:
    """The checkpoint in a folder of `Checkpoints` with the highest step."""
    found = sorted(Path(folder).glob(f"step-*{SUFFIX}"))
    if not found:
        raise FileNotFoundError(f"{os.fspath(folder)} holds no checkpoint (step-*{SUFFIX})")
    return found[-1]


class Checkpoints:
    """A callback for `Trainer.fit`: saves every `every` updates to `folder` and keeps the last `keep` files.

    >>> Checkpoints("runs/first", every=500, keep=3).path(1500).name
    'step-00001500.safetensors'
    """

    folder: Path
    every: int
    keep: int | None

    @no_type_check
    def __init__(self, folder: str | os.PathLike[str], *, every: int = 1000, keep: int | None = 3) -> None:
        for name, value in (("every", every), ("keep", keep)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; it must be an integer, 1 or more")
        self.folder, self.every, self.keep = Path(folder), every, keep

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}{SUFFIX}"

    def __call__(self, trainer: Trainer) -> None:
        if trainer.step % self.every:
            return
        save(trainer, self.path(trainer.step))
        for left_over in self.folder.glob(f".step-*{SUFFIX}.part"):  # of a save that was killed
            left_over.unlink()
        if self.keep is not None:
            for old in sorted(self.folder.glob(f"step-*{SUFFIX}"))[: -self.keep]:
                old.unlink()


@no_type_check
def average_checkpoints(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints, for `model.load_state_dict`.

    Vaswani et al. 2017 (arXiv:1706.03762, section 6.1) average the last 5 or 20. Summed in float64; what is not a
    float, such as a counter, is the last checkpoint's. ValueError when they are not of one model.
    """
    if not paths:
        raise ValueError("paths is empty; it must name one checkpoint or more")
    states = [model_weights(*read(path)) for path in paths]
    for path, state in zip(paths, states, strict=True):
        _same_tensors(state, states[0], f"{path} is not a checkpoint of the model of {paths[0]}")
    mean = dict(states[-1])
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            mean[name] = (sum(state[name].double() for state in states) / len(states)).to(tensor.dtype)
    return mean


@no_type_check
def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, body of the header), every byte checked."""
    path, safetensors = Path(path), require("safetensors", extra="models")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("attnkit", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise Damaged(f"{path} is damaged, or no safetensors file: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise Damaged(f"{path} is a safetensors file, but no checkpoint of attnkit's")
    if header["version"] != VERSION:
        raise ValueError(f"{path} has version {header['version']} of the format; this attnkit reads version {VERSION}")
    if zlib.crc32(header["body"].encode()) != header["crc32"]:
        raise Damaged(f"{path} is damaged: its header is not what was written")
    body = json.loads(header["body"])
    for name, crc in body["crc32"].items():
        if name not in tensors or _crc(tensors[name]) != crc:
            raise Damaged(f"{path} is damaged: the tensor {name} is not what was written")
    return tensors, body


def model_weights(tensors: Mapping[str, Tensor], body: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's state_dict, with every name that a shared tensor has."""
    own = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    return own | {name: own[original] for name, original in body["aliases"].items()}


def _stored_once(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors under their first name, every further name -> the first)."""
    weights: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise TypeError(f"the model's state has {name}, a {type(value).__name__}; only tensors can be saved")
        if id(value) in first:
            aliases[name] = first[id(value)]
        else:
            first[id(value)], weights[name] = name, value
    return weights, aliases


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and no two in one piece of memory, as the format wants it."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage()
        apart[name] = plain.clone() if memory.data_ptr() in seen or memory.nbytes() != plain.nbytes else plain
        seen.add(memory.data_ptr())
    return apart


def _parameter_names(trainer: Trainer) -> list[list[str]]:
    """The model's names of the optimizer's parameters, group by group."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in trainer.optimizer.param_groups]


def _same_model(weights: Mapping[str, Tensor], model: nn.Module, path: Path, written: str) -> None:
    message = f"{path} is a checkpoint of another model (a {written}; this is a {type(model).__name__})"
    _same_tensors(weights, model.state_dict(), message)


def _same_tensors(have: Mapping[str, Tensor], want: Mapping[str, Tensor], message: str) -> None:
    """ValueError with the names, unless both have the same names, shapes and dtypes."""
    parts = []
    if missing := sorted(want.keys() - have.keys()):
        parts.append(f"it lacks {_some(missing)}")
    if unknown := sorted(have.keys() - want.keys()):
        parts.append(f"it has {_some(unknown)}, which this has not")
    shown = {
        key: (f"{tuple(a.shape)} {a.dtype}", f"{tuple(want[key].shape)} {want[key].dtype}")
        for key, a in have.items()
        if key in want
    }
    if other := [f"{key} is {a} there and {b} here" for key, (a, b) in shown.items() if a != b]:
        parts.append(_some(other))
    if parts:
        raise ValueError(f"{message}: {'; '.join(parts)}")


def _same_optimizer(trainer: Trainer, path: Path, body: Mapping[str, Any]) -> None:
    kind, names = type(trainer.optimizer).__name__, _parameter_names(trainer)
    if body["optimizer"] != kind:
        raise ValueError(f"{path} was written with the optimizer {body['optimizer']}; this trainer has {kind}")
    if body["parameters"] != names:
        there, here = ({name for group in groups for name in group} for groups in (body["parameters"], names))
        differing = sorted(there ^ here) or ["none, but they are grouped otherwise"]
        raise ValueError(f"{path}: the optimizer had other parameters than this trainer's: {_some(differing)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The whole file beside its place, to the disk, then into its place."""
    part = path.with_name(f".{path.name}.part")
    try:
        require("safetensors.torch", extra="models").save_file(tensors, part, metadata=metadata)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
