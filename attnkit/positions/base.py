"""What every positional encoding can be asked: one protocol, four places where an encoding may act."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Place = Literal["embedding", "query_key", "scores"]


class Position(nn.Module):
    """Tells attention where tokens stand. An encoding overrides the hooks where it acts; the others do nothing.

    Positions are integers of shape (batch, len), or (1, len) when every sequence of the batch has the same.

    What follows from an encoding's arguments alone (inverse frequencies, slopes) is a *constant*: a float64 buffer,
    in `state_dict`, that moves with `.to(device)` and that nothing rounds, neither `.half()` nor a checkpoint that was
    rounded. A checkpoint without it loads as well; one with another value was made with other arguments: refused.
    """

    acts_on: ClassVar[Place]
    needs_weights: bool = False  # does `output` add something, so that attention must hand it the weights?

    def embed(
        self, x: Float[Tensor, "batch len d_model"], positions: Int[Tensor, "#batch len"]
    ) -> Float[Tensor, "batch len d_model"]:
        """The embeddings with their positions in them."""
        return x

    def rotate(
        self, x: Float[Tensor, "batch heads len d"], positions: Int[Tensor, "#batch len"]
    ) -> Float[Tensor, "batch heads len d"]:
        """The queries, or the keys, turned by their positions."""
        return x

    def bias(
        self,
        query: Float[Tensor, "batch heads q_len d"],
        key: Float[Tensor, "batch kv_heads k_len d"],
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
        scale: int | float,
    ) -> Float[Tensor, "#batch #heads q_len k_len"] | None:
        """What is added to scale * query @ key^T. A term that the paper puts under the 1/sqrt(d) contains `scale`."""
        return None

    def output(
        self,
        weights: Float[Tensor, "batch heads q_len k_len"],
        q_positions: Int[Tensor, "#batch q_len"],
        k_positions: Int[Tensor, "#batch k_len"],
    ) -> Float[Tensor, "batch heads q_len d_v"] | None:
        """What is added to weights @ value."""
        return None

    def constants(self) -> dict[str, Tensor]:
        """The float64 tables that follow from the arguments alone, by name; `define` makes buffers of them."""
        return {}

    def define(self, device: torch.device | None = None) -> None:
        """Set the constants. To be called at the end of a constructor that has them."""
        for name, table in self.constants().items():
            on_mps = device is not None and device.type == "mps"  # which has no float64
            self.register_buffer(name, (table.float() if on_mps else table).to(device))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Position:
        """What `.to()`, `.half()`, `.cuda()` and `.to_empty()` do. Constants follow, at full precision."""
        names = list(self.constants())
        if not names:
            return super()._apply(fn, recurse)
        probe = torch.empty(0, device=self.get_buffer(names[0]).device)
        for name in names:
            self._buffers.pop(name)
        try:
            super()._apply(fn, recurse)
            probe = fn(probe)
        finally:
            self.define(probe.device)
        return self

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """Check the constants of a checkpoint instead of taking them over."""
        rest = dict(state_dict)
        for name, own in self.constants().items():
            loaded, held = rest.pop(prefix + name, None), self._buffers[name]
            from_meta = held is not None and held.is_meta and local_metadata.get("assign_to_params_buffers", False)
            rest[prefix + name] = own if from_meta else held
            if loaded is None or loaded.is_meta or own.is_meta:
                continue
            loaded = loaded.detach().to("cpu", torch.float64)
            if loaded.shape != own.shape or not torch.allclose(loaded, own.cpu(), rtol=0.01, atol=1e-9):
                error_msgs.append(
                    f"{prefix}{name} of the checkpoint, shape {tuple(loaded.shape)}, is not the one that follows from "
                    f"the arguments of this {type(self).__name__}, shape {tuple(own.shape)}: "
                    "it must be made with the arguments that the checkpoint was made with"
                )
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)


@no_type_check
def check_positions(
    positions: Int[Tensor, "#batch len"], batch: int, length: int, name: str = "positions"
) -> Int[Tensor, "#batch len"]:
    """The positions, or ValueError when they are not integers of shape (batch, length) or (1, length)."""
    need = f"it must hold integers, in shape ({batch}, {length}) or (1, {length})"
    if not isinstance(positions, Tensor):
        raise ValueError(f"{name} is {type(positions).__name__}; {need}, as a tensor")
    if positions.is_floating_point() or positions.is_complex() or positions.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {positions.dtype}; {need}")
    if positions.ndim != 2 or positions.shape[0] not in (1, batch) or positions.shape[1] != length:
        raise ValueError(f"{name} has shape {tuple(positions.shape)}; {need}")
    return positions


def check_count(name: str, value: object, least: int = 1) -> int:
    """The value, or ValueError when it is no integer that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}")
    return value


def check_width(name: str, value: int, x: Tensor, what: str = "x") -> None:
    """ValueError when the last axis of x has another width than the encoding was made for."""
    if x.shape[-1] != value:
        raise ValueError(f"{what} has shape {tuple(x.shape)}; its last axis must be {name}={value} wide")


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which angles and distances are computed for a tensor: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def bounds(positions: Int[Tensor, "#batch len"]) -> tuple[int, int] | None:
    """The least and the greatest position; None where there is none, or none that can be read (meta, compilation)."""
    if not positions.numel() or positions.is_meta or torch.compiler.is_compiling():
        return None
    least, most = positions.aminmax()
    return int(least), int(most)
