"""Masks against one-line predicates, the laws of Boolean algebra, and their own promises about tiles."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window, base, content, position

BATCH, HEADS = 2, 3
IDS = [[0, 0, 1, 1, 1, 2, 5, 5, 5], [3, 3, 3, 3, 3, 3, 3, 1, 1]]
TABLE = torch.rand(BATCH, HEADS, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.5

# name: (mask, may query q of head h in sequence b attend to key k?), for 9 queries and 9 keys
SQUARE: dict[str, tuple[Mask, Callable[[int, int, int, int], bool]]] = {
    "causal": (Causal(), lambda b, h, q, k: k <= q),
    "padding": (Padding([4, 0]), lambda b, h, q, k: k < [4, 0][b]),
    "padding, one length": (Padding(torch.tensor(4)), lambda b, h, q, k: k < 4),
    "prefix": (Prefix(3), lambda b, h, q, k: k < 3),
    "window": (Window(2, 1), lambda b, h, q, k: -2 <= k - q <= 1),
    "window, open to the left": (Window(None, 0), lambda b, h, q, k: k <= q),
    "window, open to the right": (Window(0, None), lambda b, h, q, k: k >= q),
    "document": (Document(IDS), lambda b, h, q, k: IDS[b][q] == IDS[b][k]),
    "dense": (Dense(TABLE), lambda b, h, q, k: bool(TABLE[b, h, q, k])),
    "dense row": (Dense(TABLE[:1, :1, :1]), lambda b, h, q, k: bool(TABLE[0, 0, 0, k])),
    "and": (Causal() & Padding([4, 0]), lambda b, h, q, k: k <= q and k < [4, 0][b]),
    "or": (Prefix(3) | Causal(), lambda b, h, q, k: k < 3 or k <= q),
    "not": (~Window(0, 0), lambda b, h, q, k: k != q),
    "nested": (~(Causal() & Dense(TABLE)) | Prefix(1), lambda b, h, q, k: not (k <= q and TABLE[b, h, q, k]) or k < 1),
}
# The same with 4 queries and 7 keys, or 7 queries and 4 keys: the offset is what the alignment means.
LEANING: dict[str, tuple[Mask, Callable[[int, int, int, int], bool]]] = {
    "causal upper left": (Causal("upper_left"), lambda q, k, n, m: k <= q),
    "causal lower right": (Causal("lower_right"), lambda q, k, n, m: k <= q + m - n),
    "window upper left": (Window(1, 2, "upper_left"), lambda q, k, n, m: -1 <= k - q <= 2),
    "window lower right": (Window(1, 2, "lower_right"), lambda q, k, n, m: -1 <= k - (q + m - n) <= 2),
}


@pytest.mark.parametrize("name", SQUARE)
def test_mask_is_its_predicate(name: str) -> None:
    mask, may = SQUARE[name]
    table = mask.materialize(BATCH, HEADS, 9, 9).expand(BATCH, HEADS, 9, 9)
    for b, h, q, k in torch.cartesian_prod(*(torch.arange(n) for n in table.shape)).tolist():
        assert bool(table[b, h, q, k]) == bool(may(b, h, q, k)), (b, h, q, k)


@pytest.mark.parametrize(("q_len", "k_len"), [(4, 7), (7, 4), (5, 5), (1, 6)])
@pytest.mark.parametrize("name", LEANING)
def test_alignment_says_where_the_last_query_stands(name: str, q_len: int, k_len: int) -> None:
    mask, may = LEANING[name]
    table = mask.materialize(1, 1, q_len, k_len)[0, 0]
    assert table.tolist() == [[may(q, k, q_len, k_len) for k in range(k_len)] for q in range(q_len)]


def test_documents_of_queries_and_keys_may_differ() -> None:
    table = Document([1, 2], [2, 2, 1]).materialize(1, 1, 2, 3)[0, 0]
    assert table.tolist() == [[False, False, True], [True, True, False]]


def test_decoding_with_a_cache_sees_what_the_full_pass_sees() -> None:
    """Query 5 of 8 alone, against six cached keys, is row 5 of the full table: that is what lower right means."""
    full = Causal().materialize(1, 1, 8, 8)[0, 0]
    assert torch.equal(Causal("lower_right").materialize(1, 1, 1, 6)[0, 0, 0], full[5, :6])


@st.composite
def masks(draw: st.DrawFn, depth: int = 3) -> Mask:
    """Any composition of square masks."""
    if depth == 0 or draw(st.booleans()):
        return SQUARE[draw(st.sampled_from(sorted(SQUARE)))][0]
    first = draw(masks(depth=depth - 1))
    kind = draw(st.sampled_from("&|~"))
    if kind == "~":
        return ~first
    second = draw(masks(depth=depth - 1))
    return first & second if kind == "&" else first | second


def full(mask: Mask) -> torch.Tensor:
    """The whole table, with every axis at full length."""
    return mask.materialize(BATCH, HEADS, 9, 9).expand(BATCH, HEADS, 9, 9)


@settings(max_examples=60, deadline=None)
@given(masks(), masks())
def test_boolean_algebra_holds(a: Mask, b: Mask) -> None:
    assert torch.equal(full(~(a & b)), full(~a | ~b))
    assert torch.equal(full(~(a | b)), full(~a & ~b))
    assert torch.equal(full(~~a), full(a))
    assert torch.equal(full(a & b), full(a) & full(b))
    assert torch.equal(full(a | b), full(a) | full(b))
    assert not full(a & ~a).any()
    assert full(a | ~a).all()


@settings(max_examples=200, deadline=None)
@given(masks(), st.data())
def test_a_tile_is_its_part_of_the_table_and_its_cover_is_true(mask: Mask, data: st.DataObject) -> None:
    sizes = Sizes(BATCH, HEADS, 9, 9)
    rows, cols = (range(*sorted(data.draw(st.tuples(st.integers(0, 8), st.integers(0, 8))))) for _ in range(2))
    rows, cols = (range(r.start, r.stop + 1) for r in (rows, cols))
    part = full(mask)[:, :, rows.start : rows.stop, cols.start : cols.stop]
    assert torch.equal(mask.tile(rows, cols, sizes).expand_as(part), part)
    cover = mask.cover(rows, cols, sizes)
    assert cover != "full" or part.all()
    assert cover != "empty" or not part.any()


@pytest.mark.parametrize(
    ("mask", "covers"),
    [
        (Causal(), ["full", "partial", "empty"]),
        (Window(2, 0), ["partial", "partial", "empty"]),
        (Window(0, 1), ["empty", "partial", "partial"]),
        (Padding([3, 1]), ["partial", "empty", "empty"]),
        (Prefix(3), ["full", "empty", "empty"]),
        (Document([0, 0, 0, 1, 1, 1, 2, 2, 2]), ["empty", "full", "empty"]),
        (Dense(torch.eye(9, dtype=torch.bool)), ["empty", "partial", "empty"]),
        (~Causal(), ["empty", "partial", "full"]),
        (Prefix(3) | Causal(), ["full", "partial", "empty"]),
        (Prefix(6) & Window(8, 8), ["full", "full", "empty"]),
    ],
    ids=repr,
)
def test_tiles_that_can_be_skipped_are_found(mask: Mask, covers: list[str]) -> None:
    """The middle three queries against the three thirds of the keys: promises are made where they can be."""
    tiles = [range(0, 3), range(3, 6), range(6, 9)]
    sizes = Sizes(2, 1, 9, 9)
    assert [mask.cover(range(3, 6), t, sizes) for t in tiles] == covers


@pytest.mark.parametrize("name", SQUARE)
def test_rule_works_on_single_positions_as_flex_attention_asks(name: str) -> None:
    mask, may = SQUARE[name]
    sizes = Sizes(BATCH, HEADS, 9, 9)
    for b, h, q, k in ((0, 0, 0, 0), (1, 2, 8, 3), (0, 1, 4, 5), (1, 0, 2, 8)):
        seen = mask.rule(*(torch.tensor(i) for i in (b, h, q, k)), sizes)
        assert bool(seen) == bool(may(b, h, q, k))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Causal(align="left"), ["align", "'left'", "upper_left", "lower_right"]),
        (lambda: Causal().materialize(1, 1, 2, 5), ["Causal()", "2 queries", "5 keys", "upper_left", "lower_right"]),
        (lambda: Window(1, 0).materialize(1, 1, 2, 5), ["Window(1, 0)", "alignment"]),
        (lambda: Window(-1, 0), ["left", "-1", "0 or more"]),
        (lambda: Window(0, -2), ["right", "-2"]),
        (lambda: Padding([3, -1]), ["lengths", "-1", "0 or more"]),
        (lambda: Padding(torch.tensor([1.5])), ["lengths", "float32", "integer"]),
        (lambda: Padding([1, 2]).materialize(3, 1, 4, 4), ["Padding([1, 2])", "2 lengths", "batch of 3"]),
        (lambda: Prefix(torch.ones(2, 2, dtype=torch.int64)), ["length", "(2, 2)"]),
        (lambda: Document([0.5, 1.0]), ["ids", "float32", "integers"]),
        (lambda: Document([0, 1]).materialize(1, 1, 2, 3), ["key_ids", "(1, 2)", "length 3", "give key_ids"]),
        (lambda: Dense(torch.ones(2, 2)), ["visible", "float32", "bool"]),
        (lambda: Dense([[True]]), ["visible", "list"]),
        (lambda: Dense(TABLE).materialize(2, 1, 9, 9), ["(2, 3, 9, 9)", "(2, 1, 9, 9)", "[:, None, None, :]"]),
        (lambda: (Causal() & Padding([1])).materialize(1, 1, 2, 3), ["Causal()", "alignment"]),
        (lambda: (~Causal()).materialize(1, 1, 2, 3), ["Causal()", "alignment"]),
    ],
)  # fmt: skip
def test_a_mask_that_does_not_fit_says_why(make: Callable[[], object], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words below are stricter than one pattern
        make()
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_composing_with_something_else_is_a_type_error() -> None:
    for compose in (lambda: Causal() & True, lambda: Causal() | torch.ones(1)):
        with pytest.raises(TypeError, match="unsupported operand"):
            compose()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (Causal("lower_right") & ~Padding([3, 5]), "(Causal(align='lower_right') & ~Padding([3, 5]))"),
        (Prefix(2) | Window(None, 0, "upper_left"), "(Prefix(2) | Window(None, 0, align='upper_left'))"),
        (Document([0, 1]), "Document([0, 1])"),
        (Document([0, 1], [1]), "Document([0, 1], key_ids=[1])"),
        (Document([[0, 1], [1, 1], [1, 2]]), "Document([[0, 1], [1, 1], ... 3 in all])"),
        (Document(range(4096)), "Document([0, 1, 2, 3, ... 4095])"),
        (Padding(range(9)), "Padding([0, 1, 2, 3, ... 8])"),
        (Dense(TABLE), "Dense(2x3x9x9)"),
    ],
)
def test_masks_read_as_they_were_written(mask: Mask, text: str) -> None:
    assert repr(mask) == text


@pytest.mark.parametrize("module", [base, content, position])
def test_the_drawings_in_the_docstrings_are_right(module) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted > 0 or module is base


@pytest.mark.parametrize(("q_len", "k_len"), [(0, 9), (9, 0), (0, 0)])
def test_empty_tables_have_their_shape(q_len: int, k_len: int) -> None:
    for mask in (Causal("lower_right"), Window(1, 1, "upper_left"), Padding(0), Document([0] * q_len, [0] * k_len)):
        table = (mask & ~mask).materialize(1, 1, q_len, k_len)
        assert table.shape[2:] == (q_len, k_len)
