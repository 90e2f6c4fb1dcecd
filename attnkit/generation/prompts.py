"""Prompts as users have them, brought to one table of ids: padded on the left, so that all of them end together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Int
from torch import Tensor

from attnkit.masks import Mask, Prefix


@dataclass(frozen=True)
class Prompts:
    """`ids` (prompts, longest); the first `pads[i]` of row i are padding."""

    ids: Int[Tensor, "prompts longest"]
    pads: Int[Tensor, " prompts"]

    @property
    def ragged(self) -> bool:
        """Is there any padding?"""
        return bool(self.pads.any())

    @property
    def lengths(self) -> list[int]:
        """How many tokens each prompt has."""
        return (self.ids.shape[1] - self.pads).tolist()

    def mask(self) -> Mask | None:
        """Hides the padding; None where there is none."""
        return ~Prefix(self.pads) if self.ragged else None

    def positions(self, start: int, stop: int) -> Int[Tensor, "prompts positions"] | None:
        """Positions of the columns start to stop: each prompt counts from its first token. None: they are the columns.

        Padding is given position 0: any would do, as nothing attends to it.
        """
        if not self.ragged:
            return None
        return (torch.arange(start, stop, device=self.ids.device) - self.pads[:, None]).clamp(min=0)


Rows = Sequence[int] | Sequence[Sequence[int]] | Sequence[Int[Tensor, " len"]] | Tensor


@no_type_check
def read_prompts(prompt: Rows, lengths: Sequence[int] | Tensor | None = None, pad: int = 0, device=None) -> Prompts:
    """One prompt (numbers, or a tensor of one axis), or several (a sequence of such, or a tensor of two axes).

    `lengths` says how many tokens of each row of a two-axis tensor are the prompt; the rest is padding on its right.

    >>> read_prompts([[5, 6, 7], [8]]).ids
    tensor([[5, 6, 7],
            [0, 0, 8]])
    """
    rows = _rows(prompt)
    if lengths is not None:
        rows = _shortened(rows, lengths)
    if not rows:
        raise ValueError("prompt holds no prompt at all; it must be a list of token ids, or a list of such lists")
    for i, row in enumerate(rows):
        if not len(row):
            raise ValueError(
                f"prompt {i} is empty; a model needs a token to continue, such as its beginning-of-sequence token"
            )
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = row
    pads = torch.tensor([longest - len(row) for row in rows])
    return Prompts(ids.to(device), pads.to(device))


@no_type_check
def _rows(prompt: Rows) -> list[Int[Tensor, " len"]]:
    """Each prompt as a tensor of one axis."""
    if not isinstance(prompt, Tensor | Sequence) or isinstance(prompt, str | bytes):
        raise TypeError(
            f"prompt is a {type(prompt).__name__}; it must hold token ids (a tokenizer turns text into them)"
        )
    if isinstance(prompt, Tensor):
        if prompt.ndim not in (1, 2):
            raise ValueError(f"prompt has shape {tuple(prompt.shape)}; it must be (len) or (prompts, len)")
        return [_row(row, i) for i, row in enumerate(prompt if prompt.ndim == 2 else prompt[None])]
    single = len(prompt) > 0 and isinstance(prompt[0], int)
    return [_row(row, i) for i, row in enumerate([prompt] if single else prompt)]


@no_type_check
def _row(row: Sequence[int] | Tensor, number: int) -> Int[Tensor, " len"]:
    """One prompt as a tensor of one axis, on the CPU; TypeError when it does not hold whole numbers."""
    if isinstance(row, str | bytes):
        raise TypeError(f"prompt {number} is text; it must hold token ids (a tokenizer turns text into them)")
    try:
        row = torch.as_tensor(row).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"prompt {number} must be a list of whole numbers; {error}") from error
    if row.numel() and (row.dtype == torch.bool or row.is_floating_point() or row.is_complex()):
        raise TypeError(f"prompt {number} holds {row.dtype}; token ids are whole numbers")
    if row.ndim != 1:
        raise ValueError(f"prompt {number} has shape {tuple(row.shape)}; it must have one axis")
    return row.long()


@no_type_check
def _shortened(rows: list[Int[Tensor, " len"]], lengths: Sequence[int] | Tensor) -> list[Int[Tensor, " len"]]:
    """The first lengths[i] tokens of row i."""
    lengths = torch.as_tensor(lengths).tolist()
    if not isinstance(lengths, list) or len(lengths) != len(rows):
        raise ValueError(f"lengths is {lengths}; it must hold one number for each of the {len(rows)} prompts")
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if not 0 <= length <= len(row):
            raise ValueError(
                f"lengths[{i}] is {length}; prompt {i} has {len(row)} tokens, so it must be 0 to {len(row)}"
            )
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]
