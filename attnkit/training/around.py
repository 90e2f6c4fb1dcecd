"""What is put around a training loop or an evaluation: a progress bar, a gentle Ctrl-C, a look that changes nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, no_type_check

import torch
from torch import nn
from torch.optim import Optimizer

from attnkit._optional import require
from attnkit.training.randomness import undisturbed


@contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, random generators undisturbed; each module's mode is put back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), undisturbed():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def progress_bar(wanted: bool, steps: int | None) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A tqdm bar that shows loss and gradient norm, or nothing."""
    if not wanted:
        yield lambda measured: None
        return
    with require("tqdm.auto", extra="models").tqdm(total=steps, unit="step") as bar:

        def tick(measured: Mapping[str, float]) -> None:
            bar.set_postfix(loss=f"{measured['loss']:.4g}", norm=f"{measured['gradient_norm']:.3g}", refresh=False)
            bar.update()

        yield tick


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C only sets a flag, so that no update is left half done; the second is an ordinary one."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield lambda: False
        return

    def remember(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@no_type_check
def check_trainer(model: nn.Module, optimizer: Optimizer, accumulate: int, clip: float | None) -> None:
    """Refuse what a trainer cannot be made of."""
    own = {id(parameter) for parameter in model.parameters()}
    if not own:
        raise ValueError("model has no parameters, so there is nothing to train")
    if not all(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("optimizer holds parameters that are not the model's; build it from this model's parameters")
    if not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"accumulate is {accumulate!r}; it counts micro-batches, so it must be an integer, 1 or more")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip!r}; it is the largest norm of the gradient, so it must be above 0, or None")
