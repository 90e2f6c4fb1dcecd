"""Use, second case: looking at a model and testing it, so that one sees what one wants to see.

In the last two cases the specimen is itself a test. It takes an attention function, and should raise when that is
wrong. `MUTANTS` are functions that it should reject.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit import attention
from attnkit.masks import Padding
from attnkit.museum.base import randn, row, specimen, verdict
from attnkit.museum.scores_scale import KeyAsValue, RootOfHeads, by_hand
from attnkit.nn import Config, Encoder, EncoderLayer, recording

Maps = list[Float[Tensor, "batch heads q_len k_len"]]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@cache
def encoder() -> Encoder:
    """Two small layers with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(Config(d_model=8, heads=2, d_hidden=16, layers=2)).double()


def layers_of(model: Encoder) -> list[EncoderLayer]:
    """The layers, from the first to the last."""
    return [layer for layer in model.layers if isinstance(layer, EncoderLayer)]


@specimen(
    slug="maps-without-mask",
    title="Maps drawn without the mask",
    room="use",
    seen=("a university course's tutorial",),
    chapter="idea/many-heads",
    habit="ask who hears of whom",
)
class MapsWithoutMask:
    """The weights of each layer are asked for with the mask, then the layer is run without it. Layer 1 is right."""

    @staticmethod
    def wrong(model: Encoder, x: Tensor, mask: Padding) -> Maps:
        maps = []
        for layer in layers_of(model):
            _, aux = layer.attention(layer.norm_attention(x), mask=mask, aux=("weights",))
            maps.append(aux.weights)
            x = layer(x)
        return maps

    @staticmethod
    def right(model: Encoder, x: Tensor, mask: Padding) -> Maps:
        with recording(model) as maps:
            model(x, mask=mask)
        return [weights for layer in maps.values() for weights in layer]

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        model, mask, x = encoder(), Padding([3]), randn(1, 6, 8)
        with recording(model) as used:
            model(x, mask=mask)
        true = [weights for layer in used.values() for weights in layer]
        off = [(a - b).abs().max() for a, b in zip(f(model, x, mask), true, strict=True)]
        return {f"layer {i}: farthest from the weights used": row(d.detach()) for i, d in enumerate(off, start=1)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """In each layer rows sum to 1 and padding has no weight; the first layer's padding has no influence."""
        model, mask, x = encoder(), Padding([3]), randn(1, 6, 8)
        for weights in f(model, x, mask):
            assert torch.allclose(weights.sum(-1), torch.ones(1).double()), "a row does not sum to 1"
            assert not weights[..., 3:].any(), "padding has a weight"
        other = x.clone()
        other[:, 3:] = 0.0
        first, again = (f(model, y, mask)[0][:, :, :3] for y in (x, other))
        assert torch.allclose(first, again), "padding changed the first map"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """What stands in the padding changes no map of a real token, in any layer."""
        model, mask, x = encoder(), Padding([3]), randn(1, 6, 8)
        other = x.clone()
        other[:, 3:] = 0.0
        for i, (a, b) in enumerate(zip(f(model, x, mask), f(model, other, mask), strict=True), start=1):
            assert torch.allclose(a[:, :, :3], b[:, :, :3]), (
                f"padding changed the map of layer {i}: mask the stream too"
            )


def mean_of_values(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every query gets the plain mean."""
    return value.mean(2, keepdim=True).expand(*query.shape[:3], -1)


MUTANTS: dict[str, Attend] = {
    "the mean of all values": mean_of_values,
    "the keys, averaged": KeyAsValue.wrong,
    "the wrong root": RootOfHeads.wrong,
    "the first value": lambda query, key, value: value[:, :, :1].expand(*query.shape[:3], -1),
}


def judged(test: Callable[[Attend], None]) -> dict[str, str]:
    """What a test says of the true attention and of each mutant."""
    said = {"the true attention": verdict(test, attention)}
    said |= {f"mutant: {name}": verdict(test, mutant) for name, mutant in MUTANTS.items()}
    return {name: "passes" if says is None else "is rejected" for name, says in said.items()}


@specimen(
    slug="shape-only-test",
    title="A test of shapes",
    room="use",
    seen=("a course's graded cell worth 15 points", "`datawhalechina/llm-algo-leetcode`, chapter 04"),
    chapter="appendix/verify",
    habit="break it on purpose",
)
class ShapeOnlyTest:
    """Shapes are what goes wrong while one writes, so shapes are what one tests. Any average of anything passes."""

    @staticmethod
    def wrong(attend: Attend) -> None:
        query, key = randn(2, 2, 5, 8), randn(2, 2, 7, 8, seed=1)
        out = attend(query, key, torch.ones(2, 2, 7, 8).double())
        assert out.shape == (2, 2, 5, 8), f"the output has shape {tuple(out.shape)}"

    @staticmethod
    def right(attend: Attend) -> None:
        query, key, value = by_hand(heads=2, d=16)
        out = attend(query, key, value)
        assert out.shape == (1, 2, 1, 1), f"the output has shape {tuple(out.shape)}"
        assert torch.allclose(out, torch.tensor(0.75).double()), "the output is not 3/4, as it is by hand"

    @staticmethod
    def does(test: Callable[[Attend], None]) -> dict[str, str]:
        return judged(test)

    @staticmethod
    def hides(test: Callable[[Attend], None]) -> None:
        """It accepts the true attention."""
        assert verdict(test, attention) is None, "a right answer is refused"

    @staticmethod
    def catches(test: Callable[[Attend], None]) -> None:
        """It rejects the mean of all values."""
        assert verdict(test, mean_of_values) is not None, "the mean of all values passed: compare values, not shapes"


@specimen(
    slug="self-comparison",
    title="A test whose expected value is the answer",
    room="use",
    seen=("an exercise of a well-known course, pull request 14", "`stanford-cs336/assignment1-basics#4`"),
    chapter="appendix/verify",
    habit="break it on purpose",
)
class SelfComparison:
    """By a slip of a name or a path, the expected value comes out of the code under test. It is always as expected."""

    @staticmethod
    def wrong(attend: Attend) -> None:
        query, key, value = (randn(2, 2, 5, 8, seed=seed) for seed in range(3))
        expected = attend(query, key, value)
        assert torch.allclose(attend(query, key, value), expected), "the output is not the expected one"

    @staticmethod
    def right(attend: Attend) -> None:
        query, key, value = (randn(2, 2, 5, 8, seed=seed) for seed in range(3))
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        assert torch.allclose(attend(query, key, value), expected), "the output is not torch's"

    @staticmethod
    def does(test: Callable[[Attend], None]) -> dict[str, str]:
        return judged(test)

    @staticmethod
    def hides(test: Callable[[Attend], None]) -> None:
        """It accepts the true attention, in values."""
        assert verdict(test, attention) is None, "a right answer is refused"

    @staticmethod
    def catches(test: Callable[[Attend], None]) -> None:
        """It rejects each of four mutants."""
        passed = [name for name, mutant in MUTANTS.items() if verdict(test, mutant) is None]
        assert not passed, (
            f"{len(passed)} of {len(MUTANTS)} wrong functions pass: the expected value must come from elsewhere"
        )
