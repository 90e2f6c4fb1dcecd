"""The training loop: accumulate, scale, clip, update, schedule, measure. Read `Trainer._update` first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from attnkit.training.around import check_trainer, interrupts, looking, progress_bar
from attnkit.training.history import History
from attnkit.training.losses import Total, perplexity
from attnkit.training.optim import load_exactly
from attnkit.training.precision import Precision
from attnkit.training.randomness import random_state, restore_random_state, seed_all
from attnkit.training.schedules import Schedule, scheduler
from attnkit.training.source import Source, to_device

Loss = Callable[[nn.Module, Any], tuple[Tensor, Any]]  # (model, batch) -> Total, or any (sum, tokens)
Log = Callable[[int, Mapping[str, float]], None]
Callback = Callable[["Trainer"], Any]

PATIENCE = 40  # updates skipped in a row before float16 is given up: 2^-40 of the first scale does not help either


class NonFinite(FloatingPointError):
    """A loss or a gradient became infinite or NaN. The update was not made: model and optimizer are as before it."""


class Trainer:
    """Trains any module with any loss of the form `(model, batch) -> (sum over tokens, number of tokens)`.

    - `schedule`: step, from 1 -> factor of the optimizer's rate (`attnkit.training.schedules`).
    - `accumulate`: k micro-batches make one update, whose gradient is that of the mean over all their tokens, as if
      they were one batch: not the mean of k means, which would weigh the tokens of a short micro-batch more.
    - `clip`: the largest global norm of the gradient (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1).
    - `precision`: see `Precision`. `device`: where to train; by default where the model is.
    - `seed`: seeds torch, Python and NumPy when the first `fit` begins, for what training draws, such as dropout. The
      weights have been drawn before.
    - `log`: called as `log(step, {"loss": ..., "learning_rate": ..., "gradient_norm": ..., "tokens": ...})`.

    `step` counts the updates made; `history` keeps what they measured.

    >>> from attnkit.training.losses import CrossEntropy
    >>> model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))
    >>> trainer = Trainer(model, CrossEntropy(), torch.optim.Adam(model.parameters(), lr=0.1), seed=0)
    >>> batch = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[1, 2, 3, 4]])
    >>> history = trainer.fit([batch], steps=50, progress=False)
    >>> trainer.step, history.loss[-1] < 0.1
    (50, True)
    """

    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: LambdaLR | None
    accumulate: int
    clip: float | None
    precision: Precision
    device: torch.device
    log: Log | None
    step: int
    history: History
    _source: Source | None
    _resumed: dict[str, Any] | None
    _seed: int | None

    @no_type_check
    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        schedule: Schedule | None = None,
        accumulate: int = 1,
        clip: float | None = None,
        precision: str = "auto",
        device: torch.device | str | None = None,
        seed: int | None = None,
        log: Log | None = None,
    ) -> None:
        check_trainer(model, optimizer, accumulate, clip)
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.model, self.loss, self.optimizer = model.to(self.device), loss, optimizer
        self.accumulate, self.clip, self.log = accumulate, clip, log
        self.precision = Precision(precision, self.device)
        self.schedule = None if schedule is None else scheduler(optimizer, schedule)
        self.step, self.history = 0, History()
        self._source, self._resumed = None, None
        self._seed = seed

    def fit(
        self,
        batches: Iterable[Any],
        *,
        steps: int | None = None,
        evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        every: int = 100,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> History:
        """Make `steps` more updates; without `steps`, as many as one pass over `batches` gives.

        Called again with the same `batches` object it goes on where it stopped: two fits of 10 are one fit of 20.
        `evaluate(model)` is called after every `every` updates, in eval mode, without gradients and without disturbing
        the random generators; what it returns goes to the history and to `log`. Each of `callbacks` is called with the
        trainer after every update, and stops the training by returning True.

        Ctrl-C finishes the update under way and returns; `fit` can be called again. A second Ctrl-C raises.
        Raises NonFinite, naming the step, when a loss or gradient is not finite.
        """
        if steps is not None and steps < 0:
            raise ValueError(f"steps is {steps}; it must be 0 or more, or None for one pass over batches")
        if every < 1:
            raise ValueError(f"every is {every}; it counts updates, so it must be 1 or more")
        if self._seed is not None:
            seed_all(self._seed)
            self._seed = None
        source = self._position(batches)
        self.history.interrupted = False
        self.model.train()
        with progress_bar(progress, steps) as tick, interrupts() as interrupted:
            try:
                for measured in self._updates(source, steps):
                    tick(measured)
                    if evaluate is not None and self.step % every == 0:
                        self._evaluate(evaluate)
                    stops = [callback(self) is True for callback in callbacks]
                    if any(stops) or interrupted():
                        break
                self.history.interrupted = interrupted()
            except KeyboardInterrupt:  # raised by the loss, the batches or a callback, or by hand a second time
                self.history.interrupted = True
                if interrupted():
                    raise
            finally:
                self.model.zero_grad()
        return self.history

    def evaluate(self, batches: Iterable[Any], loss: Loss | None = None) -> dict[str, float]:
        """The loss per token and the perplexity over `batches`, in eval mode.

        Give a `loss` where that of the training is smoothed. During training:
        `fit(..., evaluate=lambda model: trainer.evaluate(held_out, CrossEntropy()))`.
        """
        total, count = 0.0, 0
        with looking(self.model):
            for batch in batches:
                part, tokens = self._total(loss or self.loss, batch)
                total, count = total + float(part), count + int(tokens)
        if not count:
            raise ValueError("batches holds nothing to evaluate: there is not one token that counts in it")
        whole = Total(torch.tensor(total, dtype=torch.float64), count)
        return {"loss": float(whole.mean), "perplexity": perplexity(whole)}

    def _updates(self, source: Source, steps: int | None) -> Iterator[dict[str, float]]:
        """Updates, one at a time: `steps` of them, or to the end of the pass. Those that float16 skips do not count."""
        goal, skipped = None if steps is None else self.step + steps, 0
        while self.step != goal and (micro := source.take(self.accumulate, endless=steps is not None)):
            measured = self._update(micro)
            skipped = 0 if measured else skipped + 1
            if measured:
                yield measured
            elif skipped == PATIENCE:
                raise NonFinite(
                    f"step {self.step + 1}: the gradient is not finite, whatever its scale: {self._blame()}"
                )
            if len(micro) < self.accumulate:  # the pass has ended
                return

    def _update(self, micro: list[Any]) -> dict[str, float] | None:
        """Micro-batches in, one step of the optimizer out; None when float16 overflowed and the step was skipped."""
        self.model.zero_grad()
        scaler, totals = self.precision.scaler, []
        for batch in micro:
            total = self._total(self.loss, batch)
            totals.append(Total(total.sum.detach(), total.tokens))
            # The number of tokens of the whole update is not known yet: divide by those of the first micro-batch, which
            # keeps the magnitudes of a mean, and put it right below.
            scaler.scale(total.sum / _least(totals[0].tokens)).backward()
        whole = totals[0]
        for part in totals[1:]:
            whole = Total(whole.sum + part.sum, whole.tokens + part.tokens)
        loss = self._loss(whole)
        scaler.unscale_(self.optimizer)
        if len(micro) > 1:
            for gradient in self._gradients():
                gradient.mul_(int(_least(totals[0].tokens)) / int(whole.tokens))
        norm = float(nn.utils.get_total_norm(self._gradients()))
        if not norm < float("inf"):
            if not scaler.is_enabled():
                raise NonFinite(
                    f"step {self.step + 1}: the loss is {loss:.4g}, but its gradient is not: {self._blame()}"
                )
            scaler.update(scaler.get_scale() / 2)
            return None
        if self.clip is not None and norm > self.clip:
            for gradient in self._gradients():
                gradient.mul_(self.clip / norm)
        return self._advance(loss, norm, int(whole.tokens))

    def _advance(self, loss: float, norm: float, tokens: int) -> dict[str, float]:
        """The update itself, and its record."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        if self.schedule is not None:
            self.schedule.step()
        self.step += 1
        measured = {"loss": loss, "learning_rate": rate, "gradient_norm": norm, "tokens": tokens}
        self.history.add(**measured)
        if self.log is not None:
            self.log(self.step, measured)
        return measured

    def _loss(self, whole: Total) -> float:
        """The loss per token of the update, checked."""
        if int(whole.tokens) == 0:
            raise ValueError(f"step {self.step + 1}: no token counts, every target of its batches is ignored")
        loss = float(whole.mean)
        if not abs(loss) < float("inf"):
            raise NonFinite(
                f"step {self.step + 1}: the loss is {loss}; model and optimizer are as after step {self.step}"
            )
        return loss

    def _total(self, loss: Loss, batch: Any) -> Total:
        """The loss of a batch, on the device and in the precision of the training."""
        with self.precision.autocast():
            total = loss(self.model, to_device(batch, self.device))
        if not isinstance(total, tuple) or len(total) != 2:
            raise TypeError(
                f"loss returned a {type(total).__name__}; it must return (sum over tokens, number of tokens)"
            )
        return Total(*total)

    def _gradients(self) -> list[Tensor]:
        groups = self.optimizer.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]

    def _blame(self) -> str:
        """Which parameters have a gradient that is not finite."""
        bad = [n for n, p in self.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        return ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "") or "none alone, only together"

    def _evaluate(self, evaluate: Callable[[nn.Module], Mapping[str, float]]) -> None:
        with looking(self.model):
            found = {name: float(value) for name, value in evaluate(self.model).items()}
        self.history.evaluations[self.step] = found
        if self.log is not None:
            self.log(self.step, {f"evaluation/{name}": value for name, value in found.items()})

    def _position(self, batches: Iterable[Any]) -> Source:
        """The source of these batches: that of the last fit if they are the same, at the checkpoint's place if any."""
        if self._source is None or self._source.batches is not batches:
            self._source = Source(batches)
        if self._resumed is not None:
            if self._resumed["source"] is not None:
                self._source.load_state_dict(self._resumed["source"])
            restore_random_state(self._resumed["random"])  # again: finding the place may have drawn numbers
            self._resumed = None
        return self._source

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, but for the model's weights."""
        waiting = self._resumed and self._resumed["source"]  # resumed, and not yet given its batches
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "random": random_state(),
            "source": waiting if self._source is None else self._source.state_dict(),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there. The place in the batches is found when `fit` is given them."""
        if (state["schedule"] is None) != (self.schedule is None):
            had, has = ("no schedule", "one") if state["schedule"] is None else ("a schedule", "none")
            raise ValueError(f"the state was written with {had}; this trainer has {has}")
        load_exactly(self.optimizer, state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.precision.scaler.is_enabled() and state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.history.load_state_dict(state["history"])
        self.step, self._source, self._seed = state["step"], None, None
        self._resumed = {"source": state["source"], "random": state["random"]}
        restore_random_state(state["random"])


def _least(tokens: Any) -> Any:
    """A number to divide by: at least 1."""
    return tokens.clamp(min=1) if isinstance(tokens, Tensor) else max(tokens, 1)
