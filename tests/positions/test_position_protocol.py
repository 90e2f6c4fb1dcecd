"""What all encodings have in common: the hooks, their tables in `state_dict`, casts, devices, refused arguments."""

from __future__ import annotations

import copy
import doctest
import importlib
import pkgutil

import pytest
import torch
from torch import nn

import attnkit.positions
from attnkit.positions import (
    NTK,
    T5,
    ALiBi,
    DynamicNTK,
    Learned,
    Linear,
    Llama3,
    OneHot,
    Position,
    Rotary,
    Shaw,
    Sinusoidal,
    TransformerXL,
    YaRN,
    half_to_interleaved,
    interleaved_to_half,
)

ENCODINGS = {
    "one-hot": lambda: OneHot(length=8),
    "learned": lambda: Learned(length=9, d_model=8, offset=2),
    "sinusoidal": lambda: Sinusoidal(8),
    "rotary": lambda: Rotary(8),
    "rotary, a part": lambda: Rotary(8, layout="interleaved", width=4),
    "dynamic": lambda: Rotary(8, scaling=DynamicNTK(factor=2.0, trained_length=3)),
    "shaw": lambda: Shaw(d_head=8, max_distance=3, values=True, d_value=5),
    "transformer-xl": lambda: TransformerXL(d_model=12, heads=4, d_head=8),
    "t5": lambda: T5(heads=4, buckets=8, max_distance=16),
    "alibi": lambda: ALiBi(heads=4),
}
CONSTANTS = {"sinusoidal": "inv_freq", "rotary": "inv_freq", "transformer-xl": "inv_freq", "alibi": "slopes"}
every = pytest.mark.parametrize("name", ENCODINGS)


def use(encoding: Position, batch: int = 2, length: int = 6, dtype=torch.float32, start: int = 0, device="cpu"):
    """Every hook once, on numbers that do not depend on the dtype: what came of each, in order."""
    rng = torch.Generator().manual_seed(0)
    x, q, k = (torch.randn(s, generator=rng).to(device, dtype) for s in ((2, 9, 8), (2, 4, 9, 8), (2, 2, 9, 8)))
    x, q, k = x[:batch, :length], q[:batch, :, :length], k[:batch, :, :length]
    at = torch.arange(start, start + length, device=device)[None]
    weights = (q @ q.mT).softmax(-1)
    return (
        encoding.embed(x, at),
        encoding.rotate(q, at),
        encoding.bias(q, k, at, at, scale=0.3),
        encoding.output(weights, at, at),
    )


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(attnkit.positions.__path__)])
def test_examples_in_docstrings(module: str) -> None:
    found = importlib.import_module(f"attnkit.positions.{module}")
    assert not doctest.testmod(found).failed


@every
def test_an_encoding_acts_in_its_place_and_nowhere_else(name: str) -> None:
    encoding = ENCODINGS[name]()
    rng = torch.Generator().manual_seed(0)
    x, q = (torch.randn(s, generator=rng) for s in ((2, 9, 8), (2, 4, 9, 8)))
    embedded, rotated, bias, output = use(encoding)
    assert torch.equal(embedded, x[:, :6]) == (encoding.acts_on != "embedding")
    assert torch.equal(rotated, q[:, :, :6]) == (encoding.acts_on != "query_key")
    assert (bias is None) == (encoding.acts_on != "scores")
    assert (output is None) == (not encoding.needs_weights)


@every
def test_gives_what_it_says_in_every_dtype_on_empty_and_on_single_sequences(name: str) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        for length in (0, 1, 6):
            encoding = ENCODINGS[name]().to(dtype)
            embedded, rotated, bias, output = use(encoding, length=length, dtype=dtype)
            assert embedded.shape == (2, length, 8)
            assert embedded.dtype == dtype
            assert rotated.shape == (2, 4, length, 8)
            assert rotated.dtype == dtype
            assert bias is None or (bias.shape[1:] == (4, length, length) and bias.shape[0] in (1, 2))
            assert output is None or (output.shape == (2, 4, length, 5) and output.dtype == dtype)
            assert all(x is None or x.isfinite().all() for x in (embedded, rotated, bias, output))
    assert use(ENCODINGS[name](), batch=0)[0].shape == (0, 6, 8)


@every
def test_half_precision_is_the_float32_result_rounded(name: str) -> None:
    """A module cast to half precision and back, given float32, gives what it gave before, but for its parameters."""
    encoding, cast = ENCODINGS[name](), ENCODINGS[name]().bfloat16().half().float()
    for own, other in zip(encoding.parameters(), cast.parameters(), strict=True):
        other.data.copy_(own.data)
    for before, after in zip(use(encoding), use(cast), strict=True):
        assert before is None or torch.equal(before, after)


