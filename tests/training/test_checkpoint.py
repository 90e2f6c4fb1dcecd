"""A run that was resumed gives the bytes of one that never stopped; what does not fit, or is damaged, is refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from attnkit.training import (
    Checkpoints,
    CrossEntropy,
    Damaged,
    Trainer,
    average_checkpoints,
    cosine,
    latest,
    resume,
    save,
)
from attnkit.training import checkpoint as module
from attnkit.training.tree import flatten, unflatten
from tests.training.resumed_run import batches, run, trainer
from tests.training.tools import RAGGED, Model, same_weights


def tensors_of(path: Path) -> dict[str, bytes]:
    """Every tensor of a checkpoint as bytes: weights, averages, generators, losses."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    return {name: tensor.reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in tensors.items()}


def body_of(path: Path) -> dict[str, Any]:
    return module.read(path)[1]


def small(folder: Path, steps: int = 2, **options: Any) -> Trainer:
    """A trained little trainer, saved as `folder/a.safetensors`."""
    model = Model()
    made = Trainer(model, CrossEntropy(), torch.optim.AdamW(model.parameters(), lr=0.1), **options)
    made.fit(RAGGED[:3], steps=steps, progress=False)
    save(made, folder / "a.safetensors")
    return made


@pytest.mark.slow
def test_a_run_resumed_in_another_process_is_the_run_that_never_stopped(tmp_path: Path, root: Path) -> None:
    """20 steps = 10 + save + new process + resume + 10; 12 batches an epoch and 3 an update, so that epochs turn."""
    (tmp_path / "whole").mkdir()
    command = [sys.executable, "-m", "tests.training.resumed_run"]
    for folder, start, end in (("whole", 0, 20), ("parts", 0, 10), ("parts", 10, 20)):
        subprocess.run([*command, str(tmp_path / folder), str(start), str(end)], cwd=root, check=True)
    whole, parts = (tmp_path / folder / "20.safetensors" for folder in ("whole", "parts"))
    assert tensors_of(whole) == tensors_of(parts)
    assert body_of(whole) == body_of(parts)
    losses = module.read(whole)[0]["trainer.history.loss"]
    assert len(losses) == 20
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("stop", [1, 4, 13])
def test_a_run_resumed_with_new_objects_is_the_run_that_never_stopped(stop: int, tmp_path: Path) -> None:
    """After 4 updates of 3 batches the epoch of 13 is nearly over; after 13 it is over just then."""
    whole = run(tmp_path, 0, 16)
    straight = tensors_of(tmp_path / "16.safetensors")
    run(tmp_path, 0, stop)
    parts = run(tmp_path, stop, 16)
    assert len(batches()) == 13
    assert tensors_of(tmp_path / "16.safetensors") == straight
    assert parts.history.loss == whole.history.loss
    assert parts.step == 16


@pytest.mark.parametrize("forgotten", ["random", "source", "optimizer", "schedule", "step"])
def test_every_part_of_the_state_is_needed(forgotten: str, tmp_path: Path) -> None:
    """The test above can fail: with one part left as it was at the start, the bytes differ."""
    whole = run(tmp_path, 0, 10)
    fresh = trainer()
    fresh.fit(batches(), steps=0, progress=False)
    initial = fresh.state_dict()
    run(tmp_path, 0, 5)
    parts = resume(trainer(), tmp_path / "5.safetensors")
    parts.load_state_dict({**parts.state_dict(), forgotten: initial[forgotten]})
    parts.fit(batches(), steps=5, progress=False)
    same = same_weights(parts.model, whole.model, 0.0) and parts.step == whole.step
    assert not same


@pytest.mark.parametrize("kind", ["list", "loader"])
def test_batches_without_a_state_are_found_again_by_counting(kind: str, tmp_path: Path) -> None:
    def data() -> Any:
        return RAGGED[:3] if kind == "list" else torch.utils.data.DataLoader(RAGGED[:3], batch_size=None)

    def new() -> Trainer:
        model = Model(dropout=0.3)
        return Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.5), seed=2, accumulate=2)

    whole, first = new(), new()
    whole.fit(data(), steps=10, progress=False)
    first.fit(data(), steps=4, progress=False)
    second = resume(new(), save(first, tmp_path / "a.safetensors"))
    save(second, tmp_path / "b.safetensors")  # before it is given its batches, the place is still kept
    third = resume(new(), tmp_path / "b.safetensors")
    third.fit(data(), steps=6, progress=False)
    assert same_weights(third.model, whole.model, 0.0)
    with pytest.raises(ValueError, match=r"batches is a Buckets, with a state_dict; .* of the other kind"):
        resume(new(), tmp_path / "b.safetensors").fit(batches(), steps=1, progress=False)


