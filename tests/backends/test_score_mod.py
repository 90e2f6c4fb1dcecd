"""An arbitrary function of the scores, in FlexAttention's signature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnkit import BackendUnsupported, attention, explain
from attnkit.masks import Causal
from attnkit.testing import judge, run
from attnkit.testing.examples import EXAMPLES, example


def qkv(q_len: int = 5, k_len: int = 7) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = (2, 4, q_len, 8), (2, 2, k_len, 8), (2, 2, k_len, 8)
    return [torch.randn(s, generator=rng, dtype=torch.float64).requires_grad_() for s in shapes]


def plain(tensors: list[Tensor], change) -> Tensor:
    """softmax(change(QK^T / sqrt(d))) V with the loop over scores written out."""
    q, k, v = tensors
    k, v = (x.repeat_interleave(2, dim=1) for x in (k, v))
    scores = q @ k.mT / 8**0.5
    rows = []
    for b in range(2):
        for h in range(4):
            for i in range(scores.shape[2]):
                row = [change(scores[b, h, i, j], b, h, i, j) for j in range(scores.shape[3])]
                rows.append(torch.stack(row).softmax(0) @ v[b, h])
    return torch.stack(rows).view(2, 4, scores.shape[2], 8)


def test_it_is_given_each_score_with_its_batch_element_head_query_and_key() -> None:
    """And what it captures gets a gradient: a table of relative positions, as in T5."""
    tensors = qkv()
    table = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(2, dtype=torch.float64, requires_grad=True)

    def change(score, b, h, q, k):
        return score * gate[b] + table[h, q - k + 6]

    got, want = attention(*tensors, score_mod=change), plain(tensors, change)
    torch.testing.assert_close(got, want)
    up = torch.randn_like(got)
    leaves = [*tensors, table, gate]
    for ours, theirs in zip(*(torch.autograd.grad(x, leaves, up) for x in (got, want)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_comes_after_the_cap_and_the_bias_and_before_the_mask() -> None:
    q, k, v = qkv(5, 5)
    bias = torch.randn(5, 5, dtype=torch.float64)
    seen: list[Tensor] = []
    _, aux = attention(
        q, k, v, softcap=0.5, bias=bias, mask=Causal(), aux=("weights",),
        score_mod=lambda score, *_: (seen.append(score), 2 * score + 1)[1],
    )  # fmt: skip
    capped = 0.5 * torch.tanh(q @ k.repeat_interleave(2, dim=1).mT / 8**0.5 / 0.5) + bias
    torch.testing.assert_close(seen[0], capped)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    torch.testing.assert_close(aux.weights, (2 * capped + 1).masked_fill(hidden, float("-inf")).softmax(-1))


def test_it_may_ignore_the_score_and_hide_by_minus_infinity() -> None:
    tensors = qkv(5, 5)
    far = attention(*tensors, score_mod=lambda score, b, h, q, k: -1.0 * (q - k).abs())
    torch.testing.assert_close(far, plain(tensors, lambda s, b, h, q, k: torch.tensor(-1.0 * abs(q - k)).double()))
    causal = attention(*tensors, score_mod=lambda s, b, h, q, k: torch.where(q >= k, s, float("-inf")))
    torch.testing.assert_close(causal, attention(*tensors, mask=Causal()))


@pytest.mark.parametrize("backend", ["sdpa", "online", "inplace"])
def test_backends_with_kernels_of_their_own_decline_it_with_a_reason(backend: str) -> None:
    tensors = [x.detach() for x in qkv()]
    with pytest.raises(BackendUnsupported, match="score_mod"):
        attention(*tensors, score_mod=lambda score, *_: score, backend=backend)
    assert explain(*tensors, score_mod=lambda score, *_: score).taken == "naive"


def test_nan_that_is_hidden_does_not_reach_the_gradient_of_what_it_captures() -> None:
    q, k, v = (x.detach() for x in qkv(5, 5))
    v[:, :, -1] = float("nan")
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    out = attention(q, k, v, mask=Causal(), score_mod=lambda score, *_: score * weight)
    (grad,) = torch.autograd.grad(out[:, :, :-1].sum(), weight)
    clean = attention(q, k, v.nan_to_num(), mask=Causal(), score_mod=lambda score, *_: score * weight)
    (want,) = torch.autograd.grad(clean[:, :, :-1].sum(), weight)
    torch.testing.assert_close(grad, want)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [e.name for e in EXAMPLES if e.score_mod])
def test_it_is_as_exact_as_the_definition(name: str, dtype: torch.dtype) -> None:
    verdicts = judge(run("auto", example(name), dtype), example(name), dtype)
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))
