"""The front door: what it refuses and how, which backend it takes, and the meaning it guards."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

import attnkit
from attnkit import BackendUnsupported, attention, backends, explain
from attnkit.backends import naive, online, sdpa, tiling
from attnkit.backends.common import Options, Rows
from attnkit.backends.dropout import draw_seed, keep_tile
from attnkit.masks import Causal, Document, Padding, Prefix, Sizes, Window

ALL = ("naive", "online", "sdpa")
FORWARD = (*ALL, "inplace")  # when no gradient is wanted
PACKED = Document([i // 16 for i in range(128)])


def qkv(*, batch=2, heads=4, kv_heads=2, q_len=6, k_len=6, d=8, d_v=8, dtype=torch.float32) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = (batch, heads, q_len, d), (batch, kv_heads, k_len, d), (batch, kv_heads, k_len, d_v)
    return [torch.randn(s, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


# Each bad call: what is changed of a good one, and the words that the message must hold.
REFUSED: list[tuple[dict, list[str]]] = [
    ({"query": torch.ones(6, 8)}, ["query", "(6, 8)", "(batch, heads, q_len, d)"]),
    ({"key": [[1.0]]}, ["key", "list", "(batch, kv_heads, k_len, d)"]),
    ({"query": torch.ones(2, 4, 6, 8, dtype=torch.int64)}, ["query", "int64", "floating-point"]),
    ({"query": torch.ones(2, 4, 6, 0)}, ["query", "(2, 4, 6, 0)", "at least 1 wide"]),
    ({"key": torch.ones(2, 2, 6, 8, dtype=torch.float64)}, ["key", "float64", "query's dtype", "float32"]),
    ({"key": torch.ones(2, 2, 6, 8, device="meta")}, ["key", "meta", "query's device", "cpu"]),
    ({"key": torch.ones(2, 2, 6, 7)}, ["key", "(2, 2, 6, 7)", "(2, 2, 6, 8)", "fit the query"]),
    ({"key": torch.ones(3, 2, 6, 8)}, ["key", "(3, 2, 6, 8)", "(2, 2, 6, 8)"]),
    ({"value": torch.ones(2, 2, 5, 8)}, ["value", "(2, 2, 5, 8)", "(2, 2, 6, any)", "fit the key"]),
    ({"key": torch.ones(2, 3, 6, 8), "value": torch.ones(2, 3, 6, 8)}, ["key", "(2, 3, 6, 8)", "divides", "4"]),
    ({"key": torch.ones(2, 0, 6, 8), "value": torch.ones(2, 0, 6, 8)}, ["key", "(2, 0, 6, 8)", "divides"]),
    ({"mask": torch.zeros(6, 6)}, ["mask", "float32", "bool", "bias="]),
    ({"mask": torch.ones(6, 5, dtype=torch.bool)}, ["mask", "(1, 1, 6, 5)", "(2, 4, 6, 6)", "[:, None, None, :]"]),
    ({"mask": torch.ones(1, 1, 1, 6, 6, dtype=torch.bool)}, ["mask", "(1, 1, 1, 6, 6)", "four axes"]),
    ({"mask": torch.ones(6, 6, dtype=torch.bool, device="meta")}, ["mask", "meta", "cpu"]),
    ({"mask": "causal"}, ["mask", "'causal'", "Causal()"]),
    ({"mask": Causal}, ["mask", "Causal()"]),
    ({"mask": Padding([1, 2, 3])}, ["Padding", "3 lengths", "batch of 2"]),
    ({"bias": torch.ones(3, 6)}, ["bias", "(3, 6)", "(2, 4, 6, 6)"]),
    ({"bias": torch.ones(6, 6, dtype=torch.int64)}, ["bias", "int64", "floats"]),
    ({"bias": torch.ones(6, 6, device="meta")}, ["bias", "meta", "cpu"]),
    ({"bias": 1.0}, ["bias", "1.0", "floats"]),
    ({"sink": torch.ones(2)}, ["sink", "(2,)", "(4,)"]),
    ({"sink": torch.ones(4, device="meta")}, ["sink", "meta", "cpu"]),
    ({"scale": float("nan")}, ["scale", "nan", "finite"]),
    ({"scale": torch.tensor(1.0)}, ["scale", "tensor", "number"]),
    ({"softcap": 0.0}, ["softcap", "0.0", "above 0"]),
    ({"score_mod": 3}, ["score_mod", "3", "(score, b, h, q, k) -> score"]),
    ({"dropout": 1.0}, ["dropout", "1.0", "below 1"]),
    ({"dropout": True}, ["dropout", "True", "probability"]),
    ({"aux": "lse"}, ["aux", "'lse'", "tuple"]),
    ({"aux": ("attention",)}, ["aux", "attention", "weights", "column_sums", "Rows"]),
    ({"backend": "flash"}, ["backend", "'flash'", "auto", "sdpa", "online", "naive"]),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[str(list(c)) + w[1] for c, w in REFUSED])
@pytest.mark.parametrize("door", [attention, explain])
def test_what_does_not_fit_is_refused_in_words(door, change: dict, words: list[str]) -> None:
    good = dict(zip(("query", "key", "value"), qkv(), strict=True))
    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        door(**(good | change))
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.parametrize("backend", ALL)
def test_a_causal_mask_over_unequal_lengths_needs_its_alignment(backend: str) -> None:
    with pytest.raises(ValueError, match="lower_right"):
        attention(*qkv(k_len=9), mask=Causal(), backend=backend)


@pytest.mark.parametrize(
    ("options", "taken", "words"),
    [
        ({}, "sdpa", []),
        ({"mask": Causal()}, "sdpa", []),
        ({"aux": ("lse",)}, "online", ["returns no lse"]),
        ({"aux": ("weights",)}, "naive", ["returns no weights", "holds? none"]),
        ({"softcap": 3.0}, "online", ["no softcap"]),
        ({"sink": torch.zeros(4)}, "online", ["no sink"]),
        ({"dropout": 0.1}, "online", ["dropout"]),
        ({"aux": ("entropy",)}, "online", ["returns no entropy"]),
        ({"aux": (Rows([0]),)}, "online", ["returns no row_weights"]),
    ],
)
def test_auto_takes_the_first_that_can_and_explain_says_so(options: dict, taken: str, words: list[str]) -> None:
    story = explain(*qkv(), **options)
    assert story.taken == taken
    assert list(story.verdicts) == list(backends.ORDER)
    assert str(story).startswith(f"{taken} is taken")
    for word in words:
        assert word.replace("holds? none", "hold none") in str(story)
    got, named = (attention(*qkv(), backend=name, **options | seeded()) for name in ("auto", taken))
    first = [x[0] if isinstance(x, tuple) else x for x in (got, named)]
    if "dropout" not in options:
        assert torch.equal(*first)


def test_weights_without_a_gradient_are_made_in_place() -> None:
    tensors = qkv()
    assert explain(*tensors, aux=("weights",)).taken == "naive"
    assert "gradient" in explain(*tensors, aux=("weights",)).verdicts["inplace"]
    with torch.no_grad():
        assert explain(*tensors, aux=("weights",)).taken == "inplace"
        assert explain(*tensors).taken == "sdpa"
        out, aux = attention(*tensors, aux=("weights",))
    want, defined = attention(*tensors, aux=("weights",), backend="naive")
    torch.testing.assert_close((out, aux.weights), (want.detach(), defined.weights.detach()))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", [{}, {"mask": Causal()}, {"bias": True}, {"aux": ("lse",)}, {"aux": ("weights",)}])
def test_shapes_can_be_asked_on_the_meta_device(options: dict, grad: bool) -> None:
    """As whoever builds a large model before its weights are there does."""
    q, k, v = (x.detach().to("meta").requires_grad_(grad) for x in qkv(d_v=5))
    if "bias" in options:
        options = options | {"bias": torch.zeros(6, 6, device="meta")}
    result = attention(q, k, v, **options)
    assert (result[0] if "aux" in options else result).shape == (2, 4, 6, 5)
    if "aux" in options:
        assert getattr(result[1], options["aux"][0]).shape[:3] == (2, 4, 6)


def stand_in(monkeypatch: pytest.MonkeyPatch, **functions) -> ModuleType:
    """A backend of its own, tried first, that does as `naive` unless told otherwise."""
    module = ModuleType("attnkit.backends.stand_in")
    vars(module).update({"attend": naive.attend, "unsupported": naive.unsupported, "wasteful": naive.wasteful})
    vars(module).update(functions)
    monkeypatch.setattr(backends, "ORDER", ("stand_in", *backends.ORDER))
    monkeypatch.setitem(backends._loaded, "stand_in", module)
    return module


def test_a_backend_that_guards_hidden_keys_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called once, with the tensors as they are; another is called with what is hidden emptied."""
    given: list[torch.Tensor] = []

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options):
        given.append(value)
        return naive.attend(query, key, value, options)

    module = stand_in(monkeypatch, attend=attend)
    q, k, v = (x.detach() for x in qkv())
    v[:, :, -1] = float("nan")
    for guards, calls in ((False, 2), (True, 1)):
        given.clear()
        module.GUARDS_HIDDEN = guards
        out = attention(q, k, v, mask=Padding([5]))
        assert len(given) == calls
        assert bool(given[-1].isnan().any()) == bool(out.isnan().any()) == guards