@pytest.mark.parametrize(("name", "constant"), CONSTANTS.items())
def test_constants_are_buffers_that_no_cast_rounds(name: str, constant: str) -> None:
    encoding = ENCODINGS[name]()
    exact = getattr(encoding, constant).clone()
    assert exact.dtype == torch.float64
    model = nn.Sequential(nn.Linear(2, 2), encoding)
    assert f"1.{constant}" in model.state_dict()
    assert f"1.{constant}" in dict(model.named_buffers())
    for cast in (nn.Module.half, nn.Module.bfloat16, nn.Module.float, nn.Module.double):
        cast(model)
        assert torch.equal(getattr(encoding, constant), exact)
    assert model[0].weight.dtype == torch.float64
    assert getattr(copy.deepcopy(model)[1].to("meta"), constant).is_meta


@pytest.mark.parametrize(("name", "constant"), CONSTANTS.items())
def test_constants_come_back_from_the_meta_device(name: str, constant: str) -> None:
    exact = getattr(ENCODINGS[name](), constant)
    with torch.device("meta"):
        made = ENCODINGS[name]()
    assert getattr(made, constant).is_meta
    assert torch.equal(getattr(copy.deepcopy(made).to_empty(device="cpu"), constant), exact)
    state = {key: value for key, value in ENCODINGS[name]().state_dict().items() if key != constant}
    made.load_state_dict(state, assign=True)  # as published checkpoints do, which hold no such table
    assert torch.equal(getattr(made, constant), exact)


@every
def test_works_on_the_meta_device(name: str) -> None:
    shapes = [None if x is None else x.shape for x in use(ENCODINGS[name]())]
    there = use(ENCODINGS[name]().to("meta"), device="meta")
    assert [None if x is None else x.shape for x in there] == shapes
    assert all(x is None or x.is_meta for x in there)


@every
def test_a_checkpoint_made_after_longer_use_fits_a_new_module(name: str) -> None:
    used = ENCODINGS[name]()
    before = {key: value.shape for key, value in used.state_dict().items()}
    if name not in ("one-hot", "learned"):
        use(used, start=100_000)
    assert {key: value.shape for key, value in used.state_dict().items()} == before
    new = ENCODINGS[name]()
    new.load_state_dict(used.state_dict())
    for was, now in zip(use(used), use(new), strict=True):
        assert was is None or torch.equal(was, now)


@pytest.mark.parametrize(("name", "constant"), CONSTANTS.items())
def test_a_checkpoint_cannot_change_a_constant(name: str, constant: str) -> None:
    """One that was rounded is taken for what it was; one of another encoding is refused, by name."""
    encoding = ENCODINGS[name]()
    exact, state = getattr(encoding, constant).clone(), encoding.state_dict()
    for assign in (False, True):
        encoding.load_state_dict({key: value.bfloat16() for key, value in state.items()}, assign=assign)
        assert torch.equal(getattr(encoding, constant), exact)
    with pytest.raises(RuntimeError, match=rf"{constant} of the checkpoint.*{type(encoding).__name__}"):
        encoding.load_state_dict(state | {constant: exact * 1.1})
    with pytest.raises(RuntimeError, match=r"shape \(1,\)"):
        encoding.load_state_dict(state | {constant: exact[:1]})
    nn.Sequential(encoding).load_state_dict({f"0.{key}": x for key, x in state.items() if key != constant})


@every
def test_rows_of_a_batch_have_their_own_positions(name: str) -> None:
    """Whatever the rows' positions are, each row is what it is alone."""
    encoding, rng = ENCODINGS[name](), torch.Generator().manual_seed(1)
    x, q, k = (torch.randn(s, generator=rng) for s in ((3, 5, 8), (3, 4, 5, 8), (3, 2, 7, 8)))
    q_at, k_at = (torch.randint(7, (3, n), generator=rng) for n in (5, 7))
    q_at[:, 0] = 6  # DynamicNTK looks at the greatest of a call
    weights = (q @ k.repeat_interleave(2, 1).mT).softmax(-1)
    together = (
        encoding.embed(x, q_at),
        encoding.rotate(q, q_at),
        encoding.bias(q, k, q_at, k_at, 0.3),
        encoding.output(weights, q_at, k_at),
    )
    for b in range(3):
        row = slice(b, b + 1)
        alone = (
            encoding.embed(x[row], q_at[row]),
            encoding.rotate(q[row], q_at[row]),
            encoding.bias(q[row], k[row], q_at[row], k_at[row], 0.3),
            encoding.output(weights[row], q_at[row], k_at[row]),
        )
        for batched, single in zip(together, alone, strict=True):
            assert batched is None or torch.allclose(batched[row], single, atol=1e-6)


X, Q, K = torch.zeros(2, 6, 8), torch.zeros(2, 4, 6, 8), torch.zeros(2, 2, 6, 8)
AT = torch.arange(6)[None]

