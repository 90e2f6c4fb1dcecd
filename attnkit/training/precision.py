"""Mixed precision: which one, autocast for it, and the loss scaling that float16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]


class Precision:
    """`with precision.autocast():` around the forward pass; `precision.scaler` around the backward pass and the update.

    "float32" means no autocast: everything happens in the dtype that the weights have. "auto" is bfloat16 on a CUDA
    device that computes in it, float16 on an older one, and "float32" elsewhere. float16 has no room below 6e-8, so its
    losses are scaled up and its gradients down again (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).

    >>> Precision("auto", torch.device("cpu"))
    Precision('float32')
    """

    def __init__(self, name: PrecisionName | str, device: torch.device) -> None:
        if name not in get_args(PrecisionName):
            raise ValueError(f"precision is {name!r}; it must be one of {', '.join(get_args(PrecisionName))}")
        self.name, self.device = _fastest(device) if name == "auto" else name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "float16")

    def autocast(self) -> AbstractContextManager[Any]:
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.name))

    def __repr__(self) -> str:
        return f"Precision({self.name!r})"


def _fastest(device: torch.device) -> str:
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
