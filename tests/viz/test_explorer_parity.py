"""What the explorers compute in the browser is what attnkit computes: the scripts run in Node, the oracle is torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from kinds import run_kind

from attnkit import attention
from attnkit.masks import Causal, Dense, Window
from attnkit.positions import alibi_slopes, t5_bucket
from attnkit.viz import explore_matrix, explore_positions
from attnkit.viz.explorer import pack
from attnkit.viz.explorers.positions import scores


def draw(heads, rows, columns, d, dv, size=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((heads, rows, d), (heads, columns, d), (heads, columns, dv))
    return [size * torch.randn(shape, generator=g) for shape in shapes]


def expected(q, k, v, head, **options):
    q, k, v = (x[head][None, None].double() for x in (q, k, v))
    out, aux = attention(q, k, v, aux=("weights",), backend="naive", **options)
    return aux.weights[0, 0].numpy(), out[0, 0].numpy()


def agrees(found, weights, out, tolerance=1e-6):
    rows, columns = weights.shape
    assert np.abs(np.array(found["weights"]).reshape(rows, columns) - weights).max() <= tolerance
    assert np.abs(np.array(found["output"]).reshape(out.shape) - out).max() <= tolerance * max(1, np.abs(out).max())


def explored(spec, **state):
    """What the script computes; the outputs of all rows, which a reader sees one at a time."""
    rows = range(spec["query"]["shape"][1])
    every = run_kind("matrix", spec, [{"state": {**state, "row": row}} for row in rows])
    return {**every[0], "output": [one["output"] for one in every]}


SIZES = [(1, 1, 1, 1, 1), (1, 1, 7, 4, 3), (3, 5, 5, 8, 8), (2, 3, 9, 16, 5), (2, 9, 3, 16, 4), (2, 3, 4, 7, 3)]
MASKS = {
    "none": lambda: None,
    "causal": lambda: Causal(align="upper_left"),
    "causal (lower right)": lambda: Causal(align="lower_right"),
    "window": lambda: Window(2, 0, align="lower_right"),
}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_weights_and_outputs_are_those_of_attention(sizes, mask):
    """Every head, with one query, more keys than queries, more queries than keys (rows that see nothing)."""
    q, k, v = draw(*sizes)
    spec = explore_matrix(q, k, v, mask=mask).spec
    for head in range(sizes[0]):
        one = explored(spec, head=head)
        weights, out = expected(q, k, v, head, mask=MASKS[mask]())
        agrees(one, weights, out)
        assert one["blind"] == np.flatnonzero(weights.sum(-1) == 0).tolist()


def test_there_were_rows_that_see_nothing():
    q, k, v = draw(1, 5, 2, 4, 4)
    found = explored(explore_matrix(q, k, v, mask="causal (lower right)").spec)
    assert found["blind"] == [0, 1, 2]
    assert found["weights"][:6] == [0.0] * 6
    assert found["output"][:3] == [[0.0] * 4] * 3


@pytest.mark.parametrize(
    ("state", "options"),
    [
        ({"temperature": 4}, {"scale": 0.25 / 4}),
        ({"temperature": 0.0625}, {"scale": 4.0}),
        ({"scale": "one"}, {"scale": 1.0}),
        ({"scale": "d"}, {"scale": 1 / 16}),
        ({"scale": "free", "free": 0.7}, {"scale": 0.7}),
        ({"softcap": 3}, {"softcap": 3.0}),
        ({"scale": "one", "softcap": 2}, {"scale": 1.0, "softcap": 2.0}),
        ({"mask": "window", "window": 0}, {"mask": Window(0, 0)}),
        ({"mask": "window", "window": 4}, {"mask": Window(4, 0)}),
    ],
    ids=str,
)
def test_each_control_does_what_its_option_does(state, options):
    q, k, v = draw(2, 6, 6, 16, 4, seed=1)
    found = explored(explore_matrix(q, k, v).spec, head=1, **state)
    agrees(found, *expected(q, k, v, 1, **options))


def test_a_mask_of_ones_own_and_a_scale_of_ones_own():
    q, k, v = draw(1, 4, 6, 8, 3, seed=2)
    visible = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)) > 0.5
    visible[:, 0], visible[2] = True, False
    spec = explore_matrix(q, k, v, mask=visible, scale=0.3).spec
    found = explored(spec)
    agrees(found, *expected(q, k, v, 0, mask=Dense(visible), scale=0.3))
    assert found["blind"] == [2]


def test_huge_scores_do_not_overflow():
    q, k, v = draw(1, 5, 5, 8, 3, size=1e4, seed=4)
    (found,) = run_kind("matrix", explore_matrix(q, k, v, scale=1.0).spec, [{"state": {"temperature": 0.0625}}])
    weights = np.array(found["weights"]).reshape(5, 5)
    assert np.isfinite(weights).all()
    best = (q[0].double() @ k[0].double().T).argmax(-1).numpy()
    assert (weights.argmax(-1) == best).all()
    assert np.abs(weights.sum(-1) - 1).max() < 1e-12


def test_large_arrays_travel_in_half_precision_and_small_ones_do_not():
    x = np.array([1 / 3, -65504.0, 6e-8, 0.0, 1e-3])
    assert pack(x)["dtype"] == "float32"
    assert pack(np.ones(100_001))["dtype"] == "float16"
    (spec,) = run_kind(
        "matrix", {}, [{"call": "unpack", "arguments": [{"half": pack(x, "float16"), "all": [pack(x)]}]}]
    )
    assert spec["half"]["data"] == x.astype(np.float16).astype(float).tolist()
    assert spec["all"][0]["data"] == x.astype(np.float32).astype(float).tolist()


@pytest.mark.parametrize(
    ("number", "text"),
    [((1.005, 2), "1.00"), ((-0.001, 2), "0.00"), ((-1.5, 1), "−1.5"), ((3, 0), "3"), ((12345678, 2), "1.235e+7")],
)
def test_numbers_read_well(number, text):
    assert run_kind("matrix", {}, [{"call": "fixed", "arguments": list(number)}]) == [text]


def contrast(colour, ink):
    """WCAG's contrast ratio of an [r, g, b] and black or white."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    ground = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (ground + 0.05) if ink == "#ffffff" else (ground + 0.05) / 0.05


