"""Numbers read off the weights without a table of them: against the definition, and by what they must add up to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnkit.kernels import decode, forward, reading
from attnkit.kernels.call import Call
from attnkit.masks import Causal, Padding, Prefix, Window
from attnkit.testing import EXAMPLES, Example, example, inputs, judge
from tests.kernels.calls import call_of, lse_of, results

pytestmark = pytest.mark.slow

NAMES = (
    "plain", "one query and key", "mask: causal", "mask: padding with an empty sequence", "mask: any table",
    "mask: causal documents with padding", "mask: everything but the diagonal", "mask: nothing visible",
    "causal lower_right 14x5", "window lower_right 5x14", "grouped queries", "longer than a tile", "softcap", "sink",
    "negative scale", "dropout", "logits near 1e4, causal, grouped", "layout: every other entry",
    "layout: one sequence for the whole batch", "bias (13, 1)", "bias of grouped queries",
    "linear bias: one-sided, lower right 5x14", "everything at once", "everything at once, by slopes",
    "empty: batch", "empty: queries", "empty: keys", "empty: k_len, with a sink and a bias",
)  # fmt: skip
LONG = [
    Example("reading: causal", 37, 41, 1, 2, 1, mask=lambda s: Causal("lower_right")),
    Example("reading: window", 37, 50, 1, 2, 2, mask=lambda s: Window(9, 3, "lower_right"), sink=True),
    Example("reading: prefix or window", 35, 35, 1, 1, 1, mask=lambda s: Prefix(5) | Window(6, 0)),
    Example("reading: padding", 20, 49, 3, 1, 1, mask=lambda s: Padding([49, 0, 20]), bias=(20, 49)),
    Example("reading: wide", 17, 33, 1, 1, 1, d=72, d_v=5, softcap=3.0),
]


def forward_of(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """(out, row_max, row_sum) of the forward kernel."""
    return results(lambda *arguments: forward.launch(*arguments).run(), call)


def readings(call: Call, rows: Tensor, row_max: Tensor, row_sum: Tensor) -> dict[str, Tensor]:
    return {
        "entropy": reading.entropy(call, row_max, row_sum),
        "column_sums": reading.column_sums(call, row_max, row_sum),
        "row_weights": reading.weights_of_rows(call, row_max, row_sum, rows),
    }


def within_bound(example: Example, dtype: torch.dtype) -> None:
    call, rows = call_of(example, dtype), example.rows.within(example.q_len, torch.device("cpu"))
    out, *numbers = forward_of(call)
    got = readings(call, rows, *numbers)
    assert [got[name].dtype for name in got] == [torch.float32, torch.float32, dtype]
    verdicts = judge({"out": out} | got, example, dtype)
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


@pytest.mark.parametrize("example", [*map(example, NAMES), *LONG], ids=lambda e: e.name)
def test_readings_are_as_exact_as_the_definition(example: Example) -> None:
    within_bound(example, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("example", [*map(example, NAMES[5::5]), *LONG], ids=lambda e: e.name)
def test_readings_in_half_precision(example: Example, dtype: torch.dtype) -> None:
    within_bound(example, dtype)


@pytest.mark.parametrize("example", [*LONG, example("everything at once")], ids=lambda e: e.name)
def test_weights_add_up(example: Example) -> None:
    """Each row to 1, less the sink's share, and to 0 where nothing is visible; the columns to what the rows are."""
    call = call_of(example, torch.float32)
    _, *numbers = forward_of(call)
    lse = lse_of(*numbers)
    sink = torch.zeros_like(lse) if call.sink is None else torch.exp(call.sink.view(1, -1, 1) - lse)
    want = torch.where(lse == -math.inf, 0.0, 1.0 - sink)
    rows = torch.arange(example.q_len)
    found = readings(call, rows, *numbers)
    torch.testing.assert_close(found["row_weights"].sum(-1), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["column_sums"].sum(-1), want.sum(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["row_weights"].sum(-2), found["column_sums"], rtol=1e-5, atol=1e-6)
    hidden = ~call.structure.visible(call.mask_sizes, "cpu")
    assert (found["row_weights"].masked_select(hidden) == 0).all()


def test_the_entropy_of_n_equal_weights_is_the_logarithm_of_n() -> None:
    q_len = 37
    call = call_of(Example("equal", q_len, q_len, 1, 1, 1, mask=lambda s: Causal(), logits=0.0), torch.float32)
    _, *numbers = forward_of(call)
    want = torch.arange(1, q_len + 1).log().view(1, 1, -1)
    torch.testing.assert_close(reading.entropy(call, *numbers), want, rtol=1e-6, atol=1e-6)


def test_the_entropy_of_one_key_that_has_all_is_zero() -> None:
    """And not NaN, or less than 0: weights that are 0, and scores far below the maximum, add nothing."""
    call = call_of(Example("peaked", 9, 40, 1, 1, 1, logits=1e6), torch.float32)
    _, *numbers = forward_of(call)
    entropy = reading.entropy(call, *numbers)
    assert (entropy >= 0).all()
    assert entropy.max() < 1e-3


def test_a_small_entropy_keeps_its_digits() -> None:
    """One key in 40 has nearly everything: what the others add would drown in a difference of large numbers."""
    leaves = {name: torch.zeros(1, 1, n, 8) for name, n in (("query", 1), ("key", 40), ("value", 40))}
    leaves["query"][..., 0], leaves["key"][..., 7, 0] = 1.0, 12.0
    case = Example("nearly one", 1, 40, 1, 1, 1, scale=1.0)
    call = call_of(case, torch.float32, leaves)
    _, *numbers = forward_of(call)
    weights = torch.softmax(torch.tensor([12.0] + 39 * [0.0]).double(), 0)
    want = torch.special.entr(weights).sum()
    torch.testing.assert_close(reading.entropy(call, *numbers).double().squeeze(), want, rtol=1e-4, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["mask: any table", "mask: causal documents with padding", "window lower_right 5x14"])
def test_hidden_keys_have_no_influence(name: str, bad: float) -> None:
    """A NaN that some queries see is in their rows and in no others; one that none sees is nowhere."""
    case = example(name)
    visible = call_of(case, torch.float32).structure.visible(case.sizes, "cpu").expand(*case.sizes)
    leaves = {name: x.detach() for name, x in inputs(case, torch.float32).items()}
    rows = torch.arange(case.q_len)

    def read(key: Tensor) -> dict[str, Tensor]:
        call = call_of(case, torch.float32, leaves | {"key": key})
        return readings(call, rows, *forward_of(call)[1:])

    clean = read(leaves["key"])
    unseen = ~visible.any(dim=2)
    assert unseen.any()
    spoilt = read(leaves["key"].masked_fill(unseen[..., None], bad))
    assert all(torch.equal(clean[x], spoilt[x]) for x in clean)
    seen_by_some = visible.any(dim=2) & ~visible.all(dim=2)
    key = int(seen_by_some.flatten(0, 1).any(dim=0).nonzero()[0])
    spoilt = read(leaves["key"].index_fill(2, torch.tensor([key]), math.nan))
    sick = visible[..., key]
    assert sick.any()
    assert not sick.all()
    for name in ("entropy", "row_weights"):
        assert torch.equal(spoilt[name][~sick], clean[name][~sick])
    assert spoilt["entropy"][sick].isnan().all()
    assert torch.equal(spoilt["row_weights"].isnan(), visible & sick[..., None])
    assert torch.equal(spoilt["column_sums"].isnan(), (visible & sick[..., None]).any(2))


def test_rows_may_repeat_and_come_in_any_order() -> None:
    call = call_of(LONG[0], torch.float16)
    _, *numbers = forward_of(call)
    whole = reading.weights_of_rows(call, *numbers, torch.arange(37))
    for rows in ([36, 0, 5, 5, 17], [], [3] * 20):
        chosen = torch.tensor(rows, dtype=torch.int64)
        assert torch.equal(reading.weights_of_rows(call, *numbers, chosen), whole[:, :, chosen])
        assert torch.equal(reading.weights_of_rows(call, *numbers, chosen.int()), whole[:, :, chosen])


def test_what_decoding_saves_can_be_read() -> None:
    case = Example("decoded", 3, 83, 1, 4, 2, mask=lambda s: Window(50, 0, "lower_right"), sink=True)
    call, rows = call_of(case, torch.float32), case.rows.within(3, torch.device("cpu"))
    out, *numbers = results(decode.run, call)
    verdicts = judge({"out": out} | readings(call, rows, *numbers), case, torch.float32)
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


def test_repeating_a_reading_gives_the_same_bits() -> None:
    call = call_of(example("everything at once"), torch.float32)
    _, *numbers = forward_of(call)
    first = readings(call, torch.tensor([1, 5]), *numbers)
    for _ in range(5):
        again = readings(call, torch.tensor([1, 5]), *numbers)
        assert all(torch.equal(first[name], again[name]) for name in first)


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that torch makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor):
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("mask", [Causal("upper_left"), Padding([90]) & Causal("upper_left")], ids=["band", "spans"])
def test_no_table_of_weights_is_held(mask) -> None:
    """The largest tensor is a result, or what came in: linear in the lengths."""
    case = Example("long", 96, 112, 1, 1, 1, d=16, d_v=16, mask=lambda s: mask)
    call, rows = call_of(case, torch.float32), torch.tensor([3, 50])
    with Largest() as largest:
        readings(call, rows, *torch.ones(2, 1, 1, 96))
    assert 0 < largest.bytes <= 112 * 16 * 4


