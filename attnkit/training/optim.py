"""AdamW, and which parameters its weight decay should leave alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, no_type_check

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

KINDS = ("norm", "bias", "embedding")

_NORMS = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,  # every batch and instance norm
)


@no_type_check
def parameter_groups(model: nn.Module, decay: float = 0.1, spare: Collection[str] = KINDS) -> list[dict[str, Any]]:
    """Two groups for an optimizer: what decays, and what is spared. A tied parameter counts once.

    `spare` names any of three kinds:

    - "norm": gains and shifts of normalisation layers (a torch norm, or a class whose name ends in Norm);
    - "bias": every other parameter with fewer than two axes, since decay is meant for what multiplies the input;
    - "embedding": tables that are looked up (`nn.Embedding`, or a class whose name ends in Embedding). A row that does
      not occur in a batch gets no gradient, and would only shrink. A head tied to such a table is spared with it.

    Parameters that are frozen are left out. Raises ValueError for an unknown kind or a negative decay.

    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 9))
    >>> for group in parameter_groups(model):
    ...     print(group["weight_decay"], [tuple(p.shape) for p in group["params"]])
    0.1 [(9, 4)]
    0.0 [(9, 4), (4,), (4,), (9,)]
    """
    if not isinstance(decay, (int, float)) or decay < 0:
        raise ValueError(f"decay is {decay!r}; it must be a number, 0 or more")
    if isinstance(spare, str) or not set(spare) <= set(KINDS):
        raise ValueError(f"spare is {spare!r}; it must be a collection of any of {KINDS}")
    kinds: dict[nn.Parameter, set[str]] = {}  # in the model's order
    for owner in model.modules():
        for parameter in owner.parameters(recurse=False):
            if parameter.requires_grad:
                kinds.setdefault(parameter, set()).add(_kind(owner, parameter))
    decayed = [parameter for parameter, found in kinds.items() if not found & set(spare)]
    spared = [parameter for parameter, found in kinds.items() if found & set(spare)]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


@no_type_check
def adamw(
    model: nn.Module,
    rate: float,
    *,
    decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    spare: Collection[str] = KINDS,
) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over `parameter_groups(model, decay, spare)`.

    With `decay=0` it is Adam. Vaswani et al. 2017 (arXiv:1706.03762, section 5.3) have betas (0.9, 0.98), eps 1e-9 and
    the `noam` schedule, for which `rate` is 1.

    >>> len(adamw(nn.Linear(3, 2), 3e-4).param_groups)
    2
    """
    return AdamW(parameter_groups(model, decay, spare), lr=rate, betas=betas, eps=eps)


def _kind(owner: nn.Module, parameter: nn.Parameter) -> str:
    name = type(owner).__name__
    if isinstance(owner, _NORMS) or name.endswith("Norm"):
        return "norm"
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag) or name.endswith("Embedding"):
        return "embedding"
    return "bias" if parameter.ndim < 2 else "weight"


def load_exactly(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """torch casts what an optimizer remembers to the dtype of its weights; here it keeps the dtype that it had."""
    optimizer.load_state_dict(dict(state))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, saved in state["state"].items():
        held = optimizer.state[parameters[index]]
        for name, value in saved.items():
            if isinstance(value, Tensor) and value.dtype != held[name].dtype:
                held[name] = value.to(held[name].device)