def test_float16_scale_is_resumed(tmp_path: Path) -> None:
    model = Model(dtype=torch.float32)
    made = Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.1), precision="float16")
    made.fit(RAGGED[:1], steps=1, progress=False)
    made.precision.scaler.update(1024.0)
    path = save(made, tmp_path / "a.safetensors")
    model = Model(dtype=torch.float32)
    other = Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.1), precision="float16")
    assert resume(other, path).precision.scaler.get_scale() == 1024


def test_a_tied_tensor_is_stored_once_and_stays_tied(tmp_path: Path) -> None:
    made = small(tmp_path)
    body = body_of(tmp_path / "a.safetensors")
    stored = [name for name in tensors_of(tmp_path / "a.safetensors") if name.startswith("model.")]
    assert sorted(stored) == ["model.embed.weight", "model.hidden.bias", "model.hidden.weight", "model.scale"]
    assert body["aliases"] == {"head.weight": "embed.weight"}
    model = Model()
    new = Trainer(model, CrossEntropy(), torch.optim.AdamW(model.parameters(), lr=0.1))
    resume(new, tmp_path / "a.safetensors")
    assert same_weights(new.model, made.model, 0.0)
    assert model.head.weight is model.embed.weight
    assert all(p is q for p, q in zip(new.optimizer.param_groups[0]["params"], model.parameters(), strict=True))


