"""Where the batches come from: pass after pass over them, and back to the same place after a restart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Stateful(Protocol):
    """Knows where it stands, and can be put back there."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> object: ...


class Source:
    """Draws from any iterable of batches, from its beginning again when it ends; knows where it stands.

    An iterable with `state_dict` and `load_state_dict` (as in `attnkit.training.batches`) is asked where it stands. Any
    other is counted, and to get back to its place the batches before it are drawn again and thrown away, which is right
    when it gives the same batches in the same order on each pass.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.drawn = 0  # from this pass
        self._iterator: Iterator[Any] | None = None

    @property
    def stateful(self) -> bool:
        return isinstance(self.batches, Stateful)

    def next(self) -> Any:
        """The next batch. StopIteration at the end of a pass; then the next call begins another."""
        if self._iterator is None:
            self._iterator = iter(self.batches)
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._iterator, self.drawn = None, 0
            raise
        self.drawn += 1
        return batch

    def take(self, count: int, endless: bool) -> list[Any]:
        """`count` batches; fewer at the end of the pass unless `endless`, which goes on with the next pass."""
        taken: list[Any] = []
        while len(taken) < count:
            fresh = self._iterator is None
            try:
                taken.append(self.next())
            except StopIteration:
                if not endless:
                    break
                if fresh:  # a whole pass gave nothing
                    raise ValueError(
                        "batches is empty, or an iterator that is used up; it must be something that can be "
                        "gone over again, such as a list, for more steps than it has batches"
                    ) from None
        return taken

    def state_dict(self) -> dict[str, Any]:
        place = self.batches.state_dict() if isinstance(self.batches, Stateful) else None
        return {"batches": place, "drawn": self.drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where the source stood that gave this state."""
        if (state["batches"] is not None) != self.stateful:
            raise ValueError(
                f"batches is a {type(self.batches).__name__}, {'with' if self.stateful else 'without'} a state_dict; "
                "the checkpoint was written with batches of the other kind, so its place cannot be found again"
            )
        if isinstance(self.batches, Stateful):
            self.batches.load_state_dict(state["batches"])
            return
        for _ in range(state["drawn"]):
            try:
                self.next()
            except StopIteration:
                raise ValueError(f"batches ended before the checkpoint's place, {state['drawn']} in") from None


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor in a batch (tuples, named tuples, lists, mappings, as deep as they go) on the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        moved = [to_device(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch
