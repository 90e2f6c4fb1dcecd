"""What stands around the updates: precision, evaluation, logs, progress bar, plot, TensorBoard, optional packages."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from attnkit.training import CrossEntropy, NonFinite, TensorBoard, Total, Trainer, perplexity
from attnkit.training.precision import Precision
from attnkit.training.source import to_device
from tests.training.tools import RAGGED, Model, same_weights


def make(model: nn.Module | None = None, **options: Any) -> Trainer:
    model = model or Model(dropout=0.3)
    loss = options.pop("loss", CrossEntropy())
    return Trainer(model, loss, torch.optim.SGD(model.parameters(), lr=0.5), **{"seed": 3, **options})


def test_looking_at_the_model_changes_nothing_of_its_training() -> None:
    """An evaluation that draws numbers and uses dropout's module leaves the run as it would have been."""
    modes: list[bool] = []

    def nosy(model: nn.Module) -> dict[str, float]:
        modes.append(model.training)
        assert not torch.is_grad_enabled()
        torch.randn(7)
        return {"accuracy": 0.25 * len(modes)}

    model = Model(dropout=0.3)
    looked, plain = make(model), make()
    seen: list[tuple[int, Any]] = []
    looked.log = lambda step, values: seen.append((step, dict(values)))
    history = looked.fit(RAGGED[:3], steps=9, evaluate=nosy, every=4, progress=False)
    plain.fit(RAGGED[:3], steps=9, progress=False)
    assert same_weights(looked.model, plain.model, 0.0)
    assert modes == [False, False]
    assert model.training
    assert history.evaluations == {4: {"accuracy": 0.25}, 8: {"accuracy": 0.5}}
    assert (8, {"evaluation/accuracy": 0.5}) in seen
    updates = [(step, values) for step, values in seen if "loss" in values]
    assert [step for step, _ in updates] == list(range(1, 10))
    assert [values["loss"] for _, values in updates] == history.loss


def test_each_module_gets_its_own_mode_back() -> None:
    model = Model(dropout=0.3)
    model.drop.eval()
    make(model).evaluate(RAGGED)
    assert (model.training, model.drop.training) == (True, False)


def test_evaluation_is_the_loss_over_all_tokens() -> None:
    trainer = make()
    found = trainer.evaluate(RAGGED, CrossEntropy())
    trainer.model.eval()
    with torch.no_grad():
        parts = [CrossEntropy()(trainer.model, batch) for batch in RAGGED]
    whole = Total(sum(p.sum for p in parts), sum(int(p.tokens) for p in parts))
    assert found["loss"] == pytest.approx(float(whole.mean), abs=1e-12)
    assert found["perplexity"] == pytest.approx(perplexity(whole), rel=1e-12)


def test_callbacks_are_called_after_each_update_and_may_stop_it() -> None:
    steps: list[int] = []

    def watch(trainer: Trainer) -> None:
        steps.append(trainer.step)

    trainer = make()
    trainer.fit(RAGGED[:3], steps=9, callbacks=[lambda trainer: trainer.step == 4, watch], progress=False)
    assert steps == [1, 2, 3, 4], "the one that stops does not keep the others from being called"


class Watched(Model):
    """Notes the dtype in which its layer computes."""

    seen: torch.dtype | None = None

    def forward(self, ids: Tensor) -> Tensor:
        logits = super().forward(ids)
        self.seen = logits.dtype
        return logits


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_cpu_computes_in_float32_unless_asked(precision: str, dtype: torch.dtype) -> None:
    model = Watched(dtype=torch.float32)
    trainer = make(model, precision=precision)
    trainer.fit(RAGGED[:3], steps=30, progress=False)
    assert model.seen == dtype
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert trainer.history.loss[-1] < trainer.history.loss[0] / 2
    assert trainer.precision.scaler.is_enabled() == (precision == "float16")


@pytest.mark.parametrize(
    ("kind", "bf16", "name"),
    [("cuda", True, "bfloat16"), ("cuda", False, "float16"), ("cpu", True, "float32"), ("mps", True, "float32")],
)
def test_auto_takes_what_the_device_has(kind: str, bf16: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: (device, enabled))
    precision = Precision("auto", torch.device(kind))
    assert (precision.name, precision.scaler) == (name, (kind, name == "float16"))


