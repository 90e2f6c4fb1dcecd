"""Equal budgets, enforced: count parameters and FLOPs, find the size that meets them, refuse an unequal contest.

A FLOP here is one multiplication or addition inside a product of matrices, a convolution or attention, counted by
torch (`torch.utils.flop_counter`) while the model runs forward. What is done number by number (softmax, tanh, norms)
is left out, as it is in the literature; so is the lookup of embeddings. Attention is counted as if every query met
every key, whatever the mask hides.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, no_type_check

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attnkit.nn.recording import Recordable

# Fused operations for which torch has no formula. Counting on, they would pass as free.
UNCOUNTED = ("_cudnn_rnn", "_thnn_fused_", "miopen_rnn", "_flash_attention_for_cpu")


def _lstm_flops(x: torch.Size, w_input: torch.Size, w_state: torch.Size, *rest: Any, **options: Any) -> int:
    """oneDNN's LSTM: both weights meet every token. Shapes (len, batch, d), (4 hidden, d), (4 hidden, hidden)."""
    return 2 * x[0] * x[1] * (w_input.numel() + w_state.numel())


MORE = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}


class Budget(NamedTuple):
    """What a model costs: numbers to train, and FLOPs of one forward pass over the inputs it was counted with."""

    parameters: int
    flops: int

    def gap(self, other: Budget) -> float:
        """The larger of both differences, relative to the smaller side: 0.05 is 5 %."""
        return max(_gap(self.parameters, other.parameters), _gap(self.flops, other.flops))


class UnequalBudgets(ValueError):
    """Models were to be compared whose budgets differ by more than was allowed."""


def parameters(model: nn.Module) -> int:
    """How many numbers are trained; shared ones count once.

    >>> parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@no_type_check  # any module, any inputs
def flops(model: nn.Module, *inputs: Any) -> int:
    """FLOPs of `model(*inputs)`, in eval mode and without gradients. The model is left as it was.

    attnkit's attention is computed by the formula as it reads while it is counted, since the fused ways have no formula
    in torch. Raises NotImplementedError for any other fused operation without one, rather than count it as free.

    >>> flops(nn.Linear(3, 2), torch.ones(5, 3))  # 5 rows, 3 multiplications and 3 additions for each of 2 outputs
    60
    """
    seen: set[str] = set()
    training = model.training
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_by_the_formula(model))
        stack.enter_context(_Names(seen))
        counter = stack.enter_context(FlopCounterMode(display=False, custom_mapping=MORE))
        try:
            model.eval()(*inputs)
        finally:
            model.train(training)
    blind = sorted(name for name in seen if any(word in name for word in UNCOUNTED))
    if blind:
        raise NotImplementedError(f"torch counts no FLOPs for {', '.join(blind)}; count on the CPU, or write it out")
    return counter.get_total_flops()


def count(model: nn.Module, *inputs: Any) -> Budget:
    """Both counts of a model, for a forward pass over `inputs`."""
    return Budget(parameters(model), flops(model, *inputs))


@no_type_check
def match(
    build: Callable[[int], nn.Module], like: Budget, *inputs: Any, sizes: Iterable[int] = range(1, 2049), within=0.05
) -> int:
    """The size for which `build(size)` comes nearest to the budget `like`, in parameters and FLOPs alike.

    `build` makes a model of any of `sizes`, which grow; so must its parameters. A few dozen models are built.
    Raises UnequalBudgets when no size comes within `within` of both counts; ValueError for no sizes.

    >>> match(lambda size: nn.Linear(8, size, bias=False), Budget(800, 1600), torch.ones(1, 8))
    100
    """
    sizes = sorted(sizes)
    if not sizes:
        raise ValueError("sizes is empty; there must be one size or more to choose from")
    first = bisect_left(sizes, like.parameters, key=lambda size: parameters(build(size)))
    second = bisect_left(sizes, like.flops, key=lambda size: flops(build(size), *inputs))
    # One count is met at the first place, the other at the second; the best for both is on the way between.
    near = sizes[max(0, min(first, second) - 1) : max(first, second) + 1]
    counts = {size: count(build(size), *inputs) for size in near[:: -(-len(near) // 16)]}
    best = min(counts, key=lambda size: counts[size].gap(like))
    if counts[best].gap(like) > within:
        raise UnequalBudgets(
            f"no size comes within {within:.0%} of {like}: the nearest, {best}, has {counts[best]}; "
            "change the depth, the width of the stream, or the budget"
        )
    return best


def equal(models: Mapping[str, nn.Module], *inputs: Any, within: float = 0.05) -> dict[str, Budget]:
    """The budget of each model. Raises UnequalBudgets, naming two, unless all are within `within` of each other."""
    budgets = {name: count(model, *inputs) for name, model in models.items()}
    for what in Budget._fields:
        least, most = (pick(budgets, key=lambda name: getattr(budgets[name], what)) for pick in (min, max))
        a, b = getattr(budgets[least], what), getattr(budgets[most], what)
        if _gap(a, b) > within:
            raise UnequalBudgets(
                f"{most} has {b:,} {what} and {least} has {a:,}: {_gap(a, b):.1%} apart, where {within:.0%} is allowed"
            )
    return budgets


def _gap(a: int, b: int) -> float:
    return 0.0 if a == b else abs(a - b) / min(a, b) if min(a, b) else float("inf")


@contextmanager
def _by_the_formula(model: nn.Module) -> Iterator[None]:
    """All attention of the model by the naive backend, whose products torch can count."""
    attending = [module for module in model.modules() if isinstance(module, Recordable)]
    before = [module.backend for module in attending]
    try:
        for module in attending:
            module.backend = "naive"
        yield
    finally:
        for module, backend in zip(attending, before, strict=True):
            module.backend = backend


class _Names(TorchDispatchMode):
    """Notes the name of each operation that runs."""

    def __init__(self, seen: set[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.name())
        return func(*args, **(kwargs or {}))