def test_ink_is_the_one_with_more_contrast_on_every_colour_of_the_scale():
    places = [i / 64 for i in range(65)]
    colours = run_kind("matrix", {}, [{"call": "colour", "arguments": [x]} for x in places])
    inks = run_kind("matrix", {}, [{"call": "inkOn", "arguments": [c]} for c in colours])
    for colour, ink in zip(colours, inks, strict=True):
        other = "#ffffff" if ink == "#000000" else "#000000"
        assert contrast(colour, ink) >= max(4.5, contrast(colour, other))


def test_colours_are_cividis():
    import matplotlib as mpl

    places = [i / 100 for i in range(101)]
    colours = np.array(run_kind("matrix", {}, [{"call": "colour", "arguments": [x]} for x in places]))
    assert np.abs(colours - 255 * mpl.colormaps["cividis"](places)[:, :3]).max() < 6


@pytest.mark.parametrize("base", [10.0, 500.0, 10_000.0])
@pytest.mark.parametrize(("kind", "d"), [("sinusoidal", 64), ("rope", 64), ("sinusoidal", 2), ("rope", 8)])
def test_waves_are_those_of_the_encodings(kind, d, base):
    spec = explore_positions(kind, d=d, length=40, base=base).spec
    (found,) = run_kind("positions", spec, [{"state": {"place": 11}}])
    wanted = scores(kind, np.array(found["offsets"]), spec)
    assert np.abs(np.array(found["curve"]) - wanted).max() < 1e-6


def test_turned_queries_and_keys_of_ones_own():
    g = torch.Generator().manual_seed(5)
    q, k = torch.randn(2, 16, generator=g, dtype=torch.float64).float()
    spec = explore_positions("rope", d=16, length=30, query=q, key=k).spec
    (found,) = run_kind("positions", spec, [{"state": {"place": 29}}])
    wanted = scores("rope", np.array(found["offsets"]), spec, q.double().numpy(), k.double().numpy())
    assert np.abs(np.array(found["curve"]) - wanted).max() < 1e-6
    assert abs(found["curve"][29] - float(q.double() @ k.double())) < 1e-6


@pytest.mark.parametrize("heads", [1, 4, 6, 8, 12, 20])
def test_slopes_are_those_of_alibi(heads):
    (found,) = run_kind("positions", {}, [{"call": "slopes", "arguments": [heads]}])
    assert found == pytest.approx(alibi_slopes(heads).tolist(), rel=1e-14)


@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (8, 20), (64, 1000)])
@pytest.mark.parametrize("both", [True, False])
def test_buckets_are_those_of_t5_at_every_edge(buckets, most, both):
    offsets = list(range(-1100, 1101))
    jobs = [{"call": "bucket", "arguments": [x, buckets, most, both]} for x in offsets]
    wanted = t5_bucket(torch.tensor(offsets), buckets, most, bidirectional=both).tolist()
    assert run_kind("positions", {}, jobs) == wanted


def test_learned_biases_and_the_map():
    table = torch.randn(32, 3, generator=torch.Generator().manual_seed(6))
    spec = explore_positions("t5", length=24, heads=3, table=table).spec
    (found,) = run_kind("positions", spec, [{"state": {"head": 2, "view": "map", "place": 5, "offset": 4}}])
    offsets = np.arange(24) - np.arange(24)[:, None]
    wanted = table[t5_bucket(torch.from_numpy(offsets)), 2].double().numpy()
    assert np.abs(np.array(found["map"]).reshape(24, 24) - wanted).max() < 1e-6
    assert found["key"] == 9
    assert math.isclose(found["score"], wanted[5, 9], abs_tol=1e-6)
    assert found["bucket"] == int(t5_bucket(torch.tensor(4)))


@pytest.mark.parametrize(("offset", "key"), [(-100, 0), (100, 9), (0, 3), (-3, 0)])
def test_the_offset_stays_inside(offset, key):
    spec = explore_positions("alibi", length=10).spec
    (found,) = run_kind("positions", spec, [{"state": {"place": 3, "offset": offset}}])
    assert found["key"] == key
    assert found["score"] == -abs(key - 3) * 0.5
