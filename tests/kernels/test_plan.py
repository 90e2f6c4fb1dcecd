"""A mask as numbers, spans and table against the mask's own table; lists of tiles against the tiles themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnkit.kernels.plan import MOST, UNLIMITED, Structure, blocks, structure
from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


class Stripes(Mask):
    """A rule of a user's own, which differs from head to head."""

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Tensor:
        return (q + k + h) % 3 != 0

    def __repr__(self) -> str:
        return "Stripes()"


class Backwards(Causal):
    """A subclass that is not what its base is."""

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Tensor:
        return k >= q


SIZES = st.builds(Sizes, st.integers(0, 2), st.integers(1, 2), st.integers(0, 13), st.integers(0, 13))
ALIGN = st.sampled_from(["upper_left", "lower_right"])
REACH = st.one_of(st.none(), st.integers(0, 5))


def numbers(count: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, most), min_size=count, max_size=count)


def bounds(sizes: Sizes) -> st.SearchStrategy[Tensor]:
    """One bound for all or one for each of the batch; empty sequences and ones longer than the keys among them."""
    listed = st.one_of(numbers(1, sizes.k_len + 2), numbers(sizes.batch, sizes.k_len + 2))
    return st.builds(torch.tensor, listed, dtype=st.just(torch.int64))


@st.composite
def documents(draw: st.DrawFn, sizes: Sizes, lie: str) -> Document:
    """Documents of queries in any order; keys sorted, grouped (each document together) or anyhow."""

    def row(length: int, lie: str) -> list[int]:
        ids = draw(numbers(length, 4))
        if lie == "anyhow":
            return ids
        rank = draw(st.permutations(range(5))) if lie == "grouped" else range(5)
        return sorted(ids, key=lambda x: rank[x])

    rows = [draw(st.sampled_from(sorted({1, sizes.batch}))) for _ in range(2)]
    if sizes.q_len == sizes.k_len and draw(st.booleans()):
        return Document(torch.tensor([row(sizes.k_len, lie) for _ in range(rows[0])]).view(rows[0], sizes.k_len).long())
    ids = [
        torch.tensor([row(length, how) for _ in range(n)]).view(n, length).long()
        for n, length, how in ((rows[0], sizes.q_len, "anyhow"), (rows[1], sizes.k_len, lie))
    ]
    return Document(*ids)


@st.composite
def dense(draw: st.DrawFn, sizes: Sizes) -> Dense:
    shape = [draw(st.sampled_from(sorted({1, n}))) for n in sizes]
    rng = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return Dense(torch.rand(shape, generator=rng) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])))


def regular(sizes: Sizes) -> list[st.SearchStrategy[Mask]]:
    """Masks that are bands and spans."""
    return [
        st.builds(Causal, ALIGN),
        st.builds(Window, REACH, REACH, ALIGN),
        st.builds(Padding, bounds(sizes)),
        st.builds(Prefix, bounds(sizes)),
        documents(sizes, "sorted"),
        documents(sizes, "grouped"),
    ]


def irregular(sizes: Sizes) -> list[st.SearchStrategy[Mask]]:
    """Masks that are tables."""
    return [documents(sizes, "anyhow"), dense(sizes), st.builds(Stripes), st.builds(Backwards, ALIGN)]


@st.composite
def composed(draw: st.DrawFn, leaves: list[st.SearchStrategy[Mask]], depth: int = 3) -> Mask:
    """Any composition of leaves."""
    sign = draw(st.sampled_from(" &|~")) if depth else " "
    if sign == " ":
        return draw(st.one_of(leaves))
    first = draw(composed(leaves, depth - 1))
    if sign == "~":
        return ~first
    second = draw(composed(leaves, depth - 1))
    return first & second if sign == "&" else first | second


@st.composite
def cases(draw: st.DrawFn, tables: bool = True, depth: int = 3) -> tuple[Mask, Sizes]:
    """A mask and the sizes that it fits."""
    sizes = draw(SIZES)
    return draw(composed(regular(sizes) + (irregular(sizes) if tables else []), depth)), sizes


def truth(mask: Mask, sizes: Sizes) -> Tensor:
    """What the mask itself says, with every axis at full length."""
    return mask.materialize(*sizes).expand(sizes)


@settings(max_examples=400, deadline=None)
@given(cases())
@example((Prefix(2) | Causal(), Sizes(1, 1, 9, 9)))
@example((~(Window(1, 1) | Padding([3, 9])) & Causal(), Sizes(2, 1, 9, 9)))
def test_a_structure_shows_what_its_mask_shows(case: tuple[Mask, Sizes]) -> None:
    mask, sizes = case
    found = structure(mask, sizes, CPU)
    assert torch.equal(found.visible(sizes, CPU).expand(sizes), truth(mask, sizes)), found.describe()
    assert by_the_letter(found, sizes).expand(sizes).equal(truth(mask, sizes)), "what a kernel reads is the same"
    if found.spans is not None:
        assert found.spans.dtype == torch.int32
        assert found.spans.shape[2] == sizes.q_len
        assert found.spans.shape[3] in range(2, 2 * MOST + 1, 2)
    assert (found.table is None) == (found.because == "")
    assert found.describe()