def test_explain_prints_the_details_of_the_backend_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def details(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: Options) -> list[str]:
        return [f"tiles of {options.dropout}", "a second line"]

    stand_in(monkeypatch, details=details)
    story = explain(*qkv(), dropout=0.5)
    assert story.details == ("tiles of 0.5", "a second line")
    assert str(story).endswith("\ntiles of 0.5\na second line")
    assert explain(*qkv(), backend="online").details == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"mask": Causal()}, None),
        ({"mask": Causal("lower_right")}, None),  # of equal lengths, which is the same
        ({"mask": Window(64, 0)}, "table of the mask"),
        ({"mask": Padding([900])}, "table of the mask"),
        ({"mask": ~Window(0, 0)}, "table of the mask"),
        ({"bias": torch.zeros(1, 1, 1, 1024, requires_grad=True)}, "gradient"),
        ({"bias": torch.zeros(1, 1, 1, 1024)}, None),
        ({"d_v": 4}, "unequal"),
        ({"q_len": 64, "k_len": 64, "mask": Window(8, 0)}, None),  # small
    ],
    ids=str,
)
def test_on_a_gpu_sdpa_is_passed_over_by_a_rule_that_reads_no_numbers(change: dict, words: str | None) -> None:
    """Told by the device's name alone: a tensor that has no numbers at all cannot have been read."""
    options = {name: change[name] for name in ("mask", "bias") if name in change}
    shape = {"batch": 1, "heads": 1, "kv_heads": 1, "q_len": 1024, "k_len": 1024} | change
    shape = {name: n for name, n in shape.items() if name not in options}
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = [torch.empty(x.shape, device="cuda") for x in qkv(**shape)]
        reason = sdpa.wasteful(*tensors, Options(**options))
    assert (words is None and reason is None) or (words and words in str(reason))


