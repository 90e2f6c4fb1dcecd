"""Positions: tables that stay behind, pairs that do not match, counts that start again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnkit.museum.base import randn, row, softmax, specimen
from attnkit.positions import Rotary, Sinusoidal

Piece = Float[Tensor, "batch _ width"]  # pieces of any lengths
Tokens = Float[Tensor, "batch len width"]


def waves(length: int, width: int) -> Float[Tensor, "{length} {width}"]:
    """The sinusoidal table."""
    return Sinusoidal(width).embed(torch.zeros(1, length, width), torch.arange(length)[None])[0]


@specimen(
    slug="table-not-buffer",
    title="A table that does not move with its model",
    room="positions",
    seen=("a well-known textbook's code",),
    chapter="idea/where-am-i#where-buffer",
    habit="move it, save it, count it",
)
class TableNotBuffer:
    """A plain tensor in an attribute is no part of the module: `.to()`, `.half()` and `state_dict` pass it by."""

    class wrong(nn.Module):
        def __init__(self, length: int, width: int) -> None:
            super().__init__()
            self.table = waves(length, width)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table[: x.shape[1]]

    class right(nn.Module):
        table: Tensor

        def __init__(self, length: int, width: int) -> None:
            super().__init__()
            self.register_buffer("table", waves(length, width))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table[: x.shape[1]]

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        moved = f(16, 8).half()
        out = moved(torch.zeros(1, 4, 8, dtype=torch.float16))
        return {
            "a model in float16 gives": str(out.dtype).removeprefix("torch."),
            "in the checkpoint": ", ".join(moved.state_dict()) or "nothing",
            'after .to("meta") the table is on': f(16, 8).to("meta").table.device.type,
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """On the CPU, in float32, the table is added."""
        x = randn(2, 5, 8, dtype=torch.float32)
        assert torch.allclose(f(16, 8)(x) - x, waves(5, 8), atol=1e-6), "what was added is not the table"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A module that is moved takes its table along."""
        device = f(16, 8).to("meta").table.device.type  # "meta" is a device that every machine has
        assert device == "meta", f"the module moved and its table stayed on the {device}: make it a buffer"


