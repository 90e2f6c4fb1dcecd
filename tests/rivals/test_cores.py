"""Every core keeps the promises that make rivals comparable: shape, causality, and nothing learned from padding."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
import torch

from attnkit.masks import Window
from attnkit.positions import Sinusoidal
from attnkit.rivals import Attentive, Convolutional, Core, Recurrent, Remembering, SequenceModel, cores, model

D, LENGTH = 8, 9
CORES: dict[str, Callable[[bool], Core]] = {
    "rnn": lambda causal: Recurrent(D, 6, 2, cell="rnn", causal=causal),
    "gru": lambda causal: Recurrent(D, 6, 2, cell="gru", causal=causal),
    "lstm": lambda causal: Recurrent(D, 6, 1, cell="lstm", causal=causal),
    "convolution": lambda causal: Convolutional(D, 6, 3, width=3, dilation=2, causal=causal),
    "attention": lambda causal: Attentive(D, 16, 2, heads=2, causal=causal, position=Sinusoidal(D)),
    "memory": lambda causal: Remembering(Recurrent(D, 6, cell="gru", causal=causal), D, 5),
}
every = pytest.mark.parametrize("name", CORES)


def sensitivity(core: Core, length: int = LENGTH) -> torch.Tensor:
    """May token j change what comes out at token i? By derivatives: (length, length)."""
    jacobian = torch.autograd.functional.jacobian(lambda x: core(x).square().sum((0, 2)), torch.randn(1, length, D))
    return jacobian[:, 0].abs().sum(-1) > 0


@every
def test_a_causal_core_sees_no_later_token_and_any_other_does(name: str) -> None:
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    assert not sensitivity(CORES[name](True))[future].any()
    assert sensitivity(CORES[name](False))[future].any()


@every
@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(name: str, causal: bool) -> None:
    core, x, lengths = CORES[name](causal), torch.randn(3, LENGTH, D), torch.tensor([LENGTH, 4, 1])
    padded = core(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(padded[row, :length], core(x[row : row + 1, :length])[0])


@pytest.mark.parametrize(("causal", "width", "dilation"), [(True, 4, 1), (True, 2, 2), (False, 3, 2), (False, 5, 1)])
def test_a_convolution_reaches_as_far_as_it_says(causal: bool, width: int, dilation: int) -> None:
    core = Convolutional(D, 6, 2, width=width, dilation=dilation, causal=causal)
    seen = sensitivity(core, 30)
    away = torch.arange(30)[:, None] - torch.arange(30)
    assert away[seen].max() == core.reach
    assert away[seen].min() == (0 if causal else -core.reach)


def test_a_recurrent_core_is_its_recurrence() -> None:
    core = Recurrent(D, 5, cell="rnn", causal=True)
    x = torch.randn(1, LENGTH, D)
    cell, seen, state = core.cells[0], core.norms[0](x)[0], torch.zeros(5)
    for t in range(LENGTH):
        fed = cell.weight_ih_l0 @ seen[t] + cell.bias_ih_l0
        state = torch.tanh(fed + cell.weight_hh_l0 @ state + cell.bias_hh_l0)
        torch.testing.assert_close(core(x)[0, t], x[0, t] + core.outs[0](state))


def test_attention_keeps_to_the_mask_it_is_given() -> None:
    seen = sensitivity(Attentive(D, 16, 2, mask=Window(2, 1)))
    away = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    assert torch.equal(seen, (away <= 4) & (away >= -2))


@pytest.mark.parametrize(("name", "steps"), [("gru", 40), ("lstm", 20), ("convolution", 3), ("attention", 2)])
def test_steps_that_wait_for_each_other(name: str, steps: int) -> None:
    assert CORES[name](True).steps(20) == steps


def test_parts_of_a_token_add_up_and_padding_adds_nothing() -> None:
    whole = SequenceModel(12, 3, D, Recurrent(D, 6, causal=True))
    one = torch.tensor([[5, 6, 7]])
    both = torch.stack([one, torch.zeros_like(one)], 2)
    torch.testing.assert_close(whole(one), whole(both))
    assert not torch.allclose(whole(one), whole(torch.stack([one, one + 1], 2)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Recurrent(D, 0), "hidden is 0"),
        (lambda: Recurrent(D, 4, cell="gpu"), "cell is 'gpu'"),
        (lambda: Convolutional(D, 4, width=4), "width is 4"),
        (lambda: Convolutional(D, 4, layers=0), "layers is 0"),
    ],
)
def test_what_cannot_be_built_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("module", [cores, model])
def test_the_examples_in_the_docstrings_are_right(module) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