def seeded() -> dict:
    """Nothing but a fixed seed."""
    torch.manual_seed(3)
    return {}


def test_a_named_backend_that_cannot_says_why() -> None:
    for backend, options, words in (
        ("sdpa", {"softcap": 1.0}, "sdpa.*no softcap"),
        ("sdpa", {"aux": ("lse", "weights")}, "sdpa.*no lse and no weights"),
        ("online", {"aux": ("weights",)}, "online.*table"),
    ):
        with pytest.raises(BackendUnsupported, match=words):
            attention(*qkv(), backend=backend, **options)
        story = explain(*qkv(), backend=backend, **options)
        assert story.taken is None
        assert str(story).startswith("BackendUnsupported")


def test_large_work_that_pytorch_would_do_in_quadratic_memory_goes_to_online() -> None:
    wide = qkv(batch=1, heads=1, kv_heads=1, q_len=1024, k_len=1024, d=8, d_v=4)
    assert explain(*wide).taken == "online"
    assert "head sizes (8 and 4)" in str(explain(*wide))
    even = qkv(batch=1, heads=1, kv_heads=1, q_len=1024, k_len=1024)
    bias = torch.zeros(1024, requires_grad=True)
    assert explain(*even, bias=bias).taken == "online"
    assert explain(*even, bias=bias.detach()).taken == "sdpa"
    assert explain(*qkv(d_v=4)).taken == "sdpa"