def tiles_visited(monkeypatch: pytest.MonkeyPatch, case: Example, read: str) -> list[tuple[int, int, int, bool]]:
    """The sequence, first query and key of each tile that is computed, and whether it was taken to be partly hidden."""
    found, tile = [], reading.weights_tile

    def counted(*arguments):
        at = [int(arguments[n].handle.data.flat[0]) for n in (3, 5, 6)]
        found.append((*at, bool(arguments[10])))
        return tile(*arguments)

    monkeypatch.setattr(reading, "weights_tile", counted)
    call = call_of(case, torch.float32)
    getattr(reading, read)(call, *torch.ones(2, *case.sizes[:3]))
    return found


@pytest.mark.parametrize("read", ["entropy", "column_sums"])
@pytest.mark.parametrize("case", [c for c in LONG if c.mask], ids=lambda e: e.name)
def test_only_tiles_in_which_something_is_visible_are_computed(
    case: Example, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = replace(case, heads=1, kv_heads=1)
    visible = call_of(case, torch.float32).structure.visible(case.sizes, "cpu").expand(*case.sizes)[:, 0]
    got = tiles_visited(monkeypatch, case, read)
    tiles = {
        (b, q, k): visible[b, q : q + 16, k : k + 16]
        for b in range(case.batch) for q in range(0, case.q_len, 16) for k in range(0, case.k_len, 16)
    }  # fmt: skip
    assert sorted(at for *at, _ in got) == sorted(list(at) for at, tile in tiles.items() if tile.any())
    for *at, partial in got:
        tile = tiles[tuple(at)]
        assert partial or tile.all()
        # For columns, lists take a tile past the last query to be full, a band does not.
        assert not partial or not tile.all() or tile.shape[1] < 16 or (read == "column_sums" and tile.shape[0] < 16)


def test_the_list_of_names_is_of_examples_that_there_are() -> None:
    assert set(NAMES) <= {e.name for e in EXAMPLES}
