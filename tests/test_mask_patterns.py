"""Sparse patterns against one-line predicates, their promises about tiles, and every backend on the published ones."""

from __future__ import annotations

import doctest
import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit import attention
from attnkit.masks import Blocked, Causal, Global, Mask, RandomKeys, Sizes, Strided, Window, pattern

N = 11

# name: (mask, may query q attend to key k?), for 11 queries and 11 keys
SQUARE: dict[str, tuple[Mask, Callable[[int, int], bool]]] = {
    "global": (Global([0, 7]), lambda q, k: q in (0, 7) or k in (0, 7)),
    "global, one": (Global(3), lambda q, k: 3 in (q, k)),
    "global, none": (Global([]), lambda q, k: False),
    "strided": (Strided(3), lambda q, k: abs(q - k) in (0, 3, 6, 9)),
    "strided by 1": (Strided(1), lambda q, k: True),
    "longformer": (Window(1, 1) | Global([0]), lambda q, k: abs(q - k) <= 1 or q == 0 or k == 0),
    "dilated": (Window(4, 4) & Strided(2), lambda q, k: abs(q - k) in (0, 2, 4)),
    "sparse transformer": (
        Causal() & (Window(2, 0) | Strided(3)),
        lambda q, k: k <= q and (q - k <= 2 or (q - k) % 3 == 0),
    ),
    "blocked causal": (Blocked(Causal(), 4), lambda q, k: k // 4 <= q // 4),
    "blocked window": (Blocked(Window(1, 0), 3), lambda q, k: q // 3 - k // 3 in (0, 1)),
    "blocked by 1": (Blocked(Window(1, 1), 1), lambda q, k: abs(q - k) <= 1),
    "blocked global": (Blocked(Global([1]), 4), lambda q, k: q in range(4, 8) or k in range(4, 8)),
}
RANDOM = {"random": RandomKeys(2, seed=5), "random, blocked": Blocked(RandomKeys(2), 3), "all": RandomKeys(N)}
BIG_BIRD = Blocked(Window(1, 1) | Global([0]) | RandomKeys(2, seed=1), 2)


def table(mask: Mask, q_len: int = N, k_len: int = N) -> torch.Tensor:
    return mask.materialize(1, 1, q_len, k_len)[0, 0]


@pytest.mark.parametrize("name", SQUARE)
def test_a_pattern_is_its_predicate(name: str) -> None:
    mask, may = SQUARE[name]
    assert table(mask).tolist() == [[may(q, k) for k in range(N)] for q in range(N)]
    for q, k in ((0, 0), (7, 2), (2, 9), (10, 10)):  # as FlexAttention asks
        assert bool(mask.rule(*(torch.tensor(i) for i in (0, 0, q, k)), Sizes(1, 1, N, N))) == may(q, k)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*SQUARE, *RANDOM, "big bird", "inverted"]), st.data())
def test_the_cover_of_a_tile_is_true(name: str, data: st.DataObject) -> None:
    known = {**{n: m for n, (m, _) in SQUARE.items()}, **RANDOM, "big bird": BIG_BIRD, "inverted": ~BIG_BIRD}
    mask, sizes = known[name], Sizes(1, 1, N, N)
    rows, cols = (sorted(data.draw(st.tuples(st.integers(0, N), st.integers(0, N)))) for _ in range(2))
    part = table(mask)[slice(*rows), slice(*cols)]
    assert torch.equal(mask.tile(range(*rows), range(*cols), sizes)[0, 0].expand_as(part), part)
    cover = mask.cover(range(*rows), range(*cols), sizes)
    assert cover != "full" or part.all()
    assert cover != "empty" or not part.any()


@pytest.mark.parametrize(
    ("mask", "covers"),
    [
        (Global([0]), ["partial", "empty", "empty"]),
        (Global(range(3)), ["full", "empty", "empty"]),
        (Global([3, 4, 5]), ["full", "full", "full"]),
        (Strided(20), ["empty", "partial", "empty"]),
        (Strided(1), ["full", "full", "full"]),
        (Blocked(Window(1, 0), 3), ["full", "full", "empty"]),
        (Blocked(Global([0]), 3), ["full", "empty", "empty"]),
        (RandomKeys(9), ["full", "full", "full"]),
    ],
    ids=repr,
)
def test_tiles_that_can_be_skipped_are_found(mask: Mask, covers: list[str]) -> None:
    """The middle three of nine queries against the three thirds of the keys."""
    tiles = [range(0, 3), range(3, 6), range(6, 9)]
    assert [mask.cover(range(3, 6), tile, Sizes(1, 1, 9, 9)) for tile in tiles] == covers