@pytest.mark.parametrize(
    ("mask", "taken"),
    [
        (Causal(), "sdpa"),  # it has a way of its own for this one
        (Window(64, 0), "online"),
        (Document([i // 128 for i in range(1024)]), "online"),
        (Padding([300]), "online"),
        (Padding([1000]), "sdpa"),
        (~Window(0, 0), "sdpa"),
    ],
    ids=lambda x: repr(x)[:20],
)
def test_a_mask_that_hides_much_goes_to_the_backend_that_skips(mask, taken: str) -> None:
    story = explain(*qkv(batch=1, heads=1, kv_heads=1, q_len=1024, k_len=1024), mask=mask)
    assert story.taken == taken
    assert ("of the tiles" in story.verdicts["sdpa"]) == (taken == "online")


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["key", "value"])
def test_what_is_hidden_cannot_leak(backend: str, poison: float, where: str) -> None:
    """Causal, and NaN in the last key: only the last query, the one that sees it, may know."""
    q, k, v = qkv()
    clean = attention(q, k, v, mask=Causal(), backend=backend)
    sick = {"key": k.detach().clone(), "value": v.detach().clone()}
    sick[where][:, 1, -1, 2] = poison
    leaves = {name: x.requires_grad_() for name, x in sick.items()}
    out = attention(q, **leaves, mask=Causal(), backend=backend)
    assert torch.equal(out[:, :, :-1], clean[:, :, :-1])
    assert torch.equal(out[:, :2], clean[:, :2])  # the heads of the other key head
    assert out[:, 2:, -1].isnan().all()
    grads = torch.autograd.grad(out[:, :, :-1].sum(), [q, *leaves.values()])
    want = torch.autograd.grad(clean[:, :, :-1].sum(), [q, k, v])
    for got, ideal in zip(grads, want, strict=True):
        torch.testing.assert_close(got, ideal)


@pytest.mark.parametrize("backend", FORWARD)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["key", "value"])
@pytest.mark.parametrize("mask", [Causal(), ~Window(0, 0) & Causal(), Window(2, 0), Padding([3, 6])], ids=repr)
def test_what_is_hidden_cannot_leak_without_a_gradient_either(
    backend: str, mask, poison: float, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the last row, which may tell whether to look closer, never meets the key that is not finite."""
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (2, 2))
    q, k, v = (x.detach() for x in qkv())
    clean = attention(q, k, v, mask=mask, backend=backend)
    visible = mask.materialize(*q.shape[:3], k.shape[2]).expand(*q.shape[:3], k.shape[2])
    for at in range(k.shape[2]):
        sick = {"key": k.clone(), "value": v.clone()}
        sick[where][:, :, at, 1] = poison
        blind = ~visible[..., at]
        assert torch.equal(attention(q, **sick, mask=mask, backend=backend)[blind], clean[blind])


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("mask", [Causal(), Padding([3, 6]), PACKED & Window(2, 0)], ids=repr)
def test_where_numbers_cannot_be_looked_at_the_results_are_the_same(
    backend: str, mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a CUDA graph is captured, that is; here, as if it were."""
    n = 128 if "Document" in repr(mask) else 6
    tensors = [x.detach() for x in qkv(q_len=n, k_len=n)]
    tensors[1][0, 1, -1], tensors[2][1, 0, 4] = float("nan"), float("inf")
    tensors = [x.requires_grad_() for x in tensors]
    results = []
    for may_look in (True, False):
        monkeypatch.setattr(sys.modules["attnkit.attention"], "_may_look", lambda x, may_look=may_look: may_look)
        out = attention(*tensors, mask=mask, backend=backend)
        results.append([out, *torch.autograd.grad(out, tensors, out.isfinite().to(out.dtype))])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one.nan_to_num(nan=-1.0), other.nan_to_num(nan=-1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("backend", "grad"), [*((name, True) for name in ALL), *((name, False) for name in FORWARD)])
def test_padding_may_hold_anything(backend: str, dtype: torch.dtype, grad: bool) -> None:
    q, k, v = (x.detach().requires_grad_(grad) for x in qkv(dtype=dtype))
    out = attention(q, k, v, mask=Padding([4, 6]), backend=backend)
    k2, v2 = (x.detach().clone() for x in (k, v))
    k2[0, :, 4:], v2[0, :, 4:] = float("nan"), float("inf")
    assert torch.equal(attention(q, k2, v2, mask=Padding([4, 6]), backend=backend), out)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_bias_where_nothing_is_visible_is_ignored(backend: str, poison: float) -> None:
    tensors = qkv()
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    bias = torch.arange(36.0).view(6, 6).where(causal, poison)
    clean = attention(*tensors, bias=bias.where(causal, 0.0), mask=Causal(), backend=backend)
    torch.testing.assert_close(attention(*tensors, bias=bias, mask=Causal(), backend=backend), clean)


@pytest.mark.parametrize("backend", ALL)
def test_a_visible_nan_is_seen(backend: str) -> None:
    q, k, v = qkv()
    v = v.detach().clone()
    v[0, 0, 0, 0] = float("nan")
    assert attention(q, k, v, backend=backend)[0, :2, :, 0].isnan().all()


@pytest.mark.parametrize("backend", ALL)
def test_a_row_hidden_by_minus_infinity_in_the_bias_is_zero_too(backend: str) -> None:
    bias = torch.zeros(6, 6)
    bias[3], bias[:, 1] = float("-inf"), float("-inf")
    tensors = qkv()
    out = attention(*tensors, bias=bias, backend=backend)
    assert bool((out[:, :, 3] == 0).all())
    torch.testing.assert_close(out[:, :, 2], attention(*tensors, mask=bias.isfinite(), backend=backend)[:, :, 2])
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.square().sum(), tensors))


