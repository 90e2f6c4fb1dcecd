"""Which parameters decay, and that the optimizer is torch's AdamW over just those groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnkit.training import adamw, parameter_groups


class Tied(nn.Module):
    """A little model with every kind of parameter; its head is its table of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 9, bias=False)
        self.table = nn.Embedding(9, 4)
        self.head.weight = self.table.weight
        self.mix = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.other = nn.RMSNorm(4)
        self.gain = nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.other(self.norm(self.mix(self.table(ids)))) * self.gain)


def names(model: nn.Module, group: dict) -> set[str]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    return {by_id[id(parameter)] for parameter in group["params"]}


BIASES, NORMS = {"mix.bias", "gain"}, {"norm.weight", "norm.bias", "other.weight"}


@pytest.mark.parametrize(
    ("spare", "spared"),
    [
        (("norm", "bias", "embedding"), BIASES | NORMS | {"table.weight"}),
        (("norm", "bias"), BIASES | NORMS),
        (("bias",), BIASES),
        (("norm",), NORMS),
        (("embedding",), {"table.weight"}),
        ((), set()),
    ],
)
def test_what_is_spared_is_what_was_named(spare: tuple[str, ...], spared: set[str]) -> None:
    model = Tied()
    groups = parameter_groups(model, decay=0.3, spare=spare)
    found = {group["weight_decay"]: names(model, group) for group in groups}
    trained = {"table.weight", "mix.weight"} | BIASES | NORMS
    assert found.get(0.0, set()) == spared
    assert found[0.3] == trained - spared
    assert sum(len(group["params"]) for group in groups) == len(trained), "a tied parameter counts once"


def test_adamw_is_torch_s_with_decay_on_the_weights_alone() -> None:
    """Where the gradient is 0, a step is the decay and nothing else."""
    model = Tied()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = adamw(model, 0.1, decay=0.5, betas=(0.9, 0.98), eps=1e-9)
    assert type(optimizer) is torch.optim.AdamW
    assert all(group["betas"] == (0.9, 0.98) and group["eps"] == 1e-9 for group in optimizer.param_groups)
    (0 * model(torch.arange(9)).sum()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        shrunk = before[name] * (1 - 0.1 * 0.5) if name == "mix.weight" else before[name]
        assert torch.allclose(parameter, shrunk, atol=1e-7), name


@pytest.mark.parametrize(
    ("options", "message"),
    [({"decay": -1}, "decay is -1"), ({"spare": "norm"}, "spare is 'norm'"), ({"spare": ["head"]}, "spare is")],
)
def test_wrong_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameter_groups(Tied(), **options)