def test_an_overflow_in_float16_is_skipped_and_costs_no_step() -> None:
    """A loss of the size 1e4 overflows under the first scale of 65536, until the scale has come down."""
    model = Model(dtype=torch.float32)
    batches = 0

    def loss(model: nn.Module, batch: Any) -> Total:
        nonlocal batches
        batches += 1
        logits = model(batch[0])  # its gradient is float16's
        return Total(1e4 * logits.float().square().mean(), 1)

    trainer = make(model, precision="float16", loss=loss, clip=0.1)
    history = trainer.fit(RAGGED[:1], steps=3, progress=False)
    assert trainer.precision.scaler.get_scale() < 65536
    assert trainer.step == len(history) == 3
    assert batches > 3, "some were skipped"
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(norm < float("inf") for norm in history.gradient_norm)


def test_float16_gives_up_when_no_scale_helps() -> None:
    def loss(model: nn.Module, batch: Any) -> Total:
        logits = model(batch[0]).float()
        return Total((logits * 0).abs().sqrt().sum(), 1)  # a finite loss with an infinite slope

    with pytest.raises(NonFinite, match=r"step 1: the gradient is not finite, whatever its scale: embed\.weight"):
        make(Model(dtype=torch.float32), precision="float16", loss=loss).fit(RAGGED[:1], steps=3, progress=False)


def test_gradients_are_the_same_whatever_the_scale_of_float16() -> None:
    """Clipping sees unscaled gradients: the norms are those of float32, within float16's precision."""
    norms = []
    for precision in ("float32", "float16"):
        trainer = make(Model(dtype=torch.float32), precision=precision, accumulate=2, clip=0.1)
        norms.append(trainer.fit(RAGGED[:2], steps=5, progress=False).gradient_norm)
    assert norms[1] == pytest.approx(norms[0], rel=5e-3)


def test_the_progress_bar_shows_loss_and_norm(capsys: pytest.CaptureFixture[str]) -> None:
    make().fit(RAGGED[:3], steps=3)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown
    assert "norm=" in shown
    make().fit(RAGGED[:3], steps=3, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("tqdm", lambda folder: make().fit(RAGGED[:3], steps=1), "models"),
        ("tensorboard", TensorBoard, "tensorboard"),
    ],
)
def test_a_missing_package_is_named_with_the_cure(
    missing: str, call: Any, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [_Refuses(missing), *sys.meta_path])
    with pytest.raises(ImportError, match=rf'package {missing}: pip install "attnkit\[{extra}\]"'):
        call(tmp_path)


class _Refuses:
    """An import hook that says that a package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorBoard(tmp_path) as log:
        trainer = make(log=log)
        history = trainer.fit(RAGGED[:3], steps=6, evaluate=lambda model: {"accuracy": 0.5}, every=3, progress=False)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name, column in (("loss", history.loss), ("gradient_norm", history.gradient_norm)):
        scalars = events.Scalars(name)
        assert [event.step for event in scalars] == [1, 2, 3, 4, 5, 6]
        assert [event.value for event in scalars] == pytest.approx(column, rel=1e-6)
    assert [(event.step, event.value) for event in events.Scalars("evaluation/accuracy")] == [(3, 0.5), (6, 0.5)]


def test_a_history_can_be_plotted() -> None:
    trainer = make()
    history = trainer.fit(RAGGED[:3], steps=6, evaluate=lambda model: {"accuracy": 0.5}, every=3, progress=False)
    figure = history.plot("loss", "gradient_norm", log="y")
    assert "6 of 6 updates" in figure.alt
    assert len(history.plot("loss", "accuracy").data.rows) == 2
    with pytest.raises(ValueError, match=r"nothing was measured under the name 'acuracy'; there are loss, .*accuracy"):
        history.plot("acuracy")


def test_fit_works_outside_the_main_thread() -> None:
    """Where no signal can be caught, and none arrives."""
    trainer = make()
    thread = threading.Thread(target=lambda: trainer.fit(RAGGED[:3], steps=2, progress=False))
    thread.start()
    thread.join()
    assert trainer.step == 2


def test_batches_of_any_form_go_to_the_device() -> None:
    class Pair(NamedTuple):
        a: Tensor
        b: Any

    x = torch.ones(2)
    moved = to_device({"pair": Pair(x, [x, "text"]), "more": (x, 3)}, torch.device("meta"))
    assert type(moved["pair"]) is Pair
    tensors = [moved["pair"].a, moved["pair"].b[0], moved["more"][0]]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert (moved["pair"].b[1], moved["more"][1]) == ("text", 3)