@pytest.mark.parametrize("backend", ALL)
def test_batch_neighbours_and_padding_do_not_change_a_sequence(backend: str) -> None:
    q, k, v = qkv(batch=3)
    alone = attention(q[1:2], k[1:2], v[1:2], backend=backend)
    torch.testing.assert_close(attention(q, k, v, backend=backend)[1:2], alone, rtol=1e-6, atol=1e-6)
    longer = [torch.cat([x, 9 * torch.ones_like(x)], dim=2) for x in (k, v)]
    padded = attention(q, *longer, mask=Padding([6, 6, 6]), backend=backend)
    torch.testing.assert_close(padded[1:2], alone, rtol=1e-6, atol=1e-6)


def test_dropout_drops_the_same_weights_in_every_backend_and_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = qkv(q_len=33, k_len=29)
    outs = []
    for backend, tiles in (("naive", (0, 0)), ("online", (5, 7)), ("online", (64, 64))):
        monkeypatch.setattr(tiling, "choose_tiles", lambda sizes, tiles=tiles: tiles)
        torch.manual_seed(11)
        outs.append(attention(q, k, v, dropout=0.4, backend=backend))
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[0], outs[2])
    assert not torch.allclose(outs[0], attention(q, k, v, dropout=0.4, backend="naive"))  # the next seed


