"""Cross-entropy against torch's, the Kullback-Leibler form and the definition in float64; totals add up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from attnkit.training import CrossEntropy, Total, cross_entropy, perplexity


def example(vocab: int = 11, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits (3, 5, vocab) and targets, of which some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(3, 5, vocab, generator=generator, dtype=dtype)
    targets = torch.randint(vocab, (3, 5), generator=generator)
    targets[0, 3:] = targets[2, 0] = -100
    return logits.requires_grad_(), targets


def soft_targets(targets: Tensor, vocab: int, smoothing: float, spread: str) -> Tensor:
    """The distribution q, cell by cell."""
    rows = []
    for right in targets.tolist():
        rest = smoothing / vocab if spread == "all" else smoothing / (vocab - 1)
        row = [rest] * vocab
        row[right] = 1 - smoothing + (rest if spread == "all" else 0.0)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_it_is_torch_s_cross_entropy_with_its_gradient(smoothing: float) -> None:
    logits, targets = example()
    ours = cross_entropy(logits, targets, smoothing=smoothing)
    theirs = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing)
    assert abs(ours.mean.item() - theirs.item()) < 1e-13
    (mine,), (other,) = (torch.autograd.grad(x, logits) for x in (ours.mean, theirs))
    assert (mine - other).abs().max() < 1e-14


@pytest.mark.parametrize("spread", ["all", "others"])
@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_it_is_the_divergence_from_the_softened_targets(smoothing: float, spread: str) -> None:
    """H(q, p) = KL(q || p) + H(q), with q written out and torch's kl_div."""
    logits, targets = example()
    kept = targets != -100
    q = soft_targets(targets[kept], 11, smoothing, spread)
    assert torch.allclose(q.sum(-1), torch.ones(len(q), dtype=torch.float64))
    divergence = F.kl_div(logits[kept].log_softmax(-1), q, reduction="sum")
    entropy = -(q * q.log()).sum()
    ours = cross_entropy(logits, targets, smoothing=smoothing, spread=spread)
    assert abs(ours.sum.item() - (divergence + entropy).item()) < 1e-12


def test_the_two_conventions_differ_and_are_one_family() -> None:
    logits, targets = example()
    every, others = (cross_entropy(logits, targets, smoothing=0.1, spread=s).sum.item() for s in ("all", "others"))
    assert abs(every - others) > 1e-2
    scaled = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1 * 11 / 10, reduction="sum")
    assert abs(others - scaled.item()) < 1e-12


@given(cut=st.integers(1, 14), smoothing=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_totals_of_parts_add_up(cut: int, smoothing: float, seed: int) -> None:
    logits, targets = example(seed=seed)
    logits, targets = logits.flatten(0, 1), targets.flatten()
    whole = cross_entropy(logits, targets, smoothing=smoothing)
    parts = [cross_entropy(logits[s], targets[s], smoothing=smoothing) for s in (slice(None, cut), slice(cut, None))]
    assert sum(int(part.tokens) for part in parts) == int(whole.tokens) == int((targets != -100).sum())
    assert abs(sum(part.sum.item() for part in parts) - whole.sum.item()) < 1e-12


def test_ignored_targets_have_no_influence() -> None:
    logits, targets = example()
    total = cross_entropy(logits, targets, smoothing=0.1)
    (gradient,) = torch.autograd.grad(total.sum, logits)
    assert gradient[targets == -100].abs().max() == 0
    assert gradient[targets != -100].abs().min() > 0
    padded = targets.where(targets != -100, 0)  # another sign for the same: token 0 is padding
    kept = (targets != -100) & (targets != 0)
    assert int(cross_entropy(logits, padded, ignore=0).tokens) == int(kept.sum())


def test_nothing_to_predict_costs_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    total = cross_entropy(logits, torch.tensor([-100, -100]))
    assert (total.tokens, total.sum, total.mean) == (0, 0, 0)
    total.mean.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(4000, 8).to(dtype)
    targets = torch.arange(4000) % 8
    ours = cross_entropy(logits, targets).sum
    exact = F.cross_entropy(logits.double(), targets, reduction="sum")
    assert ours.dtype == torch.float32
    assert abs(ours.item() / exact.item() - 1) < 1e-6


def test_perplexity_is_the_number_of_equal_choices() -> None:
    assert abs(perplexity(cross_entropy(torch.zeros(6, 50), torch.arange(6))) - 50) < 1e-4
    assert perplexity(Total(torch.tensor(0.0), 3)) == 1.0
    assert perplexity(Total(torch.tensor(1e6), 1)) == math.inf


def test_the_loss_of_a_model_takes_its_last_element_as_targets() -> None:
    logits, targets = example()
    loss = CrossEntropy(smoothing=0.1, spread="others")
    model = torch.nn.Identity()
    assert torch.equal(
        loss(model, (logits, targets)).sum, cross_entropy(logits, targets, smoothing=0.1, spread="others").sum
    )
    assert repr(loss) == "CrossEntropy(smoothing=0.1, spread='others', ignore=-100)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.zeros(3, 4, dtype=torch.long)}, r"logits has shape \(3, 5, 11\).*targets \(3, 4\)"),
        ({"targets": torch.zeros(3, 5)}, "targets has dtype torch.float32"),
        ({"targets": torch.full((3, 5), 11)}, "targets holds 11; it must hold 0 to 10, or -100"),
        ({"targets": torch.full((3, 5), -1)}, "targets holds -1"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"smoothing": -0.1}, "smoothing is -0.1"),
        ({"spread": "both"}, "spread is 'both'"),
    ],
)
def test_wrong_arguments_are_named(change: dict, message: str) -> None:
    logits, targets = example()
    with pytest.raises(ValueError, match=message):
        cross_entropy(**{"logits": logits, "targets": targets, **change})
