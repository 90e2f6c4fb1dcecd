"""Each case of the GPU bench means the same to everybody, and a wrong answer is seen; on a CPU, in small."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from attnkit.bench.gpu import contenders as who
from attnkit.bench.gpu.cases import Case, Inputs, inputs, suite
from attnkit.bench.gpu.goals import GOALS
from attnkit.bench.gpu.judge import Judge
from tests.bench.gpu_tools import (
    CASES,
    CPU,
    MATH,
    named,
    results_of,
    wrong,
)

pytestmark = pytest.mark.slow

# Cases


def test_work_is_counted_as_everybody_counts_it() -> None:
    case = Case("dense", "forward", 4, 16, 16, 4096, 4096, 128)
    assert case.flop == 4 * 4 * 16 * 4096**2 * 128
    assert replace(case, causal=True).flop == case.flop / 2
    assert replace(case, direction="backward").flop == 2.5 * case.flop
    assert replace(case, direction="both", causal=True).flop == 3.5 * case.flop / 2


@pytest.mark.parametrize("case", [c for c in CASES if c.family in ("window", "padding")], ids=lambda c: c.name)
def test_pairs_are_those_that_the_mask_shows(case: Case) -> None:
    mask = case.mask(CPU)
    assert mask is not None
    assert case.pairs == mask.materialize(*case.sizes).expand(case.batch, 1, -1, -1).sum()


def test_half_of_the_padded_keys_are_real() -> None:
    case = named("half padding")
    assert len(set(case.lengths)) == case.batch > 1
    assert sum(case.lengths) == case.batch * case.k_len / 2


def test_the_suite_is_that_of_the_goals() -> None:
    cases = suite()
    dense = [case for case in cases if case.family == "dense"]
    assert {case.batch * case.q_len for case in dense} == {16_384}
    assert {case.heads * case.d for case in dense} == {2048}
    assert {(case.d, case.k_len, case.causal, case.direction) for case in dense} == {
        (d, length, causal, direction)
        for d in (64, 128)
        for length in (1024, 2048, 4096, 8192, 16_384)
        for causal in (False, True)
        for direction in ("forward", "backward")
    }
    assert len(dense) == 40
    (decode,) = (case for case in cases if case.family == "decode")
    assert (decode.q_len, decode.k_len, decode.heads // decode.kv_heads) == (1, 32_768, 8)
    assert decode.cache_bytes == 2 * 16 * 2 * 32_768 * 128 * 2
    window = next(case for case in cases if case.family == "window")
    assert (window.window, window.k_len) == (1024, 16_384)
    assert len({case.name for case in cases}) == len(cases)
    assert all(any(goal.covers(case) for case in cases) for goal in GOALS)


def test_a_first_look_has_two_lengths_and_every_family() -> None:
    quick, whole = suite(quick=True), suite()
    assert whole[: len(quick)] == quick, "a whole run begins with the first look"
    assert {case.k_len for case in quick if case.family == "dense"} == {2048, 16_384}
    assert {case.family for case in quick} == {case.family for case in whole}


def test_inputs_are_repeatable_and_want_gradients_where_they_are_taken() -> None:
    forward, both = named("dispatch"), named("learned bias")
    assert all(torch.equal(a, b) for a, b in zip(inputs(both, CPU).leaves, inputs(both, CPU).leaves, strict=True))
    assert not any(x.requires_grad for x in inputs(forward, CPU).leaves)
    given = inputs(both, CPU)
    assert [x.requires_grad for x in given.leaves] == [True] * 4
    assert not given.d_out.requires_grad
    assert given.bias is not None
    assert given.bias.shape == (1, both.heads, both.q_len, both.k_len)


# Contenders


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sdpa_and_ours_compute_what_the_case_says(case: Case) -> None:
    """Two ways that share no code agree with the definition, so the case means the same to all three."""
    tensors = inputs(case, CPU)
    judge = Judge(case, tensors)
    for contender in (MATH, who.ours("online"), who.definition()):
        assert judge(results_of(case, contender, tensors)) <= 1, contender.name


@pytest.mark.parametrize("part", ["forward, B4", "causal", "window", "half padding", "learned bias", "decode"])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_is_asked_the_same(part: str) -> None:
    """Uncompiled and forward, which is what FlexAttention can do on a CPU."""
    case = replace(named(part), direction="forward")
    tensors = inputs(case, CPU)
    found = results_of(case, who.flex(flex_attention), tensors)
    assert Judge(case, tensors)(found) <= 1


def test_the_definition_declines_where_its_table_is_large() -> None:
    case = Case("dense", "forward", 1, 16, 16, 16_384, 16_384, 128)
    tensors = Inputs(*torch.zeros(4, 1, 1, 1, 1), bias=None)
    with pytest.raises(who.Declined, match=r"takes 17\.2 GB"):
        who.definition().prepare(case, tensors)


def test_everybody_is_there() -> None:
    assert [c.name for c in who.contenders(named("window"))] == [
        "ours", "sdpa-flash", "sdpa-cudnn", "sdpa-efficient", "flex", "naive",
    ]  # fmt: skip
    assert [c.name for c in who.contenders(named("dispatch"))] == ["ours", "sdpa"]


# The judge


def spoiled(x: Tensor) -> Tensor:
    """NaN in one number of the first head, which is not compared number by number."""
    return x.index_put([torch.tensor(0)] * 4, torch.tensor(math.nan, dtype=x.dtype))


MISTAKES = {
    "five per cent too large": lambda x: x * 1.05,
    "one row wrong": lambda x: torch.cat([x[:, :, :-1], x[:, :, -1:] + 0.1], dim=2),
    "NaN in another head": spoiled,
}


@pytest.mark.parametrize("part", ["forward, B2", "backward, B2", "half padding", "learned bias"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_result_is_seen(part: str, mistake: str) -> None:
    case = named(part)
    if mistake == "one row wrong" and case.direction == "backward":
        case = replace(case, direction="both")  # a constant added to the output has no gradient
    tensors = inputs(case, CPU)
    found = results_of(case, wrong(MISTAKES[mistake]), tensors)
    if case.direction == "backward" and mistake == "NaN in another head":
        found["query"][0, 0, 0, 0] = math.nan
    assert Judge(case, tensors)(found) > 1


def test_a_bias_gradient_of_one_batch_element_alone_is_seen() -> None:
    case = named("learned bias")
    tensors = inputs(case, CPU)
    found, judge = results_of(case, MATH, tensors), Judge(case, tensors)
    assert judge(found) <= 1
    cut = Inputs(*(x[:1].detach().requires_grad_() for x in tensors[:3]), tensors.d_out[:1], tensors.bias)
    alone = results_of(replace(case, batch=1), MATH, cut)
    assert judge(found | {"bias": alone["bias"]}) > 1


def test_rows_may_be_judged_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    case = replace(named("backward, B2"), direction="both", causal=True)
    tensors = inputs(case, CPU)
    whole = Judge(case, tensors)
    monkeypatch.setattr("attnkit.bench.gpu.judge.ROWS_AT_A_TIME", 5 * case.k_len)
    parts = Judge(case, tensors)
    for name, x in whole.want.items():
        torch.testing.assert_close(parts.want[name], x, rtol=0, atol=1e-12)
