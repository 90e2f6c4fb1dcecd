"""from_pretrained and save_pretrained: weights from files into models, with every tensor accounted for."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar, Self, no_type_check

import torch
from torch import nn

from attnkit.models.weights import files
from attnkit.models.weights.keymap import KeyMap, Same, fill
from attnkit.models.weights.published import Published
from attnkit.nn.config import Config
from attnkit.positions import Position

FORMAT = 1


class Pretrained(nn.Module):
    """A model that can be read from a checkpoint and written to one.

    A subclass names its `config_class`, holds what it was made with as `config`, and names the module of
    `attnkit.models.weights` that knows how its `family` is published (None: it reads its own format only).
    """

    config: Config
    config_class: ClassVar[type[Config]]
    family: ClassVar[str | None] = None
    unsaid: str | None = None  # what it was made with that its config does not say

    @classmethod
    @no_type_check
    def from_pretrained(
        cls,
        folder_or_name: str | os.PathLike,
        *,
        dtype: torch.dtype | None = None,
        fresh: tuple[str, ...] = (),
        **changes: Any,
    ) -> Self:
        """The model with the weights of a checkpoint, in evaluation mode.

        - `folder_or_name`: a folder with config.json and model.safetensors (or shards and their index), as
          `save_pretrained` or Hugging Face Transformers writes it; or the name of such a repository on the hub.
        - `dtype`: of the parameters; None: what the file has, and the widest if it mixes several.
        - `fresh`: modules that keep their initial value because the file lacks them: a new head for a new task.
        - `changes`: settings that differ from config.json, such as `dropout=0.2`, `backend="naive"` or `labels=3`.

        Raises FileNotFoundError (NotADirectoryError) when there is nothing to read, and ValueError when a file is
        damaged or pickled, when config.json asks for what the model cannot do, and when a tensor is missing, left
        over or misshapen.
        """
        folder = files.locate(folder_or_name)
        entries = files.settings(folder)
        with files.tensors(folder) as tensors:
            config, keys = cls._read(entries, changes, folder, tensors)
            dtype = dtype or tensors.dtype()
            model = cls(config).to(dtype) if fresh else _unfilled(cls, config, dtype)
            fill(model, tensors, keys, fresh)
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write config.json and model.safetensors, which `from_pretrained` reads back to the last bit.

        A tensor that is used in several places is stored once. A crash leaves no half file: the folder is what it was,
        or, between the two files, refused for not being of one save. Raises ValueError for a model that was made with
        something that its settings cannot name.
        """
        if self.unsaid:
            raise ValueError(f"{type(self).__name__}: {self.unsaid}, which config.json cannot say; save its state_dict")
        named = dict(self.named_parameters())  # shared ones once; buffers follow from the settings
        weights = {name: p.detach().to("cpu").contiguous() for name, p in named.items()}
        entries = {"attnkit": {"format": FORMAT, "model": type(self).__name__}, **self.config.to_dict()}
        files.write(Path(folder).expanduser(), entries, weights)

    @classmethod
    def _read(
        cls, entries: dict[str, Any], changes: dict[str, Any], folder: Path, tensors: files.Tensors
    ) -> tuple[Any, KeyMap]:
        """The settings and the names of the tensors, from our config.json or a published one."""
        source = str(folder / files.SETTINGS)
        if "attnkit" in entries:
            return cls.config_class.from_dict(_own(cls, entries, source, tensors) | changes), Same()
        if cls.family is None:
            raise ValueError(f"{source} was not written by attnkit; {cls.__name__} reads no other format")
        family = importlib.import_module(f"attnkit.models.weights.{cls.family}")
        published = Published(entries, source)
        published.family(family.TYPES, cls.__name__)
        config = cls.config_class.from_dict(family.config(published) | changes)
        published.finish()
        return config, family.keys(cls.__name__, config)


def _unfilled(cls: type[Pretrained], config: Config, dtype: torch.dtype) -> Pretrained:
    """A model whose parameters hold nothing yet: no time to draw them, no memory beyond their own dtype.

    Positions compute their buffers anew where they are moved to. Other buffers would come out empty, and parameters
    that modules share would part, so a model that has any is made in the ordinary way.
    """
    with torch.device("meta"):
        model = cls(config).to(dtype)
    buffers = any(not isinstance(m, Position) and [*m.buffers(recurse=False)] for m in model.modules())
    shared = len([*model.named_parameters(remove_duplicate=False)]) > len([*model.parameters()])
    return cls(config).to(dtype) if buffers or shared else model.to_empty(device=torch.get_default_device())


def _own(cls: type[Pretrained], entries: dict[str, Any], source: str, tensors: files.Tensors) -> dict[str, Any]:
    """The settings as `save_pretrained` wrote them."""
    mark = entries["attnkit"]
    if not isinstance(mark, dict) or mark.get("format") != FORMAT:
        raise ValueError(f"{source} is of format {mark!r}; this version of attnkit reads format {FORMAT}")
    if mark.get("model") != cls.__name__:
        raise ValueError(f"{source} describes a {mark.get('model')}; it was asked for as {cls.__name__}")
    if json.loads(tensors.notes.get("attnkit", "{}")) != entries:
        raise ValueError(f"{source} and {tensors.source} are not of the same save: the settings in them differ")
    return {name: value for name, value in entries.items() if name != "attnkit"}