def test_dropout_keeps_the_right_share_everywhere_and_independently() -> None:
    sizes = Sizes(2, 4, 256, 256)
    keep = keep_tile(123, 0.3, range(256), range(256), sizes).double()
    spread = (0.3 * 0.7) ** 0.5
    for axes, count in (((0, 1, 2, 3), 8 * 256**2), ((2, 3), 256**2), ((0, 1, 3), 8 * 256), ((0, 1, 2), 8 * 256)):
        z = (keep.mean(dim=axes) - 0.7) / (spread / count**0.5)
        assert z.abs().max() < 5
    centred = (keep - 0.7) / spread
    for axis in range(4):  # neighbours along each axis, and diagonals, know nothing of each other
        assert abs(float((centred * centred.roll(1, axis)).mean())) < 5 / keep.numel() ** 0.5
    assert abs(float((centred * centred.roll((1, 1), (2, 3))).mean())) < 5 / keep.numel() ** 0.5
    rows, cols = centred.reshape(-1, 256), centred.reshape(-1, 256).mT  # any two of each, not only neighbours
    for table in (rows, cols):
        together = (table @ table.mT).fill_diagonal_(0.0) / table.shape[1] ** 0.5
        assert together.abs().max() < 7  # of millions of pairs
    for steps in ((1, 1), (2, 3), (7, 8)):  # nor does the fourth corner of a rectangle follow from the other three
        corners = centred * centred.roll(steps[0], 2) * centred.roll(steps[1], 3) * centred.roll(steps, (2, 3))
        assert abs(float(corners.mean())) < 5 / keep.numel() ** 0.5
    other = keep_tile(124, 0.3, range(256), range(256), sizes).double()
    assert abs(float((centred * (other - 0.7)).mean())) / spread < 5 / keep.numel() ** 0.5


def test_dropout_is_right_on_average_and_weights_are_told_before_it() -> None:
    q, k, v = qkv(batch=1, heads=1, kv_heads=1)
    torch.manual_seed(0)
    mean = attention(*(x.expand(4000, -1, -1, -1) for x in (q, k, v)), dropout=0.5).mean(0, keepdim=True)
    torch.testing.assert_close(mean, attention(q, k, v), rtol=0.0, atol=0.08)
    _, aux = attention(q, k, v, dropout=0.5, aux=("weights",))
    torch.testing.assert_close(aux.weights.sum(-1), torch.ones(1, 1, 6))


def test_dropout_is_repeated_by_the_seed_and_costs_no_randomness_when_off() -> None:
    q, k, v = qkv()
    torch.manual_seed(5)
    first = attention(q, k, v, dropout=0.2)
    torch.manual_seed(5)
    assert torch.equal(attention(q, k, v, dropout=0.2), first)
    torch.manual_seed(5)
    attention(q, k, v)
    assert torch.equal(attention(q, k, v, dropout=0.2), first)


def test_the_seed_is_a_tensor_and_the_same_number_as_ever() -> None:
    torch.manual_seed(3)
    number = int(torch.randint(-(2**31), 2**31, ()))
    torch.manual_seed(3)
    seed = draw_seed()
    assert (seed.dtype, seed.shape, int(seed)) == (torch.int32, (), number)
    assert draw_seed("meta").is_meta
    sizes = Sizes(1, 2, 8, 8)
    tiles = [keep_tile(x, 0.5, range(8), range(8), sizes) for x in (number, seed)]
    assert torch.equal(*tiles)


def test_explain_draws_no_randomness() -> None:
    torch.manual_seed(3)
    explain(*qkv(), dropout=0.5)
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(()))


@pytest.mark.parametrize("backend", ALL)
def test_autocast_computes_in_its_dtype_and_gradients_come_back_in_theirs(backend: str) -> None:
    tensors = qkv()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(*tensors, backend=backend, mask=Causal())
        assert out.dtype == F.scaled_dot_product_attention(*(t[:, :2] for t in tensors)).dtype == torch.bfloat16
        grads = torch.autograd.grad(out.float().sum(), tensors)
    assert [g.dtype for g in grads] == [torch.float32] * 3
    plain = attention(*(t.bfloat16() for t in tensors), backend=backend, mask=Causal())
    assert torch.equal(out, plain)


