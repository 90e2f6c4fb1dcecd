"""The loop against a loop written out by hand; accumulation, clipping, precision, interruption, evaluation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnkit.training import CrossEntropy, NonFinite, Total, Trainer, cosine, noam
from tests.training.tools import RAGGED, Model, same_weights


def sgd(model: nn.Module, rate: float = 0.5) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)


def make(**options: Any) -> Trainer:
    model = Model(dropout=options.pop("dropout", 0.0))
    loss = options.pop("loss", CrossEntropy())
    return Trainer(model, loss, options.pop("optimizer", sgd)(model), **options)


def test_it_is_the_loop_one_would_write() -> None:
    """Ten updates against torch's own loss, clipping, optimizer and schedule."""
    trainer, batches = make(schedule=cosine(10, 3), clip=0.3), RAGGED[:3]
    model = deepcopy(trainer.model)
    optimizer = sgd(model)
    by_hand: dict[str, list[float]] = {"loss": [], "norm": [], "rate": []}
    for step in range(1, 11):
        ids, targets = batches[(step - 1) % 3]
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * cosine(10, 3)(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad *= min(1.0, 0.3 / float(norm))
        optimizer.step()
        for name, value in (("loss", loss.detach()), ("norm", norm), ("rate", optimizer.param_groups[0]["lr"])):
            by_hand[name].append(float(value))
    history = trainer.fit(batches, steps=10, progress=False)
    assert same_weights(trainer.model, model, 1e-12)
    assert history.loss == pytest.approx(by_hand["loss"], abs=1e-12)
    assert history.gradient_norm == pytest.approx(by_hand["norm"], abs=1e-12)
    assert history.learning_rate == pytest.approx(by_hand["rate"], abs=1e-15)
    assert history.tokens == [int((batches[i % 3][1] != -100).sum()) for i in range(10)]
    assert max(by_hand["norm"]) > 0.3, "it did clip"
    assert trainer.step == len(history) == 10


@pytest.mark.parametrize("k", [2, 3, 4])
def test_micro_batches_are_one_large_batch(k: int) -> None:
    """Of unequal token counts, one of them with none at all; a mean of means is far off."""
    micro = RAGGED[:k]
    counts = [int((targets != -100).sum()) for _, targets in micro]
    assert len(set(counts)) == k
    whole = tuple(torch.cat(parts) for parts in zip(*micro, strict=True))
    many, one = make(accumulate=k), make()
    many.fit(micro, steps=5, progress=False)
    one.fit([whole], steps=5, progress=False)
    assert same_weights(many.model, one.model, 1e-12)
    assert many.history.loss == pytest.approx(one.history.loss, abs=1e-12)
    assert many.history.gradient_norm == pytest.approx(one.history.gradient_norm, abs=1e-12)
    assert many.history.tokens == one.history.tokens == [sum(counts)] * 5
    naive = make(accumulate=k, loss=lambda model, batch: (CrossEntropy()(model, batch).mean, 1))
    naive.fit(micro, steps=5, progress=False)
    assert not same_weights(naive.model, one.model, 1e-3)


def test_the_order_of_micro_batches_does_not_matter_even_with_an_empty_one_first() -> None:
    trainers = [make(accumulate=4), make(accumulate=4)]
    for trainer, order in zip(trainers, (RAGGED[:4], RAGGED[3::-1]), strict=True):
        trainer.fit(order, steps=3, progress=False)
    assert int((RAGGED[3][1] != -100).sum()) == 0
    assert same_weights(trainers[0].model, trainers[1].model, 1e-12)


def test_the_gradient_is_clipped_to_the_norm_and_the_true_norm_reported() -> None:
    class Spy(torch.optim.SGD):
        norms: list[float] = []  # noqa: RUF012 - the test reads it

        def step(self, closure: Any = None) -> None:
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            self.norms.append(float(nn.utils.get_total_norm(grads)))
            super().step(closure)

    trainer = make(clip=0.2, optimizer=lambda model: Spy(model.parameters(), lr=0.1))
    history = trainer.fit(RAGGED[:2], steps=6, progress=False)
    assert Spy.norms == pytest.approx([min(norm, 0.2) for norm in history.gradient_norm], abs=1e-12)
    assert max(history.gradient_norm) > 0.2


def test_two_fits_are_one_and_a_pass_is_a_pass() -> None:
    parts, whole = make(dropout=0.3, seed=1, accumulate=2), make(dropout=0.3, seed=1, accumulate=2)
    whole.fit(RAGGED, steps=7, progress=False)
    parts.fit(RAGGED, steps=3, progress=False)
    parts.fit(RAGGED, steps=4, progress=False)
    assert same_weights(parts.model, whole.model, 0.0)
    trainer = make(accumulate=2)
    trainer.fit(RAGGED, progress=False)
    assert trainer.step == 3, "five batches, two at a time, and the last alone"
    assert trainer.history.tokens[-1] == int((RAGGED[4][1] != -100).sum())
    trainer.fit(RAGGED, progress=False)
    assert trainer.step == 6


def test_batches_that_end_are_refused_only_when_more_are_wanted() -> None:
    trainer = make()
    trainer.fit(iter(RAGGED[:3]), progress=False)
    assert trainer.step == 3
    with pytest.raises(ValueError, match="batches is empty, or an iterator that is used up"):
        trainer.fit(iter(RAGGED[:3]), steps=4, progress=False)
    assert trainer.step == 6


@pytest.mark.parametrize("where", ["signal", "raised"])
def test_ctrl_c_leaves_whole_updates_and_fit_goes_on(where: str) -> None:
    """With a signal during the third update, that update is finished; nothing of the run is lost."""
    calls = [0]

    def loss(model: nn.Module, batch: Any) -> Total:
        calls[0] += 1
        if calls[0] == 6:  # the second micro-batch of the third update
            if where == "raised":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)
        return CrossEntropy()(model, batch)

    before = signal.getsignal(signal.SIGINT)
    trainer, straight = make(loss=loss, accumulate=2), make(accumulate=2)
    batches = RAGGED[:2]
    history = trainer.fit(batches, steps=8, progress=False)
    assert history.interrupted
    assert trainer.step == (3 if where == "signal" else 2)
    assert all(p.grad is None for p in trainer.model.parameters()), "nothing half accumulated is left"
    assert signal.getsignal(signal.SIGINT) is before
    trainer.fit(batches, steps=8 - trainer.step, progress=False)
    assert not trainer.history.interrupted
    straight.fit(batches, steps=8, progress=False)
    assert same_weights(trainer.model, straight.model, 0.0)


