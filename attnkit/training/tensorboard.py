"""Training curves in TensorBoard: `with TensorBoard("runs/first") as log: Trainer(..., log=log)`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from attnkit._optional import require


class TensorBoard:
    """A `log` for `Trainer`: every number becomes a scalar of its name. `tensorboard --logdir <folder>` shows them.

    Needs the package tensorboard: `pip install "attnkit[tensorboard]"`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        require("tensorboard", extra="tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(os.fspath(folder))

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is waiting."""
        self._writer.close()

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
