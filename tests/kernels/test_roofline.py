"""The least work and time of attention, against sums done by hand and by counting a table."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from attnkit.kernels import plan, roofline
from attnkit.kernels.roofline import CHIPS, Problem, Visible, Work
from attnkit.masks import Causal, Dense, Document, Mask, Padding, Prefix, Sizes, Window

pytestmark = pytest.mark.slow

SIZES = Sizes(batch=2, heads=4, q_len=5, k_len=7)
ALL = Visible(2 * 4 * 5 * 7, exact=True)
SMALL = Problem(SIZES, kv_heads=2, d=16, d_v=8, dtype=torch.bfloat16, visible=ALL)


def long(q_len: int = 16384, k_len: int = 16384, mask: Mask | None = None, d: int = 128, **rest) -> Problem:
    """A batch of 1 with 16 heads in bfloat16."""
    sizes = Sizes(1, 16, q_len, k_len)
    seen = roofline.visible(plan.structure(mask, sizes, "cpu"), sizes)
    return Problem(sizes, 16, d, d, **({"dtype": torch.bfloat16} | rest), visible=seen)


def test_work_of_a_small_call_by_hand() -> None:
    """280 scores of 2 * 16 + 2 * 8 operations; 40 queries and 28 keys of width 16 and 8, at 2 bytes a number."""
    tensors, rows = 2 * (40 * (16 + 8) + 28 * (16 + 8)), 40 * 8
    assert roofline.forward(SMALL) == Work(280 * 48, 280, tensors + rows)
    # Forward's, and d_out (40 x 8), d_query (40 x 16), d_key and d_value (28 x 24).
    assert roofline.backward(SMALL) == Work(2.5 * 280 * 48, 280, 2 * tensors + rows)


def test_a_bias_is_read_and_its_gradient_written_and_a_mask_is_read() -> None:
    q, k, v = torch.zeros(2, 4, 5, 16), torch.zeros(2, 2, 7, 16), torch.zeros(2, 2, 7, 8)
    bias = torch.zeros(4, 1, 1).expand(1, 4, 5, 7)  # 4 numbers, however far they reach
    structure = plan.structure(Dense(torch.ones(5, 7, dtype=torch.bool)), SIZES, "cpu")
    plain, rich = (
        roofline.problem(q, k, v, s, b) for s, b in ((plan.structure(None, SIZES, "cpu"), None), (structure, bias))
    )
    assert plain == SMALL._replace(dtype=torch.float32)
    assert roofline.forward(rich).bytes - roofline.forward(plain).bytes == 16 + 35
    assert roofline.backward(rich).bytes - roofline.backward(plain).bytes == 16 + 35 + 16


MASKS = [
    None,
    Causal("upper_left"),
    Causal("lower_right"),
    Window(2, 1, "lower_right"),
    Window(0, None, "upper_left"),
    Window(None, 3, "upper_left"),
    Padding([3, 0]),
    Prefix(2) | Causal("upper_left"),
    Causal("upper_left") & Padding([3, 7]),
    Window(1, 0, "lower_right") & Padding([6, 2]),
    ~Window(1, 1, "upper_left"),
    Prefix(0),
    Document([0, 0, 1, 1, 2], [0, 1, 1, 2, 2, 2, 3]),
    Dense(torch.eye(5, 7) > 0),
    Dense(torch.rand(2, 1, 5, 7) > 0.5) & Causal("lower_right"),
]


@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize("lengths", [(5, 7), (7, 5), (1, 7), (5, 1)], ids=str)
def test_visible_scores_are_those_of_the_table(mask: Mask | None, lengths: tuple[int, int]) -> None:
    fixed = any(name in repr(mask) for name in ("Document", "Dense"))  # these fit one size only
    sizes = SIZES if fixed else Sizes(2, 4, *lengths)
    table = torch.ones(1, 1, 1, 1) if mask is None else mask.materialize(*sizes)
    want = int(table.expand(*sizes).sum())
    assert roofline.visible(plan.structure(mask, sizes, "cpu"), sizes) == (want, True)


@pytest.mark.parametrize("q_len", [1, 3, 6])
@pytest.mark.parametrize("k_len", [1, 4, 9])
def test_a_band_is_counted_exactly_wherever_it_lies(q_len: int, k_len: int) -> None:
    offset = torch.arange(k_len) - torch.arange(q_len)[:, None]
    for low in range(-12, 12):
        for high in range(-12, 12):
            want = int(((offset >= low) & (offset <= high)).sum())
            assert roofline.visible_in_band(low, high, q_len, k_len) == want


def test_what_lies_on_a_gpu_is_not_read_but_bounded_from_above() -> None:
    """On "meta" nothing can be read at all."""
    structure = plan.structure(Causal("upper_left") & Padding([3, 5]), SIZES, "cpu")
    assert structure.spans is not None
    there = replace(structure, spans=structure.spans.to("meta"))
    seen = roofline.visible(there, SIZES)
    assert seen == (2 * 4 * (1 + 2 + 3 + 4 + 5), False)
    assert seen.scores > roofline.visible(structure, SIZES).scores
    lines = roofline.describe(SMALL._replace(visible=seen), "NVIDIA L4")
    assert "forward: at most" in lines[0]


def test_causal_is_half_of_everything_and_a_window_far_less() -> None:
    full, causal, window = (roofline.forward(long(mask=m)) for m in (None, Causal(), Window(1024, 0)))
    assert causal.operations / full.operations == pytest.approx(0.5, abs=1e-4)
    assert window.operations / full.operations == pytest.approx(1025 / 16384, rel=0.04)
    assert causal.bytes == full.bytes == window.bytes


@pytest.mark.parametrize("grow", ["q_len", "k_len", "d"])
@pytest.mark.parametrize("chip", CHIPS)
def test_more_takes_no_less_time(grow: str, chip: str) -> None:
    before: tuple[float, ...] = (0.0, 0.0)
    for size in (1, 16, 64, 4096):
        p = long(**({"q_len": 128, "k_len": 256, "dtype": torch.float16} | {grow: size}))
        limits = [roofline.times(work, CHIPS[chip], p.dtype) for work in (roofline.forward(p), roofline.backward(p))]
        after = tuple(t.roofline for t in limits if t is not None)
        assert len(after) == 2
        assert all(a <= b for a, b in zip(before, after, strict=True))
        before = after


def test_times_on_an_h200_by_hand() -> None:
    """L 16384, D 128, 16 heads: 4 * 16 * 16384^2 * 128 operations at 989.4 10^12 a second."""
    limit = roofline.times(roofline.forward(long()), CHIPS["NVIDIA H200"], torch.bfloat16)
    assert limit is not None
    assert limit.products == pytest.approx(4 * 16 * 16384**2 * 128 / 989.4e12)
    assert limit.exponentials == pytest.approx(16 * 16384**2 / (16 * 132 * 1.83e9))
    assert limit.memory == pytest.approx((16 * 16384 * 128 * 2 * 4 + 16 * 16384 * 8) / 4.8e12)
    assert limit.roofline == limit.products


@pytest.mark.parametrize(("d", "share"), [(64, 1.0), (128, 0.5), (256, 0.25)])
def test_exponentials_take_as_long_as_the_products_of_heads_of_width_64(d: int, share: float) -> None:
    limit = roofline.times(roofline.forward(long(d=d)), CHIPS["NVIDIA H100 80GB HBM3"], torch.bfloat16)
    assert limit is not None
    assert limit.exponentials / limit.products == pytest.approx(share, rel=0.01)


def test_one_query_is_bounded_by_memory() -> None:
    limit = roofline.times(roofline.forward(long(q_len=1, k_len=32768)), CHIPS["NVIDIA H200"], torch.bfloat16)
    assert limit is not None
    assert limit.roofline == limit.memory


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_the_chips_numbers_agree_with_each_other(chip: roofline.Chip) -> None:
    """Tensor cores do a power of two of operations a clock on a multiprocessor, and tf32 at half the rate of half."""
    for name in ("float16", "bfloat16"):
        if name in chip.tera:
            rate = chip.tera[name] * 1e12 / (chip.multiprocessors * chip.clock * 1e9)
            assert min(abs(rate / power - 1) for power in (512, 1024, 2048, 4096)) < 0.01
    if "tf32" in chip.tera:
        assert chip.tera["tf32"] == pytest.approx(chip.tera["float16"] / 2, rel=0.01)
    assert chip.tera["float32"] < chip.tera["float16"]


def test_h200_is_an_h100_with_more_memory_bandwidth() -> None:
    h100, h200 = CHIPS["NVIDIA H100 80GB HBM3"], CHIPS["NVIDIA H200"]
    assert h100 == h200._replace(giga_bytes=h100.giga_bytes)
    assert h200.giga_bytes > h100.giga_bytes


def test_float32_is_bounded_by_units_without_tensor_cores_unless_tf32_is_allowed() -> None:
    p, chip = long(dtype=torch.float32), CHIPS["NVIDIA A100-SXM4-80GB"]
    exact, rounded = (roofline.times(roofline.forward(p), chip, p.dtype, tf32=x) for x in (False, True))
    assert exact is not None
    assert rounded is not None
    assert exact.products / rounded.products == pytest.approx(8)
    assert roofline.times(roofline.forward(p), CHIPS["Tesla T4"], p.dtype, tf32=True) is None


@pytest.mark.parametrize(
    "name", ["NVIDIA A10G", "NVIDIA L40S", "NVIDIA H200 NVL", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", None]
)
def test_of_an_unknown_chip_only_the_work_is_told(name: str | None) -> None:
    forward, backward, last = roofline.describe(SMALL, name)
    assert forward == "forward: 13 kFLOP, 2.8e+02 exponentials, 3.6 kB"
    assert backward.startswith("backward: 34 kFLOP")
    assert last == f"the peak of {name or 'this device'} is not known, so neither is a least time"


def test_a_dtype_without_a_unit_is_told_apart_from_an_unknown_chip() -> None:
    forward, _, last = roofline.describe(SMALL, "Tesla T4")
    assert "at least" not in forward
    assert last == "Tesla T4 has no unit for torch.bfloat16 whose peak is known, so neither is a least time"


@pytest.mark.parametrize("axis", range(4))
def test_empty_calls_take_nothing(axis: int) -> None:
    sizes = Sizes(*(0 if i == axis else n for i, n in enumerate(SIZES)))
    for mask in (None, Causal("lower_right"), Padding(3), Causal("upper_left") & Padding(2)):
        seen = roofline.visible(plan.structure(mask, sizes, "cpu"), sizes)
        assert seen == (0, True)
        p = SMALL._replace(sizes=sizes, visible=seen)
        limit = roofline.times(roofline.forward(p), CHIPS["NVIDIA L4"], p.dtype)
        assert limit is not None
        assert limit.products == limit.exponentials == 0 <= limit.memory
        assert len(roofline.describe(p, "NVIDIA L4")) == 2


def test_it_needs_no_triton() -> None:
    code = "import sys; from attnkit.kernels import roofline; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