@specimen(
    slug="rope-layout",
    title="Rotary pairs taken one way, put back another",
    room="positions",
    seen=(
        "a university course's staff code",
        "five reports of one crash at `labmlai/annotated_deep_learning_paper_implementations`",
    ),
    chapter="idea/relative-position#relative-layout",
    habit="know one answer beforehand",
)
class RopeLayout:
    """Neighbours are turned as pairs, as in the paper, then stored as halves. q·k never notices: both are shuffled."""

    @staticmethod
    def wrong(x: Float[Tensor, "len d"]) -> Float[Tensor, "len d"]:
        angle = torch.arange(len(x))[:, None] * Rotary(x.shape[-1]).inv_freq
        even, odd = x[:, ::2], x[:, 1::2]
        turned = even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()
        return torch.cat(turned, dim=-1)

    @staticmethod
    def right(x: Float[Tensor, "len d"]) -> Float[Tensor, "len d"]:
        rotary = Rotary(x.shape[-1], layout="interleaved")
        return rotary.rotate(x[None, None], torch.arange(len(x))[None])[0, 0]

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        x = torch.tensor([[1.0, 2, 3, 4]]).double()
        return {"1, 2, 3, 4 at position 0, which turns nothing": row(f(x), 0)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Norms are kept, and q·k depends on the distance alone."""
        query, key = (randn(1, 8, seed=seed).expand(6, 8) for seed in (0, 1))  # one vector at every position
        assert torch.allclose(f(query).norm(dim=-1), query.norm(dim=-1)), "a norm changed"
        scores = f(query) @ f(key).T
        assert torch.allclose(scores[1:, 1:], scores[:-1, :-1]), "the scores are not the same along a diagonal"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """At position 0 nothing turns, so nothing changes."""
        x = randn(1, 8)
        assert torch.allclose(f(x), x), "entries changed places: a checkpoint of the other layout would be misread"


@specimen(
    slug="alibi-sign",
    title="ALiBi that counts upwards",
    room="positions",
    seen=("a published collection of implementations",),
    chapter="idea/relative-position#relative-alibi",
    habit="go to extremes",
)
class AlibiSign:
    """+slope times the key's position equals -slope times the distance, for a softmax. In float16 it does not."""

    @staticmethod
    def wrong(slope: float, keys: int, dtype: torch.dtype) -> Float[Tensor, " {keys}"]:
        """The bias of the last query."""
        position = torch.ones(keys).cumsum(0)
        return (slope * position).to(dtype)

    @staticmethod
    def right(slope: float, keys: int, dtype: torch.dtype) -> Float[Tensor, " {keys}"]:
        """The bias of the last query."""
        distance = torch.arange(keys - 1, -1, -1)
        return (-slope * distance).to(dtype)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        short, long = (softmax(f(0.5, keys, torch.float16).float())[-3:] for keys in (64, 4096))
        return {"float16, 64 keys: last three weights": row(short, 3), "float16, 4096 keys": row(long, 3)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """In float32 each key weighs e^-slope of the next one."""
        weights = softmax(f(0.5, 64, torch.float32))[-8:]
        ratio = weights[:-1] / weights[1:]
        assert torch.allclose(ratio, torch.tensor(-0.5).exp(), rtol=1e-4), "the weights do not fall as they should"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """In float16, at 4096 keys, the nearest key still weighs more than the next."""
        last, before = softmax(f(0.5, 4096, torch.float16).float())[[-1, -2]]
        assert last > before, "the two nearest keys tie: near keys must have the small numbers"


@specimen(
    slug="cache-restarts",
    title="Positions that start again at every step",
    room="positions",
    seen=("`ml-explore/mlx-lm#93`", "`Blaizzy/mlx-vlm#1983`"),
    chapter="idea/relative-position#relative-cache",
    habit="compare the parts with the whole",
)
class CacheRestarts:
    """With a cache each step brings one token. Counted within the step, every token stands at position 0."""

    @staticmethod
    def wrong(pieces: list[Piece]) -> Tokens:
        encode, out = Sinusoidal(pieces[0].shape[-1]), []
        for x in pieces:
            positions = torch.arange(x.shape[1])[None]
            out.append(encode.embed(x, positions))
        return torch.cat(out, dim=1)

    @staticmethod
    def right(pieces: list[Piece]) -> Tokens:
        encode, out, seen = Sinusoidal(pieces[0].shape[-1]), [], 0
        for x in pieces:
            positions = torch.arange(seen, seen + x.shape[1])[None]
            out.append(encode.embed(x, positions))
            seen += x.shape[1]
        return torch.cat(out, dim=1)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        out = f([torch.zeros(1, 1, 4).double()] * 4)
        return {"sine at positions 0 to 3, token by token": row(out[0, :, 0])}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """In one pass, as in training, positions are right."""
        x = torch.zeros(1, 6, 8)
        assert torch.allclose(f([x])[0], waves(6, 8)), "what was added is not the table"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """In pieces it is what it is in one pass."""
        x = randn(1, 6, 8)
        assert torch.allclose(f([x[:, :4], x[:, 4:5], x[:, 5:]]), f([x])), (
            "pieces are not the whole: count what was seen"
        )


@specimen(
    slug="trained-sinusoid",
    title="A fixed table that is random and trained",
    room="positions",
    seen=("a popular article",),
    chapter="idea/where-am-i#where-trained",
    habit="move it, save it, count it",
)
class TrainedSinusoid:
    """The text says 'predefined'. The code says `nn.Parameter(torch.randn(...))`, which is another encoding."""

    class wrong(nn.Module):
        def __init__(self, length: int, width: int) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(length, width))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table[: x.shape[1]]

    right = TableNotBuffer.right

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        one, other = (f(16, 8)(torch.zeros(1, 4, 8)).detach() for _ in range(2))
        return {
            "numbers that are trained": str(sum(x.numel() for x in f(16, 8).parameters())),
            "are two of them equal?": "yes" if torch.equal(one, other) else "no",
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """The shape is right, and every position gets its own vector."""
        added = f(16, 8)(torch.zeros(2, 16, 8))[0].detach()
        assert added.shape == (16, 8), "the shape is not (length, width)"
        assert len(added.unique(dim=0)) == 16, "two positions get the same vector"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A predefined table has nothing to train."""
        trained = sum(x.numel() for x in f(16, 8).parameters())
        assert trained == 0, f"{trained} numbers of a predefined table are trained"