def test_views_of_one_memory_are_stored_apart(tmp_path: Path) -> None:
    model = Model()
    whole = torch.arange(6.0, dtype=torch.float64)
    model.register_buffer("left", whole[:3])
    model.register_buffer("right", whole[2:])
    model.register_buffer("turned", whole.view(2, 3).T)
    made = Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.1))
    tensors, _ = module.read(save(made, tmp_path / "a.safetensors"))
    assert tensors["model.left"].tolist() == [0, 1, 2]
    assert tensors["model.right"].tolist() == [2, 3, 4, 5]
    assert tensors["model.turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


class Other(Model):
    """Another model: a layer less by name, one more, one of another shape, one of another dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden2 = nn.Linear(8, 8).double()
        self.hidden = nn.Linear(8, 8, bias=False).double()
        self.register_buffer("scale", torch.ones(2, dtype=torch.float32))


def test_a_checkpoint_of_another_model_is_refused_with_the_names(tmp_path: Path) -> None:
    small(tmp_path)
    model = Other()
    new = Trainer(model, CrossEntropy(), torch.optim.AdamW(model.parameters(), lr=0.1))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="checkpoint of another model") as error:
        resume(new, tmp_path / "a.safetensors")
    message = str(error.value)
    for part in (
        "(a Model; this is a Other)",
        "it lacks hidden2.bias, hidden2.weight",
        "it has hidden.bias, which this has not",
        "scale is () torch.float64 there and (2,) torch.float32 here",
    ):
        assert part in message
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert new.step == 0


def test_another_optimizer_or_schedule_is_refused(tmp_path: Path) -> None:
    small(tmp_path)
    path = tmp_path / "a.safetensors"
    model = Model()
    with pytest.raises(ValueError, match="written with the optimizer AdamW; this trainer has SGD"):
        resume(Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.1)), path)
    fewer = torch.optim.AdamW(model.hidden.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"the optimizer had other parameters than this trainer's: embed\.weight"):
        resume(Trainer(model, CrossEntropy(), fewer), path)
    adam = torch.optim.AdamW(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="written with no schedule; this trainer has one"):
        resume(Trainer(model, CrossEntropy(), adam, schedule=cosine(9)), path)


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    """Each part of the file changed by one bit, and the file cut short anywhere."""
    made = small(tmp_path)
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    whole = path.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for at in (3, 9, 8 + header // 2, 8 + header - 9, 8 + header, 8 + header + 1000, len(whole) - 1):
        other.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Damaged, match=r"b\.safetensors"):
            resume(made, other)
    for size in (0, 4, 100, header, len(whole) // 2, len(whole) - 1):
        other.write_bytes(whole[:size])
        with pytest.raises(Damaged, match=r"b\.safetensors is damaged"):
            resume(made, other)
    assert resume(made, path).step == 2


def test_what_is_no_checkpoint_of_this_version_is_said_to_be_none(tmp_path: Path) -> None:
    made, path = small(tmp_path), tmp_path / "b.safetensors"
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*b\.safetensors"):
        resume(made, path)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        resume(made, tmp_path)
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(Damaged, match="no checkpoint of attnkit's"):
        resume(made, path)
    save_file({"x": torch.ones(2)}, path, metadata={"attnkit": json.dumps({"format": module.FORMAT, "version": 2})})
    with pytest.raises(ValueError, match="has version 2 of the format; this attnkit reads version 1"):
        resume(made, path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_checkpoint(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(tmp_path)
    before = (tmp_path / "a.safetensors").read_bytes()
    seen: list[bool] = []

    def full(*_: Any) -> None:
        seen.append((tmp_path / ".a.safetensors.part").exists())
        raise OSError("No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        save(made, tmp_path / "a.safetensors")
    assert seen == [True], "it was written beside its place first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = Model()
    made = Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.1))
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / ".step-00000001.safetensors.part").write_text("of a save that was killed")
    made.fit(RAGGED[:3], steps=11, callbacks=[Checkpoints(folder, every=2, keep=3)], progress=False)
    kept = ["notes.txt", *(f"step-{step:08d}.safetensors" for step in (6, 8, 10))]
    assert sorted(path.name for path in folder.iterdir()) == kept
    assert latest(folder).name == kept[-1]
    assert resume(made, folder).step == 10
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpoints(folder, keep=0)


def test_the_average_is_the_mean_of_the_weights(tmp_path: Path) -> None:
    """Vaswani et al. 2017, section 6.1, against numpy."""
    model = Model(dtype=torch.float32)
    model.register_buffer("counter", torch.tensor(3))
    made = Trainer(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.5))
    paths, weights = [], []
    for step in range(3):
        made.fit(RAGGED[:3], steps=2, progress=False)
        model.counter += 1
        paths.append(save(made, tmp_path / f"{step}.safetensors"))
        weights.append({name: tensor.numpy().copy() for name, tensor in model.state_dict().items()})
    mean = average_checkpoints(paths)
    for name in ("embed.weight", "head.weight", "hidden.bias"):
        expected = np.mean([w[name].astype(np.float64) for w in weights], axis=0)
        assert mean[name].dtype == torch.float32
        assert np.abs(mean[name].numpy() - expected).max() < 1e-7
    assert mean["counter"] == 6
    model.load_state_dict(mean)
    with pytest.raises(ValueError, match="paths is empty"):
        average_checkpoints([])
    small(tmp_path)
    with pytest.raises(ValueError, match=r"a\.safetensors is not a checkpoint of the model of .*0\.safetensors"):
        average_checkpoints([paths[0], tmp_path / "a.safetensors"])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(TREES)
def test_nested_state_survives_json(tree: Any) -> None:
    """Also integers as keys, tuples, infinities, and keys that look like the format's own."""
    encoded, tensors = flatten({"$tensor": tree, 3: torch.ones(2)}, "state")
    back = unflatten(json.loads(json.dumps(encoded, allow_nan=False)), tensors)
    assert back["$tensor"] == tree
    assert repr(back["$tensor"]) == repr(tree), "types too"
    assert list(tensors) == ["state.3"]


def test_what_cannot_be_saved_is_named() -> None:
    with pytest.raises(TypeError, match=r"optimizer\.state\.0\.f is a function; only tensors"):
        flatten({"state": {0: {"f": lambda: 0}}}, "optimizer")
    with pytest.raises(TypeError, match="optimizer has keys that are neither strings nor integers"):
        flatten({(1, 2): 3}, "optimizer")


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad", "Adadelta", "RMSprop", "NAdam", "RAdam", "Adamax"])
def test_the_state_of_every_optimizer_is_kept(name: str, tmp_path: Path) -> None:
    def new() -> Trainer:
        model = Model()
        return Trainer(model, CrossEntropy(), getattr(torch.optim, name)(model.parameters(), lr=0.01))

    whole, first = new(), new()
    whole.fit(RAGGED[:3], steps=6, progress=False)
    first.fit(RAGGED[:3], steps=3, progress=False)
    second = resume(new(), save(first, tmp_path / "a.safetensors"))
    second.fit(RAGGED[:3], steps=3, progress=False)
    assert same_weights(second.model, whole.model, 0.0)


def test_the_generators_go_on_where_they_were(tmp_path: Path) -> None:
    """torch's and NumPy's; Python's is compared by the run in processes of its own."""
    made = small(tmp_path)
    expected = [float(np.random.rand()), float(torch.rand(()))]
    np.random.seed(0)
    torch.manual_seed(0)
    resume(made, tmp_path / "a.safetensors")
    assert [float(np.random.rand()), float(torch.rand(()))] == expected