def test_online_refuses_a_second_derivative_rather_than_give_a_wrong_one() -> None:
    q, k, v = qkv()
    (first,) = torch.autograd.grad(attention(q, k, v, backend="online").sum(), q, create_graph=True)
    with pytest.raises(BackendUnsupported, match=r"second derivative.*naive"):
        torch.autograd.grad(first.square().sum(), q)


def test_online_works_under_functional_transforms() -> None:
    q, k, v = (x.detach() for x in qkv())
    got, want = (
        torch.func.grad(lambda q, backend=backend: attention(q, k, v, backend=backend).square().sum())(q)
        for backend in ("online", "naive")
    )
    torch.testing.assert_close(got, want)


def test_online_gives_gradients_only_where_they_are_wanted() -> None:
    q, k, v = qkv()
    out = attention(q, k.detach(), v, backend="online")
    grads = torch.autograd.grad(out.sum(), [q, v])
    want = torch.autograd.grad(attention(q, k.detach(), v, backend="naive").sum(), [q, v])
    for got, ideal in zip(grads, want, strict=True):
        torch.testing.assert_close(got, ideal)
    with torch.inference_mode():
        assert attention(q, k, v, backend="online").shape == q.shape


@pytest.mark.parametrize(
    ("mask", "share"),
    [(None, 1.0), (Causal(), 0.55), (Window(8, 0), 0.2), (PACKED, 0.15), (Prefix(0), 0)],
    ids=repr,
)  # fmt: skip
def test_online_visits_only_tiles_that_hold_something(mask, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (8, 8))
    visited, whole = [], online.score_tile
    monkeypatch.setattr(online, "score_tile", lambda *args: (visited.append(args[4:6]), whole(*args))[1])
    q, k, v = qkv(q_len=128, k_len=128)
    attention(q, k, v, mask=mask, backend="online").sum().backward()
    assert len(visited) <= 2 * share * 16 * 16


MEMORY = """
import torch
from attnkit import attention
from attnkit.bench.memory import extra_bytes
print(extra_bytes("online", 4096), extra_bytes("online", 8192))
"""


@pytest.mark.slow
def test_memory_of_online_is_linear_in_length() -> None:
    """At 8,192 the scores alone would be 268 MB."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    half, full = (int(x) / 1e6 for x in run.stdout.split())
    assert full < 60
    assert full < 2.5 * max(half, 12)


def test_the_names_of_the_package_are_the_functions_whatever_was_imported_first() -> None:
    import attnkit.attention  # the module of the same name

    assert attnkit.attention is attention
    assert isinstance(sys.modules["attnkit.attention"], ModuleType)
    code = "import attnkit.attention\nfrom attnkit import attention\nassert callable(attention)\nprint(dir(attnkit))"
    assert "explain" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    with pytest.raises(AttributeError, match="no attribute 'atention'"):
        attnkit.atention  # noqa: B018 - the look-up is what is tested


def test_importing_the_package_does_not_load_torch() -> None:
    code = "import sys, attnkit\nassert 'torch' not in sys.modules\nattnkit.attention\nassert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_about_tells_versions_and_device_and_survives_a_broken_torch(capsys: pytest.CaptureFixture[str]) -> None:
    attnkit.about()
    told = capsys.readouterr().out
    assert all(word in told for word in ("python 3", f"attnkit {attnkit.__version__}", "torch 2", "numpy 2", "device"))
    code = "import sys\nsys.modules['torch'] = None\nimport attnkit\nattnkit.about()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "device unknown" in run.stdout


def test_explain_refuses_arguments_that_attention_does_not_have() -> None:
    with pytest.raises(TypeError, match="is_causal"):
        explain(*qkv(), is_causal=True)