def test_a_second_ctrl_c_is_not_held_back() -> None:
    def loss(model: nn.Module, batch: Any) -> Total:
        os.kill(os.getpid(), signal.SIGINT)
        return CrossEntropy()(model, batch)

    trainer = make(loss=loss, accumulate=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(RAGGED[:2], steps=8, progress=False)
    assert trainer.step == 0
    assert trainer.history.interrupted


def spoiled(at: int, spoil: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any], Total]:
    """A loss that is spoiled at one call."""
    calls = iter(range(1, 1000))

    def loss(model: nn.Module, batch: Any) -> Total:
        total = CrossEntropy()(model, batch)
        return Total(spoil(total.sum), total.tokens) if next(calls) == at else total

    return loss


class Explodes(torch.autograd.Function):
    """The identity, with an infinite gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("inf")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * float("nan"), "step 3: the loss is nan; model and optimizer are as after step 2"),
        (lambda x: x + float("inf"), "step 3: the loss is inf"),
        (Explodes.apply, r"step 3: the loss is \d.*, but its gradient is not: embed.weight, hidden.weight"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_names_the_step_and_spoils_nothing(spoil: Any, message: str) -> None:
    trainer, straight = make(loss=spoiled(3, spoil)), make()
    with pytest.raises(NonFinite, match=message):
        trainer.fit(RAGGED[:1], steps=5, progress=False)
    assert issubclass(NonFinite, FloatingPointError)
    straight.fit(RAGGED[:1], steps=2, progress=False)
    assert same_weights(trainer.model, straight.model, 0.0)
    trainer.fit(RAGGED[:1], steps=3, progress=False)
    straight.fit(RAGGED[:1], steps=3, progress=False)
    assert same_weights(trainer.model, straight.model, 0.0)


def test_an_update_with_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="step 1: no token counts"):
        make().fit(RAGGED[3:4], steps=1, progress=False)


def test_it_learns() -> None:
    trainer = make(optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=1.0), schedule=noam(16, 10))
    batches = RAGGED[:3]
    first = trainer.evaluate(batches)["perplexity"]
    trainer.fit(batches, steps=60, progress=False)
    assert trainer.evaluate(batches)["perplexity"] < 2 < 8 < first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate is 0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"precision": "float8"}, "precision is 'float8'; it must be one of auto, float32, bfloat16, float16"),
        ({"optimizer": lambda model: sgd(Model())}, "optimizer holds parameters that are not the model's"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_wrong_calls_are_named() -> None:
    with pytest.raises(ValueError, match="steps is -1"):
        make().fit(RAGGED, steps=-1)
    with pytest.raises(ValueError, match="every is 0"):
        make().fit(RAGGED, every=0)
    with pytest.raises(TypeError, match=r"loss returned a Tensor; it must return \(sum over tokens"):
        make(loss=lambda model, batch: model(batch[0]).mean()).fit(RAGGED, steps=1, progress=False)
    with pytest.raises(ValueError, match="model has no parameters"):
        Trainer(nn.Identity(), CrossEntropy(), sgd(Model()))
    with pytest.raises(ValueError, match="batches holds nothing to evaluate"):
        make().evaluate([])