# Each wrong use, and the words that its error must hold.
REFUSED = [
    (lambda: Rotary(7), ["d_head", "7", "even"]),
    (lambda: Rotary(8, width=3), ["width", "3", "even"]),
    (lambda: Rotary(8, width=10), ["width", "10", "d_head=8"]),
    (lambda: Rotary(8, layout="halves"), ["layout", "'halves'", "'half'"]),
    (lambda: Rotary(8, base=1.0), ["base", "1.0", "above 1"]),
    (lambda: Rotary(8, scaling=2.0), ["scaling", "2.0", "Linear"]),
    (lambda: Rotary(8).rotate(Q[..., :6], AT), ["(2, 4, 6, 6)", "d_head=8"]),
    (lambda: Linear(factor=0.5), ["factor", "0.5", "1 or more"]),
    (lambda: NTK(factor=float("nan")), ["factor", "nan"]),
    (lambda: DynamicNTK(factor=2.0, trained_length=0), ["trained_length", "0", "at least 1"]),
    (lambda: YaRN(factor=0.9, trained_length=64), ["factor", "0.9"]),
    (lambda: YaRN(factor=2.0, trained_length=64, beta_fast=1.0), ["beta_fast", "1.0", "greater"]),
    (lambda: Llama3(8.0, 4.0, 1.0, 64), ["high_freq_factor", "1.0", "greater"]),
    (lambda: interleaved_to_half(torch.zeros(10, 3), heads=4), ["weight", "(10, 3)", "4 heads"]),
    (lambda: half_to_interleaved(torch.zeros(12, 3), heads=4), ["width", "3", "even"]),
    (lambda: Learned(5, 8).embed(X, AT), ["positions", "0 to 5", "learned table", "0 to 4"]),
    (lambda: Learned(5, 8, offset=2).embed(X, AT), ["positions", "learned table"]),
    (lambda: Learned(9, 8, offset=2).embed(X, AT - 1), ["-1 to 4", "learned table"]),
    (lambda: Learned(9, 6).embed(X, AT), ["(2, 6, 8)", "d_model=6"]),
    (lambda: Learned(0, 6), ["length", "0", "at least 1"]),
    (lambda: OneHot(5).embed(X, AT), ["positions", "0 to 5", "length=5"]),
    (lambda: OneHot(9).embed(X, AT), ["(2, 6, 8)", "length=9", "at least 9"]),
    (lambda: Sinusoidal(7), ["d_model", "7", "even"]),
    (lambda: Sinusoidal(8).embed(X[..., :6], AT), ["(2, 6, 6)", "d_model=8"]),
    (lambda: Sinusoidal(8).embed(X, AT[:, :5]), ["positions", "(1, 5)", "(2, 6) or (1, 6)"]),
    (lambda: Sinusoidal(8).embed(X, AT[0]), ["positions", "(6,)", "(1, 6)"]),
    (lambda: Sinusoidal(8).embed(X, AT.float()), ["positions", "float32", "integers"]),
    (lambda: Sinusoidal(8).embed(X, [[0, 1]]), ["positions", "list", "tensor"]),
    (lambda: Rotary(8).rotate(Q, AT.expand(3, 6)), ["positions", "(3, 6)", "(2, 6)"]),
    (lambda: ALiBi(3).bias(Q, K, AT, AT, 1.0), ["query", "4 heads", "heads=3"]),
    (lambda: ALiBi(0), ["heads", "0", "at least 1"]),
    (lambda: ALiBi(4).bias(Q, K, AT[:, :4], AT, 1.0), ["q_positions", "(1, 4)", "(1, 6)"]),
    (lambda: ALiBi(4).bias(Q, K, AT, AT[:, :4], 1.0), ["k_positions", "(1, 4)", "(1, 6)"]),
    (lambda: T5(3).bias(Q, K, AT, AT, 1.0), ["query", "4 heads", "heads=3"]),
    (lambda: T5(4, buckets=10), ["buckets", "10", "multiple of 4"]),
    (lambda: T5(4, buckets=3, bidirectional=False), ["buckets", "3", "multiple of 2"]),
    (lambda: T5(4, buckets=32, max_distance=8), ["max_distance", "8", "at least 9"]),
    (lambda: Shaw(6, 2).bias(Q, K, AT, AT, 1.0), ["query", "(2, 4, 6, 8)", "d_head=6"]),
    (lambda: Shaw(8, 2, d_value=4), ["d_value", "4", "values=True"]),
    (lambda: Shaw(8, 2).bias(Q, K, AT, AT[:, 1:], 1.0), ["k_positions", "(1, 5)"]),
    (lambda: TransformerXL(7, 4, 8), ["d_model", "7", "even"]),
    (lambda: TransformerXL(8, 3, 8).bias(Q, K, AT, AT, 1.0), ["query", "heads=3"]),
    (lambda: TransformerXL(8, 4, 8).bias(Q, Q[:, :3], AT, AT, 1.0), ["key", "3 heads", "divide 4"]),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_wrong_use_is_named(wrong, words: list[str]) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the words are what is tested
        wrong()
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
