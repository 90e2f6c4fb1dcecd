"""How much memory an operation takes at once, told by the tensors that are made: for tests, on any device."""

from __future__ import annotations

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    """While open, `numel` is how many numbers the largest tensor holds that any operation has made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        self.numel = max(self.numel, *(x.numel() for x in made if isinstance(x, Tensor)), 0)
        return result
