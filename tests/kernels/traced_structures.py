"""What test_plan.py runs: each structure traced once with unknown lengths, and compared with the one not traced.

python traced_structures.py eager
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from attnkit.kernels.plan import structure
from attnkit.masks import Causal, Document, Mask, Padding, Prefix, Sizes, Window

SHAPES = [(2, 5, 9), (2, 9, 7), (2, 11, 6)]
LONGEST = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2, 5, 5], [3, 3, 3, 3, 3, 3, 4, 4, 7, 8, 8]])
GROUPED = torch.tensor([[4, 4, 4, 1, 1, 1, 6, 6, 5, 5, -1]])


class Recut:
    """Documents of the lengths that are needed; a mask is made outside of what is compiled."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def __call__(self, q_len: int, k_len: int) -> Mask:
        return Document(self.ids[:, :q_len].clone(), self.ids[:, -k_len:].clone()) & Causal("lower_right")


MASKS = [
    lambda q_len, k_len: Causal("lower_right"),
    lambda q_len, k_len: Window(3, 1, "lower_right"),
    lambda q_len, k_len: Window(None, 2, "upper_left") & Causal("lower_right"),
    lambda q_len, k_len: Padding([3, q_len // 2]),
    lambda q_len, k_len: Prefix([3, k_len // 2]) | Causal("lower_right"),
    lambda q_len, k_len: ~Window(0, 0, "upper_left"),
    lambda q_len, k_len: Causal("upper_left") & ~(Padding(3) | Window(1, 1, "lower_right")),
    Recut(LONGEST),
    Recut(GROUPED),
]


def check(make, backend: str) -> None:
    """One graph for all shapes, with the numbers of eager execution."""
    torch._dynamo.reset()
    graphs = 0

    def count(graph, inputs):
        nonlocal graphs
        graphs += 1
        return torch._dynamo.lookup_backend(backend)(graph, inputs)

    @torch.compile(fullgraph=True, dynamic=True, backend=count)
    def traced(query: Tensor, key: Tensor, mask: Mask):
        found = structure(mask, Sizes(*query.shape[:3], key.shape[2]), query.device)
        return query.sum(), found.low, found.high, found.spans, found.table

    for batch, q_len, k_len in SHAPES:
        mask = make(q_len, k_len)
        _, *ends, spans, table = traced(torch.ones(batch, 3, q_len, 8), torch.ones(batch, 3, k_len, 8), mask)
        want = structure(mask, Sizes(batch, 3, q_len, k_len), "cpu")
        assert ends == [want.low, want.high], (mask, ends)
        assert table is None
        assert want.table is None
        assert spans is want.spans if want.spans is None else torch.equal(spans, want.spans), (mask, spans)
    assert graphs == 1, f"{mask!r} was traced {graphs} times"


@torch.compile(fullgraph=True, dynamic=True, backend=sys.argv[1])
def made_inside(ids: Tensor) -> Tensor:
    """Nobody can look at the documents here, so they become a table."""
    found = structure(Document(ids) & Causal(), Sizes(1, 1, ids.shape[1], ids.shape[1]), ids.device)
    assert found.spans is None
    return found.table


for make in MASKS:
    check(make, sys.argv[1])
for ids in (LONGEST[:1], GROUPED[:, :7]):
    assert torch.equal(made_inside(ids), ids[:, None, :, None] == ids[:, None, None, :])
print(f"as without tracing: {len(MASKS)} masks, {len(SHAPES)} shapes")