def by_the_letter(found: Structure, sizes: Sizes) -> Tensor:
    """The contract with kernels, written down again: band, any of the spans, table."""
    q, k = torch.arange(sizes.q_len).view(-1, 1), torch.arange(sizes.k_len)
    seen = ((k - q >= found.low) & (k - q <= found.high))[None, None]
    if found.spans is not None:
        ends = found.spans.unflatten(3, (-1, 2))
        seen = seen & ((k[:, None] >= ends[:, :, :, None, :, 0]) & (k[:, None] < ends[:, :, :, None, :, 1])).any(-1)
    return seen if found.table is None else seen & found.table


@settings(max_examples=200, deadline=None)
@given(cases(tables=False))
def test_spans_are_in_order_apart_and_inside_the_keys(case: tuple[Mask, Sizes]) -> None:
    """What unite, intersect, complement and the counting of tiles build on."""
    mask, sizes = case
    found = structure(mask, sizes, CPU).spans
    if found is None:
        return
    starts, stops = found[..., 0::2], found[..., 1::2]
    empty = starts == stops
    assert ((starts >= 0) & (starts <= stops) & (stops <= sizes.k_len)).all()
    assert (starts[empty] == sizes.k_len).all()
    assert ((starts[..., 1:] > stops[..., :-1]) | empty[..., 1:]).all()


# What each mask becomes for 2 x 3 heads of 9 queries and 9 keys: low, high, pairs a query, shape of the table.
FORMS: list[tuple[Mask | None, tuple[int, int, int, tuple[int, ...] | None]]] = [
    (None, (-UNLIMITED, UNLIMITED, 0, None)),
    (Causal(), (-UNLIMITED, 0, 0, None)),
    (Window(3, 1), (-3, 1, 0, None)),
    (Window(None, None), (-UNLIMITED, UNLIMITED, 0, None)),
    (Window(1 << 40, 0), (-UNLIMITED, 0, 0, None)),
    (Causal() & Window(3, 1), (-3, 0, 0, None)),
    (~Causal(), (1, UNLIMITED, 0, None)),
    (~~Causal(), (-UNLIMITED, 0, 0, None)),
    (~Window(None, None), (UNLIMITED, -UNLIMITED, 0, None)),
    (~Window(0, 0), (-UNLIMITED, UNLIMITED, 2, None)),
    (Padding([3, 4]), (-UNLIMITED, UNLIMITED, 1, None)),
    (Prefix([4, 9]) | Causal(), (-UNLIMITED, UNLIMITED, 2, None)),
    (Causal() & Document([0, 0, 1, 1, 1, 2, 5, 5, 5]) & Padding([3, 9]), (-UNLIMITED, 0, 1, None)),
    (Document([7, 7, 7, 2, 2, 2, 5, -1, -1]), (-UNLIMITED, UNLIMITED, 1, None)),
    (Document([0, 1, 0, 1, 0, 1, 0, 1, 0]), (-UNLIMITED, UNLIMITED, 0, (1, 1, 9, 9))),
    (Dense(torch.ones(2, 1, 1, 9, dtype=torch.bool)) & Causal(), (-UNLIMITED, 0, 0, (2, 1, 1, 9))),
    (~Dense(torch.ones(1, 9, dtype=torch.bool)), (-UNLIMITED, UNLIMITED, 0, (1, 1, 1, 9))),
    (Stripes() & Padding(3), (-UNLIMITED, UNLIMITED, 1, (1, 3, 9, 9))),
    (Causal() | Stripes(), (-UNLIMITED, UNLIMITED, 0, (1, 3, 9, 9))),
    (~Window(0, 0) & (~Window(1, 1) | Prefix(2)), (-UNLIMITED, UNLIMITED, 4, None)),
    (~(~Window(0, 0) & (~Window(1, 1) | Prefix(2))), (-UNLIMITED, UNLIMITED, 0, (1, 1, 9, 9))),
    (~Window(0, 0) & (~Window(1, 1) | Window(2, 2) | Prefix(1)), (-UNLIMITED, UNLIMITED, 2, (1, 1, 9, 9))),
]