def test_a_block_of_big_bird_is_never_partial() -> None:
    """Tile by tile, with tiles of a block, everything is known without looking: what a kernel skips is all it may."""
    sizes = Sizes(1, 1, 64, 64)
    mask = Blocked(Window(1, 1) | Global([0]) | RandomKeys(2), 4)
    starts = range(0, 64, 4)
    covers = {(r, c): mask.cover(range(r, r + 4), range(c, c + 4), sizes) for r in starts for c in starts}
    assert "partial" not in covers.values()
    seen = table(mask, 64, 64)
    assert all((covers[r, c] == "full") == bool(seen[r, c]) for r, c in covers)


@pytest.mark.parametrize(("count", "k_len"), [(1, 5), (3, 100), (7, 50), (4, 5)])
def test_random_keys_are_so_many_distinct_and_differ_by_query_and_seed(count: int, k_len: int) -> None:
    seen = table(RandomKeys(count, seed=2), 200, k_len)
    assert (seen.sum(-1) == count).all()
    assert torch.equal(seen, table(RandomKeys(count, seed=2), 200, k_len))
    assert not torch.equal(seen, table(RandomKeys(count, seed=3), 200, k_len))
    assert len(seen.unique(dim=0)) > 1
    # No key is left out or favoured: how often each is drawn stays within 6 standard deviations of a fair draw.
    drawn = table(RandomKeys(count, seed=2), 4000, k_len).sum(0).double()
    stretch = [s * k_len // count for s in range(count + 1)]
    for start, stop in itertools.pairwise(stretch):
        p = 1 / (stop - start)
        assert ((drawn[start:stop] - 4000 * p).abs() <= 6 * (4000 * p * (1 - p)) ** 0.5 + 1e-9).all()


def test_random_keys_connect_what_a_window_alone_does_not() -> None:
    """Three layers of a window reach 6 keys to each side; with four random keys each, nearly everything."""
    shares = []
    for mask in (Window(2, 2), Window(2, 2) | RandomKeys(4)):
        step = table(mask, 100, 100).double()
        shares.append(((step @ step @ step) > 0).double().mean().item())
    assert shares[0] < 0.13
    assert shares[1] > 0.95


@pytest.mark.parametrize("align", ["upper_left", "lower_right"])
def test_alignment_says_where_the_queries_stand(align) -> None:
    shift = 4 if align == "lower_right" else 0
    assert table(Strided(3, align), 5, 9).tolist() == [[(q + shift - k) % 3 == 0 for k in range(9)] for q in range(5)]
    assert table(Global([4], align), 5, 9).tolist() == [[4 in (q + shift, k) for k in range(9)] for q in range(5)]
    cover = Global([4], align).cover(range(0, 1), range(5, 9), Sizes(1, 1, 5, 9))
    assert cover == ("full" if align == "lower_right" else "empty")


@pytest.mark.parametrize("backend", ["inplace", "online", "sdpa", "auto"])
@pytest.mark.parametrize("name", ["longformer", "dilated", "sparse transformer", "blocked window", "big bird"])
def test_every_backend_attends_by_the_pattern(name: str, backend: str) -> None:
    mask = BIG_BIRD if name == "big bird" else SQUARE[name][0]
    query, key, value = torch.randn(3, 2, 2, N, 8, dtype=torch.float64)
    expected = attention(query, key, value, mask=table(mask)[None, None], backend="naive")
    torch.testing.assert_close(attention(query, key, value, mask=mask, backend=backend), expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Global([-1]), ["positions", "-1", "0 or more"]),
        (lambda: Global([0.5]), ["positions", "0.5"]),
        (lambda: Global(0, align="left"), ["align", "'left'"]),
        (lambda: Global(0).materialize(1, 1, 2, 5), ["Global([0])", "alignment", "2 queries"]),
        (lambda: Strided(0), ["step", "0", "at least 1"]),
        (lambda: Strided(2).materialize(1, 1, 2, 5), ["Strided(2)", "alignment"]),
        (lambda: RandomKeys(0), ["count", "0", "at least 1"]),
        (lambda: RandomKeys(2, seed=0.5), ["seed", "0.5"]),
        (lambda: Blocked(Causal(), 0), ["block", "0", "at least 1"]),
        (lambda: Blocked("causal", 4), ["inner", "str"]),
        (lambda: Blocked(RandomKeys(1), 4).materialize(1, 1, 6, 8), ["6 queries", "8 keys", "multiples of block = 4"]),
        (lambda: Blocked(Causal(), 4).materialize(1, 1, 4, 8), ["Causal()", "1 queries", "2 keys"]),
    ],
)  # fmt: skip
def test_a_pattern_that_does_not_fit_says_why(make: Callable[[], object], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words below are stricter than one pattern
        make()
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_patterns_read_as_they_were_written() -> None:
    assert repr(BIG_BIRD) == "Blocked(((Window(1, 1) | Global([0])) | RandomKeys(2, seed=1)), 2)"
    assert (
        repr(Global(range(20)) & Strided(2, "upper_left")) == "(Global([20 of them]) & Strided(2, align='upper_left'))"
    )


def test_the_drawings_in_the_docstrings_are_right() -> None:
    found = doctest.testmod(pattern)
    assert found.failed == 0
    assert found.attempted
