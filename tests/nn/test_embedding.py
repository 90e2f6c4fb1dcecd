"""Embeddings: one table read in both directions, and a first loss near ln(vocab)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnkit.masks import Causal
from attnkit.nn import Config, Embedding, Encoder
from attnkit.positions import Sinusoidal


@pytest.mark.parametrize("vocab", [20, 300, 5000])
@pytest.mark.parametrize("d_model", [16, 64, 512])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("position", [False, True])
def test_the_first_loss_is_near_that_of_guessing(
    vocab: int, d_model: int, scale: bool, norm_first: bool, position: bool
) -> None:
    """Rows of N(0, 1), or the 0.02 of GPT-2 with few tokens and a wide model, predict the token just read instead."""
    torch.manual_seed(0)
    table = Embedding(vocab, d_model, scale=scale)
    config = Config(d_model=d_model, heads=4, d_hidden=2 * d_model, layers=1, norm_first=norm_first)
    stack = Encoder(config).eval()
    ids, following = torch.randint(vocab, (2, 8, 40))
    with torch.no_grad():
        x = table(ids)
        x = Sinusoidal(d_model).embed(x, torch.arange(40)[None]) if position else x
        loss = F.cross_entropy(table.logits(stack(x, mask=Causal())).flatten(0, 1), following.flatten())
    assert abs(float(loss) - math.log(vocab)) < 0.25


def test_both_directions_read_one_table() -> None:
    table = Embedding(30, 8)
    assert [name for name, _ in table.named_parameters()] == ["weight"]
    ids = torch.tensor([[3, 7, 3]])
    assert torch.equal(table(ids), table.weight[ids])
    x = torch.randn(1, 3, 8)
    torch.testing.assert_close(table.logits(x), x @ table.weight.T)
    table.logits(x)[..., 5].sum().backward()
    assert table.weight.grad[5].any()
    assert table.weight.grad.abs().sum(1).gt(0).sum() == 1


def test_scale_multiplies_vectors_and_not_logits() -> None:
    plain, scaled = Embedding(30, 16), Embedding(30, 16, scale=True)
    scaled.load_state_dict(plain.state_dict())
    ids, x = torch.tensor([[3, 7]]), torch.randn(1, 2, 16)
    torch.testing.assert_close(scaled(ids), 4 * plain(ids))
    assert torch.equal(scaled.logits(x), plain.logits(x))


def test_padding_starts_at_zero_and_is_not_trained_by_reading() -> None:
    table = Embedding(30, 8, pad=2)
    ids = torch.tensor([[2, 5]])
    assert not table(ids)[0, 0].any()
    table(ids).sum().backward()
    assert not table.weight.grad[2].any()
    assert table.weight.grad[5].any()
    want = nn.Embedding(30, 8, padding_idx=2, _weight=table.weight.detach())
    assert torch.equal(table(ids), want(ids))


def test_what_is_no_token_is_named() -> None:
    with pytest.raises(IndexError, match=r"ids go from 3 to 30; the 30 tokens are 0 to 29"):
        Embedding(30, 8)(torch.tensor([[3, 30]]))
    with pytest.raises(IndexError, match=r"ids go from -1 to 3"):
        Embedding(30, 8)(torch.tensor([[3, -1]]))
    with pytest.raises(ValueError, match=r"pad is 30; it must be a token, from 0 to 29"):
        Embedding(30, 8, pad=30)
    with pytest.raises(ValueError, match="vocab is 0"):
        Embedding(0, 8)
    with pytest.raises(ValueError, match="d_model is 0"):
        Embedding(8, 0)
