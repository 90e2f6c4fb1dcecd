"""Few queries and many keys: the keys shared out and merged, against the definition and against the forward kernel."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from attnkit.kernels import decode, forward
from attnkit.kernels.call import Call
from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window
from attnkit.testing import Example, inputs, judge
from attnkit.testing.examples import LINEAR
from tests.kernels.calls import call_of, lse_of, results

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def memory_that_was_not_written_is_nan() -> Iterator[None]:
    """Torch fills `empty` with NaN in this mode: a share that nobody wrote shows in the result."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def documents(sizes: Sizes) -> Mask:
    """The queries are of the second and third of three documents."""
    return Document(torch.arange(sizes.q_len) * 2 // sizes.q_len + 1, torch.arange(sizes.k_len) * 3 // sizes.k_len)


def table(sizes: Sizes) -> Mask:
    b, h, q, k = (torch.arange(n).view(-1, *[1] * (3 - axis)) for axis, n in enumerate(sizes))
    return Dense(((b + h + q * k) % 3 != 0) & (q != 2))


MASKS: dict[str, Callable[[Sizes], Mask] | None] = {
    "all": None,
    "causal": lambda s: Causal("lower_right"),
    "first keys": lambda s: Causal("upper_left"),
    "window": lambda s: Window(19, 0, "lower_right"),
    "padding": lambda s: Padding([0, s.k_len * 2 // 3]),
    "window of a padded cache": lambda s: Window(40, 0, "lower_right") & Padding([s.k_len, s.k_len - 11]),
    "first and last": lambda s: Prefix(3) | Window(17, 0, "lower_right"),
    "documents": documents,
    "one document": lambda s: Document(torch.ones(s.q_len).long(), torch.arange(s.k_len) * 3 // s.k_len),
    "table": table,
    "table and padding": lambda s: table(s) & Padding([s.k_len - 20, 9]),
}
FEATURES: dict[str, tuple] = {
    "q_len": (1, 2, 3, 7),
    "group": (1, 2, 3, 5),
    "kv_heads": (1, 2),
    "k_len": (64, 83, 109),
    "mask": tuple(MASKS),
    "bias": ("none", "table", "of keys", "slopes", "one-sided slopes"),
    "softcap": (None, 2.0),
    "sink": (False, True),
    "widths": ((8, 8), (8, 5), (5, 19), (40, 24)),
    "logits": (1.0, 1e4),
    "layout": ("plain", "heads inside", "every other entry"),
    "dtype": (torch.float32, torch.bfloat16, torch.float16),
}


def pairwise(features: dict[str, tuple]) -> Iterator[dict]:
    """Combinations in which each value of a feature meets each value of every other one."""
    rng = random.Random(0)
    left = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(features, 2) for x, y in itertools.product(features[a], features[b])
    }  # fmt: skip

    def met(chosen: dict) -> set[tuple]:
        return left & set(itertools.combinations(chosen.items(), 2))

    while left:
        seed = dict(min(left, key=repr))
        tried = [{name: rng.choice(values) for name, values in features.items()} | seed for _ in range(60)]
        best = max(tried, key=lambda chosen: len(met(chosen)))
        left -= met(best)
        yield best


def example_of(chosen: dict) -> Example:
    """The chosen features as an example, of two sequences."""
    f, name = chosen, " ".join(f"{name}={value}" for name, value in chosen.items())
    heads = f["kv_heads"] * f["group"]
    bias = {"table": (2, heads, f["q_len"], f["k_len"]), "of keys": (heads, 1, f["k_len"])}.get(f["bias"])
    linear = {"slopes": LINEAR["lower right"], "one-sided slopes": LINEAR["one-sided, lower right"]}.get(f["bias"])
    return Example(
        name, f["q_len"], f["k_len"], 2, heads, f["kv_heads"], *f["widths"], mask=MASKS[f["mask"]], bias=bias,
        linear=linear, softcap=f["softcap"], sink=f["sink"], logits=f["logits"], layout=f["layout"],
    )  # fmt: skip


CASES = list(pairwise(FEATURES))
PLAIN = {name: values[0] for name, values in FEATURES.items()}


def small(**features: object) -> Example:
    """A plain example but for these features."""
    return example_of(PLAIN | features)


def within_bound(example: Example, dtype: torch.dtype, call: Call | None = None) -> None:
    out, row_max, row_sum = results(decode.run, call or call_of(example, dtype))
    assert out.dtype == dtype
    verdicts = judge({"out": out, "lse": lse_of(row_max, row_sum)}, example, dtype)
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


@pytest.mark.parametrize("chosen", CASES, ids=lambda chosen: "-".join(str(x) for x in chosen.values()))
def test_decode_is_as_exact_as_the_definition(chosen: dict) -> None:
    within_bound(example_of(chosen), chosen["dtype"])


@pytest.mark.parametrize("splits", [1, 2, 5, 40])
@pytest.mark.parametrize("mask", ["all", "window", "padding", "first and last", "table"])
def test_any_number_of_shares_gives_the_same(splits: int, mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, some that do not divide the 7 blocks of keys, more than there are and than the merging kernel holds."""
    monkeypatch.setattr(decode, "share_out", lambda *_: splits)
    within_bound(small(mask=mask, k_len=109, sink=True, q_len=2, group=2), torch.float32)


@pytest.mark.parametrize("group", range(1, 10))
def test_groups_of_every_size(group: int) -> None:
    """With 8 queries, two heads fill a tile of rows, and an odd one leaves half of the last empty."""
    within_bound(replace(small(group=group, q_len=8, mask="causal", bias="of keys", sink=True), batch=1), torch.float32)


@pytest.mark.parametrize("q_len", range(1, 9))
def test_any_few_queries(q_len: int) -> None:
    within_bound(small(q_len=q_len, group=3, mask="window", bias="slopes"), torch.float32)


@pytest.mark.parametrize("name", ["batch", "heads", "q_len", "k_len", "d_v"])
def test_nothing_of_anything(name: str) -> None:
    changes = {"heads": 0, "kv_heads": 0} if name == "heads" else {name: 0}
    within_bound(replace(small(), **changes), torch.float32)


@pytest.mark.parametrize("chosen", CASES[::9], ids=lambda chosen: "-".join(str(x) for x in chosen.values()))
def test_the_forward_kernel_saves_the_same_numbers(chosen: dict) -> None:
    """What a backward pass is given does not depend on who computed it."""
    call = call_of(example_of(chosen), chosen["dtype"])
    ours = results(decode.run, call)
    theirs = results(lambda *arguments: forward.launch(*arguments).run(), call)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_output_is_kept_unrounded_for_the_backward_pass() -> None:
    example = small(q_len=3, group=2, k_len=83, mask="causal")
    call = call_of(example, torch.float16)
    out, row_max, row_sum = results(decode.run, call)
    exact = torch.full_like(out, math.nan, dtype=torch.float32)
    decode.run(call, out, exact, row_max, row_sum)
    wide = call_of(example, torch.float32, {name: x.float() for name, x in inputs(example, torch.float16).items()})
    want = results(decode.run, wide)[0]
    # The weights are rounded to float16 before they meet the values; the sum is not rounded once more.
    assert (exact - want).abs().max() < 0.7 * (out.float() - want).abs().max()
    assert torch.equal(exact.half(), out)


def test_repeating_a_call_gives_the_same_bits() -> None:
    call = call_of(small(q_len=2, group=4, k_len=109, mask="padding", sink=True), torch.float16)
    first = results(decode.run, call)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, results(decode.run, call), strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("mask", ["window", "padding", "first and last", "documents", "table"])
def test_keys_that_no_query_sees_may_hold_anything(mask: str, bad: float) -> None:
    example = small(q_len=3, group=2, kv_heads=2, mask=mask)
    visible = call_of(example, torch.float32).structure.visible(example.sizes, "cpu").expand(*example.sizes)
    unseen = ~visible.unflatten(1, (2, 2)).any(dim=(2, 3))  # (batch, kv_heads, k_len)
    leaves = {name: x.detach() for name, x in inputs(example, torch.float32).items()}
    if mask == "table":
        unseen[:, :, 7] = True  # hidden by the table and by hand
        example = replace(example, mask=lambda s: MASKS["table"](s) & ~Dense(unseen[0, 0]))
    spoilt = leaves | {name: leaves[name].masked_fill(unseen[..., None], bad) for name in ("key", "value")}
    assert unseen.any()
    clean, same = (results(decode.run, call_of(example, torch.float32, x)) for x in (leaves, spoilt))
    assert all(torch.equal(a, b) for a, b in zip(clean, same, strict=True))


@pytest.mark.parametrize("mask", ["window", "padding", "first and last", "documents", "table"])
@pytest.mark.parametrize("where", ["key", "value"])
def test_a_nan_is_in_the_rows_that_see_it_and_in_no_others(mask: str, where: str) -> None:
    example = small(q_len=3, group=2, kv_heads=2, mask=mask)
    visible = call_of(example, torch.float32).structure.visible(example.sizes, "cpu").expand(*example.sizes)
    key = int((visible.any(dim=(0, 1, 2)) & ~visible.all(dim=0).all(dim=0).all(dim=0)).nonzero()[0])
    leaves = {name: x.detach() for name, x in inputs(example, torch.float32).items()}
    spoilt = leaves | {where: leaves[where].index_fill(2, torch.tensor([key]), math.nan)}
    clean, sick = (results(decode.run, call_of(example, torch.float32, x)) for x in (leaves, spoilt))
    touched = visible[..., key]
    assert touched.any()
    assert not touched.all()
    assert all(torch.equal(a[~touched], b[~touched]) for a, b in zip(clean, sick, strict=True))
    assert sick[0][touched].isnan().all()


def visits(monkeypatch: pytest.MonkeyPatch, example: Example) -> list[tuple[int, bool]]:
    """The first key of each tile that is computed, and whether it was taken to be partly hidden."""
    found, tile = [], decode.forward_tile

    def counted(*arguments: object) -> object:
        found.append((int(arguments[7].handle.data.item()), bool(arguments[-3])))
        return tile(*arguments)

    monkeypatch.setattr(decode, "forward_tile", counted)
    results(decode.run, call_of(example, torch.float32))
    return found


@pytest.mark.parametrize("mask", [mask for mask in MASKS if "table" not in mask])
def test_only_tiles_in_which_something_is_visible_are_computed(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all heads of a group; and those in which nothing is hidden without asking for each key."""
    example = small(mask=mask, k_len=109, q_len=3, group=2, kv_heads=2)
    seen = torch.ones(*example.sizes, dtype=torch.bool)
    if MASKS[mask] is not None:
        seen &= MASKS[mask](example.sizes).materialize(*example.sizes)
    want = []
    for block in range(7):
        keys = seen[:, ::2, :, 16 * block : 16 * block + 16]  # of one head of each group
        for tile in keys.flatten(0, 1):
            if tile.any():
                want.append((16 * block, not tile.all() or tile.shape[1] < 16))
    got = visits(monkeypatch, example)
    if mask == "first and last":  # with two spans no tile is taken to be visible throughout
        want = [(start, True) for start, _ in want]
    assert sorted(got) == sorted(want)


def test_the_visible_keys_are_shared_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window's four tiles go to four programs, not all to the one that has this part of the cache."""
    places, walk_block = [], decode.walk_block
    monkeypatch.setattr(decode, "share_out", lambda *_: 4)
    monkeypatch.setattr(decode, "walk_block", lambda *a: places.append(a[4]) or walk_block(*a))
    example = replace(small(k_len=109), batch=1, mask=lambda s: Window(60, 0, "lower_right"))
    results(decode.run, call_of(example, torch.float32))
    assert places == [0, 0, 0, 0]  # each program visits one tile, its first


@pytest.mark.parametrize("programs", [0, 1, 3, 8, 32, 131, 132, 133, 264, 265, 10_000])
@pytest.mark.parametrize("tiles", [0, 1, 3, 4, 64, 1000])
@pytest.mark.parametrize("processors", [1, 40, 108, 132])
def test_shares(programs: int, tiles: int, processors: int) -> None:
    """As many as fit the device at once, of two tiles at least; and at least one."""
    shares = decode.share_out(programs, tiles, processors)
    fit, enough = shares * programs <= 2 * processors, tiles >= 2 * shares
    assert shares >= 1
    assert shares == 1 or (fit and enough)
    assert programs == 0 or (shares + 1) * programs > 2 * processors or tiles < 2 * (shares + 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"q_len": 8}, True),
        ({"q_len": 9}, False),  # a tile of the forward kernel is not so empty any more
        ({"k_len": 63}, False),  # merging would cost more than is won
        ({"batch": 200}, False),  # the programs fill the device as they are
        ({"batch": 200, "heads": 4}, True),  # but here two heads read the same keys
        ({"dropout": 0.1}, False),
    ],
)
def test_when_it_pays(changes: dict, expected: bool) -> None:
    example = replace(Example("decode", 1, 64), **changes)
    assert decode.pays(call_of(example, torch.float32)) is expected