@pytest.mark.parametrize(("mask", "form"), FORMS, ids=[repr(mask) for mask, _ in FORMS])
def test_masks_take_the_cheapest_form(mask: Mask | None, form: tuple) -> None:
    found = structure(mask, Sizes(2, 3, 9, 9), CPU)
    pairs = 0 if found.spans is None else found.spans.shape[3] // 2
    assert (found.low, found.high, pairs, None if found.table is None else tuple(found.table.shape)) == form
    assert found.is_band == (form[2:] == (0, None))


@pytest.mark.parametrize(
    ("mask", "shape", "row_stride"),
    [(Padding([3, 4]), (2, 1, 9, 2), 0), (Padding(3), (1, 1, 9, 2), 0), (Document([0] * 9), (1, 1, 9, 2), 2)],
    ids=repr,
)
def test_axes_on_which_a_mask_does_not_depend_take_no_memory(mask: Mask, shape: tuple, row_stride: int) -> None:
    found = structure(mask, Sizes(2, 3, 9, 9), CPU).spans
    assert found is not None
    assert (found.shape, found.stride(2)) == (shape, row_stride)


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (None, "every key"),
        (Window(127, None), "keys at most 127 before the query"),
        (Causal(), "keys at most 0 after the query"),
        (Window(5, 2), "keys at most 5 before and at most 2 after the query"),
        (~Causal(), "keys at least 1 after the query"),
        (~Window(3, None), "keys at least 4 before the query"),
        (Prefix(2) | Causal(), "spans: 2 a query"),
        (Causal() & Padding(3), "keys at most 0 after the query; spans: 1 a query"),
        (Document([[0, 1] * 256] * 2), "a table of 2x1x512x512 = 0.5 MB, because its documents are scattered"),
        (Dense(torch.ones(512, dtype=torch.bool)), "a table of 1x1x1x512 = 0.0 MB, because a dense mask is one"),
        (Stripes(), "a table of 1x3x512x512 = 0.8 MB, because Stripes is known by its rule only"),
    ],
    ids=repr,
)
def test_a_structure_says_what_it_is(mask: Mask | None, line: str) -> None:
    assert structure(mask, Sizes(2, 3, 512, 512), CPU).describe() == line


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        ([0, 0, 1, 3, 3], "sorted"),
        ([[0, 1], [5, 5]], "sorted"),
        ([], "sorted"),
        ([2, 2, 7, -1, -1], "grouped"),
        ([[0, 1, 2], [2, 0, 1]], "grouped"),
        ([[0, 1, 2], [2, 0, 2]], "scattered"),
        (torch.zeros(1, 3, dtype=torch.int64, device="meta"), "unknown"),
    ],
    ids=str,
)
def test_documents_know_how_their_keys_lie(ids: list | Tensor, order: str) -> None:
    assert Document([0], ids).order == order


Lists = tuple[Tensor, Tensor, Tensor]


