"""What a training run measured, update by update: to look at, to plot, to keep in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

COLUMNS = ("loss", "learning_rate", "gradient_norm", "tokens")


@dataclass
class History:
    """One entry for each update made: `loss` per token, `learning_rate`, `gradient_norm` before clipping, `tokens`.

    `evaluations` maps a step to what the evaluation after it gave; `interrupted` says that the last `fit` was stopped
    by hand. Step s stands at index s - 1.

    >>> history = History()
    >>> history.add(loss=2.5, learning_rate=0.1, gradient_norm=1.0, tokens=8)
    >>> len(history), history.loss
    (1, [2.5])
    """

    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.loss)

    def add(self, **values: float | int) -> None:
        """One more update."""
        for name in COLUMNS:
            getattr(self, name).append(values[name])

    def plot(self, *names: str, log: str = "") -> Any:
        """A figure (`attnkit.viz.lines`) of the columns and evaluations named; of the loss when none is.

        An evaluation's name is the one that the evaluation gave it. `log` is "", "x", "y" or "xy".
        """
        from attnkit import viz

        names = names or ("loss",)
        series = {name: self._series(name) for name in names}
        steps = [step for step in range(1, len(self) + 1) if all(step in values for values in series.values())]
        if not steps:
            raise ValueError(f"there is no step at which {' and '.join(names)} were all measured")
        return viz.lines(
            steps,
            {name: [values[step] for step in steps] for name, values in series.items()},
            alt=f"{' and '.join(names)} over {len(steps)} of {len(self)} updates; "
            + ", ".join(f"{name} ends at {values[steps[-1]]:.3g}" for name, values in series.items()),
            xlabel="update",
            ylabel=", ".join(names),
            log=log,
        )

    def _series(self, name: str) -> Mapping[int, float]:
        """Step to value."""
        if name in COLUMNS:
            return dict(enumerate(getattr(self, name), 1))
        found = {step: values[name] for step, values in self.evaluations.items() if name in values}
        if not found:
            known = [*COLUMNS, *sorted({key for values in self.evaluations.values() for key in values})]
            raise ValueError(f"nothing was measured under the name {name!r}; there are {', '.join(known)}")
        return found

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: columns as tensors, exact."""
        columns = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in COLUMNS[:3]}
        return {**columns, "tokens": torch.tensor(self.tokens, dtype=torch.int64), "evaluations": self.evaluations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in COLUMNS:
            setattr(self, name, state[name].tolist())
        self.evaluations = {step: dict(values) for step, values in state["evaluations"].items()}
        self.interrupted = False
