"""The library's bench compares like with like; how fast anything is, is not tested here."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from attnkit.bench import generation_speed, importing, learning, library
from attnkit.bench.report import Row
from attnkit.cli import build_app
from attnkit.masks import Causal

TINY = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 97, "n_positions": 32}


def check(rows: list[Row], samples: int) -> None:
    """Each row has so many samples of both sides, a goal and a name of its own."""
    assert all(len(row.ours) == len(row.peer) == samples for row in rows)
    assert all(row.goal is not None and row.peer_name for row in rows)
    assert len({row.name for row in rows}) == len(rows)


def test_both_sides_attend_alike_with_the_weights_of_each_head() -> None:
    ours, peer = (module.eval() for module in library.attention_pair(16, 4))
    x = torch.randn(2, 5, 16)
    with torch.inference_mode():
        out, aux = ours(x, aux=("weights",))
        expected, weights = peer(x, x, x, average_attn_weights=False)
    assert aux.weights.shape == weights.shape == (2, 4, 5, 5)
    torch.testing.assert_close(aux.weights, weights, rtol=0, atol=1e-6)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


def test_both_transformers_are_the_same_and_train() -> None:
    ours, peer = library.transformer_pair(16, layers=2, dropout=0.0)
    source, target = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    hidden = torch.nn.Transformer.generate_square_subsequent_mask(4)
    got, expected = ours(source, target, target_mask=Causal()), peer(source, target, tgt_mask=hidden)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    for module in library.transformer_pair(16, layers=2, dropout=0.1):
        assert module.training
        assert not torch.equal(module(source, target), module(source, target)), "dropout is on"


def test_a_training_step_moves_both_towards_the_goal_alike() -> None:
    source, target, goal = torch.randn(3, 2, 4, 16)
    moved = []
    for module in library.transformer_pair(16, layers=1, dropout=0.0):
        call = library._bind(module, source, target)
        step, losses = library._step(module, call, goal), []
        for _ in range(4):
            step()
            losses.append((call() - goal).square().mean().item())
        assert losses == sorted(losses, reverse=True)
        moved.append(losses)
    assert moved[0] == pytest.approx(moved[1], rel=1e-4)


def test_both_sides_of_the_generation_hold_the_same_weights() -> None:
    ours, peer = generation_speed.models(**TINY)
    assert not ours.training
    assert not peer.training
    ids = torch.randint(97, (3, 6), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), peer(ids).logits, rtol=0, atol=1e-5)
    expected = generation_speed.peer_call(peer, ids, 9)()
    assert expected.shape == (3, 9)
    assert torch.equal(generation_speed.ours_call(ours, ids, 9)(), expected)


def test_the_end_of_sequence_ends_neither_side() -> None:
    """Equal weights everywhere give equal logits, so that token 0, the end, is said from the first step on."""
    for model, call in zip(
        generation_speed.models(**TINY), (generation_speed.ours_call, generation_speed.peer_call), strict=True
    ):
        for parameter in model.parameters():
            torch.nn.init.ones_(parameter)
        assert call(model, torch.ones(2, 4, dtype=torch.long), 6)().tolist() == [[0] * 6] * 2


def test_the_rows_in_small() -> None:
    check(library.attention_forward(1, ((1, 3), (2, 4)), d_model=8, heads=2), 2)
    check([library.attention_training(1, (2, 3), d_model=8, heads=2)], 2)
    check(library.training_step(2, batch=2, length=3, d_model=16, layers=1), 2)
    check(generation_speed.suite(rounds=2, prompt=4, new=3, **TINY), 2)


@pytest.mark.slow
def test_the_import_is_measured_on_top_of_torch() -> None:
    rows = importing.suite(rounds=1)
    check(rows, 1)
    sums = [row.ours[0] for row in rows]
    assert sums == sorted(sums), "each row contains the one before"
    assert sums[0] < sums[1], "importing attention loads something"


@pytest.mark.slow
def test_learning_is_measured_with_what_was_learned() -> None:
    (row,) = learning.suite(["copy"], steps=0)
    assert (row.unit, row.goal, row.against_peer) == ("s", 180.0, False)
    assert row.name == "learning copy, 0 steps, one core: 0.0% of held-out items right"
    assert row.ours[0] > 0
    with pytest.raises(RuntimeError, match="nothing"):
        learning.suite(["nothing"])


def test_an_import_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"could not be measured(.|\n)*No module named 'nowhere'"):
        importing._milliseconds([("x", "import nowhere")])


def test_the_command_prints_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "suite", lambda: [Row("a row of the library", [1.0], [2.0], "peer", goal=1.0)])
    done = CliRunner().invoke(build_app(), ["bench", "library", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "| a row of the library | 1 ms | 2 ms peer | 0.50 | <= 1 | yes |" in done.output
