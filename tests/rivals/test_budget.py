"""Budgets against counting by hand, and contests that are not equal refused."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import nn

from attnkit.rivals import (
    Attentive,
    Budget,
    Convolutional,
    Recurrent,
    SequenceModel,
    UnequalBudgets,
    budget,
    count,
    equal,
    flops,
    match,
    parameters,
)

B, L, D, H = 2, 10, 8, 12
X = torch.ones(B, L, D)
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@pytest.mark.parametrize("cell", GATES)
def test_recurrent_flops_are_two_for_each_weight_and_token(cell: str) -> None:
    core = Recurrent(D, H, cell=cell, causal=True)
    assert flops(core, X) == 2 * B * L * (GATES[cell] * H * (D + H) + H * D)
    assert parameters(core) == 2 * D + GATES[cell] * (H * (D + H) + 2 * H) + H * D + D


def test_a_bidirectional_core_costs_both_ways() -> None:
    assert flops(Recurrent(D, H, cell="lstm"), X) == 2 * B * L * (2 * 4 * H * (D + H) + 2 * H * D)


def test_convolution_flops_are_two_for_each_weight_and_token() -> None:
    assert flops(Convolutional(D, H, 2, width=3), X) == 2 * B * L * 2 * (3 * D * H + H * D)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_counted_whichever_backend_computes_it(causal: bool) -> None:
    """Projections and feed-forward by weight, and L^2 scores and averages of width D: never free."""
    core = Attentive(D, H, heads=2, causal=causal)
    assert flops(core, X) == 2 * B * L * (4 * D * D + 2 * D * H) + 2 * 2 * B * L * L * D


def test_counting_leaves_the_model_as_it_was() -> None:
    model = SequenceModel(10, 3, D, Attentive(D, H)).train()
    backend = model.core.encoder.layers[0].attention.backend
    flops(model, torch.ones(1, 4, dtype=torch.long))
    assert model.training
    assert model.core.encoder.layers[0].attention.backend == backend


def test_a_fused_operation_without_a_formula_is_not_free() -> None:
    class Fused(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    with pytest.raises(NotImplementedError, match="flash_attention_for_cpu"):
        flops(Fused(), torch.randn(2, 4, 10, 8))


def test_match_finds_the_best_size_there_is() -> None:
    like = count(Attentive(D, 32, causal=True), X)

    def build(size: int) -> nn.Module:
        return Recurrent(D, size, causal=True)

    found = match(build, like, X, sizes=range(1, 60), within=0.2)
    assert found == min(range(1, 60), key=lambda size: count(build(size), X).gap(like))


def test_a_budget_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(UnequalBudgets, match="no size comes within 5%"):
        match(lambda size: nn.Linear(D, size), Budget(10_000, 10), X)
    with pytest.raises(ValueError, match="sizes is empty"):
        match(lambda size: nn.Linear(D, size), Budget(1, 1), X, sizes=[])


@pytest.mark.parametrize(("width", "fits"), [(104, True), (106, False), (96, True), (95, False)])
def test_five_per_cent_is_the_border(width: int, fits: bool) -> None:
    models = {"one": nn.Linear(D, 100, bias=False), "other": nn.Linear(D, width, bias=False)}
    if fits:
        assert equal(models, X)["one"] == Budget(800, 2 * B * L * 800)
    else:
        with pytest.raises(UnequalBudgets, match="parameters and"):
            equal(models, X)


def test_equal_parameters_with_unequal_flops_are_refused() -> None:
    class Twice(nn.Linear):
        def forward(self, x):
            return super().forward(super().forward(x))

    with pytest.raises(UnequalBudgets, match="flops"):
        equal({"once": nn.Linear(D, D), "twice": Twice(D, D)}, X)


def test_shared_parameters_count_once_and_frozen_ones_not() -> None:
    one = nn.Linear(3, 3)
    assert parameters(nn.Sequential(one, one)) == 12
    one.bias.requires_grad_(False)
    assert parameters(one) == 9


def test_the_examples_in_the_docstrings_are_right() -> None:
    found = doctest.testmod(budget)
    assert found.attempted
    assert not found.failed