def tiles_of(table: Tensor, q_block: int, k_block: int) -> tuple[Tensor, Tensor]:
    """Which tiles hold anything visible, and which nothing hidden, by looking at each."""
    batch, heads, q_len, k_len = table.shape
    starts = [(i, j) for i in range(0, q_len, q_block) for j in range(0, k_len, k_block)]
    shape = (batch, heads, -(-q_len // q_block), -(-k_len // k_block))
    tiles = [table[:, :, i : i + q_block, j : j + k_block].flatten(2) for i, j in starts]
    if not tiles:
        return (torch.zeros(shape, dtype=torch.bool),) * 2
    inside = torch.tensor([j + k_block <= k_len for _, j in starts])
    seen, full = (torch.stack([f(t, -1) for t in tiles], -1) for f in (torch.any, torch.all))
    return seen.view(shape), (full & inside).view(shape)


def from_lists(lists: Lists, sizes: Sizes, by: str) -> tuple[Tensor, Tensor]:
    """The same from the lists, after checking that each block is in them once and each kind in order."""
    order, full, seen = (x.expand(*sizes[:2], *x.shape[2:]) for x in lists)
    n = order.shape[3]
    assert {x.dtype for x in lists} == {torch.int32}
    assert torch.equal(order.long().sort(-1).values, torch.arange(n).expand(order.shape))
    assert ((full >= 0) & (full <= seen) & (seen <= n)).all()
    place = order.long().argsort(-1)
    for i in range(n - 1):
        same_kind = (i + 1 < full) | ((i >= full) & (i + 1 < seen)) | (i >= seen)
        assert (order[..., i + 1] > order[..., i])[same_kind].all()
    tables = (place < seen[..., None], place < full[..., None])
    return tables if by == "rows" else (tables[0].mT, tables[1].mT)


BLOCK, BY = st.integers(1, 6), st.sampled_from(["rows", "cols"])


@settings(max_examples=400, deadline=None)
@given(cases(tables=False), BLOCK, BLOCK, BY)
@example((Causal() & Document([0, 0, 0, 1, 1, 2, 2, 2, 2]) & Padding([4, 0]), Sizes(2, 1, 9, 9)), 2, 3, "rows")
@example((Prefix(4) | Causal(), Sizes(1, 1, 9, 9)), 2, 2, "cols")
def test_tiles_of_bands_and_spans_are_known_exactly(
    case: tuple[Mask, Sizes], q_block: int, k_block: int, by: Literal["rows", "cols"]
) -> None:
    """No work on hidden tiles, and no comparing of positions in full ones."""
    mask, sizes = case
    found = structure(mask, sizes, CPU)
    seen, full = from_lists(blocks(found, sizes, q_block, k_block, CPU, by=by), sizes, by)
    want_seen, want_full = tiles_of(truth(mask, sizes), q_block, k_block)
    if found.table is None:
        assert torch.equal(seen, want_seen)
        assert torch.equal(full, want_full)
    else:  # more spans than a row may have
        assert not (want_seen & ~seen).any()
        assert not (full & ~want_full).any()


@settings(max_examples=300, deadline=None)
@given(cases(), BLOCK, BLOCK, BY)
def test_lists_of_tiles_promise_only_what_holds(
    case: tuple[Mask, Sizes], q_block: int, k_block: int, by: Literal["rows", "cols"]
) -> None:
    """Whatever the mask: nothing visible outside the seen tiles, nothing hidden inside the full ones."""
    mask, sizes = case
    lists = blocks(structure(mask, sizes, CPU), sizes, q_block, k_block, CPU, by=by)
    seen, full = from_lists(lists, sizes, by)
    want_seen, want_full = tiles_of(truth(mask, sizes), q_block, k_block)
    assert not (want_seen & ~seen).any()
    assert not (full & ~want_full).any()


@settings(max_examples=100, deadline=None)
@given(st.data(), BLOCK, BLOCK, BY)
def test_tiles_of_a_table_alone_are_known_exactly(
    data: st.DataObject, q_block: int, k_block: int, by: Literal["rows", "cols"]
) -> None:
    sizes = data.draw(SIZES)
    mask = data.draw(st.one_of(irregular(sizes)))
    lists = blocks(structure(mask, sizes, CPU), sizes, q_block, k_block, CPU, by=by)
    seen, full = from_lists(lists, sizes, by)
    want_seen, want_full = tiles_of(truth(mask, sizes), q_block, k_block)
    assert torch.equal(seen, want_seen)
    assert torch.equal(full, want_full)


@pytest.mark.parametrize("mask", [Padding([3, 9]), Dense(torch.ones(2, 1, 1, 9, dtype=torch.bool)), Stripes()])
def test_lists_are_as_short_as_what_they_depend_on(mask: Mask) -> None:
    order, full, seen = blocks(structure(mask, Sizes(2, 3, 9, 9), CPU), Sizes(2, 3, 9, 9), 4, 4, CPU)
    lead = (1, 3) if isinstance(mask, Stripes) else (2, 1)
    assert (order.shape, full.shape, seen.shape) == ((*lead, 3, 3), (*lead, 3), (*lead, 3))


@pytest.mark.parametrize("mask", [mask for mask, _ in FORMS], ids=repr)
def test_nothing_is_read_back_from_the_device(mask: Mask | None) -> None:
    """A meta tensor has no numbers: asking for one raises."""
    sizes = Sizes(2, 3, 9, 9)
    found = structure(mask, sizes, "meta")
    for by in ("rows", "cols"):
        assert {x.device.type for x in blocks(found, sizes, 4, 4, "meta", by=by)} == {"meta"}


def test_long_sequences_need_no_table_of_queries_and_keys() -> None:
    """100,000 queries and keys: their table would be 10 GB."""
    length, block = 100_000, 128
    sizes = Sizes(1, 1, length, length)
    found = structure(Causal() & Document(torch.arange(length) // 1000), sizes, CPU)
    order, full, seen = blocks(found, sizes, block, block, CPU)
    assert order.shape == (1, 1, 782, 782)
    ids = torch.arange(length) // 1000
    for row in (0, 7, 400, 781):  # a block of rows begins in the document of its first and ends at its last
        first, last = row * block, min((row + 1) * block, length) - 1
        start = int(ids[first]) * 1000
        want = list(range(start // block, last // block + 1))
        assert sorted(order[0, 0, row, : seen[0, 0, row]].tolist()) == want
        assert full[0, 0, row] < seen[0, 0, row]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.slow
def test_structures_can_be_traced_with_lengths_that_change(backend: str) -> None:
    """In a process of its own, because torch cannot trace through the type checks that are on in tests."""
    script = Path(__file__).with_name("traced_structures.py")
    run = subprocess.run([sys.executable, script, backend], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[-2] == "as without tracing: 9 masks, 3 shapes", run.stdout
