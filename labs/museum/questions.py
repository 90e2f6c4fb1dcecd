"""The debugging lab: eight functions that run, look right and are wrong.

For each exhibit students hand in a test that fails on the broken function, and the function mended. A test is judged by
what it says of functions that stand here, behind a black box: the broken one, its close relatives, and right ones
that were written in other ways.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from math import exp, fsum, log, sqrt
from typing import Any, ClassVar, NamedTuple

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Tolerance, question
from attnkit.lab.steps import Trial

# A mended function may compute in float32, whatever it was handed.
SINGLE_PRECISION = Tolerance(rtol=1e-4, atol=1e-5)

_NO_ATTENTION = (
    *("torch.nn.functional.scaled_dot_product_attention", "torch.nn.functional.multi_head_attention_forward"),
    *("torch.nn.MultiheadAttention", "torch.nn.Transformer", "torch.nn.TransformerEncoder"),
    *("torch._scaled_dot_product_attention_math", "torch.nn.attention.flex_attention.flex_attention", "attnkit"),
)

Test = Callable[[Callable[..., Any]], None]


def _array(rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def _draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Halves between -3 and 3."""
    return (rng.integers(-6, 7, size=shape) / 2).astype(np.float32)


def _some(seed: int, *shape: int) -> np.ndarray:
    """The same numbers each time, for the inputs of tests."""
    return np.random.default_rng(seed).standard_normal(shape)


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    if x.size == 0:
        return x
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    if x.size == 0:
        return x
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _dots(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    return query @ np.swapaxes(key, -1, -2)


def _attend(query: np.ndarray, key: np.ndarray, value: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """softmax(QK^T / sqrt(d)) V; hidden keys weigh 0, and a query that sees nothing gets zeros."""
    scores = _dots(query, key) / sqrt(query.shape[-1])
    if visible is None:
        return _softmax(scores) @ value
    shifted = scores - np.where(visible, scores, -1e30).max(axis=-1, keepdims=True)
    seen = np.exp(np.where(visible, shifted, -np.inf))
    total = seen.sum(axis=-1, keepdims=True)
    return seen / np.where(total == 0, 1.0, total) @ value


def _row(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One query over some keys, number by number: the last key first, so that sums round in another way."""
    scores = [fsum(float(a) * float(b) for a, b in zip(query, key, strict=True)) / sqrt(len(query)) for key in keys]
    powers = [exp(score - max(scores)) for score in scores]
    rows = [[power * float(v) for v in value] for power, value in zip(powers, values, strict=True)]
    return np.array([sum(reversed(column)) / sum(reversed(powers)) for column in zip(*rows, strict=True)])


# --- the exhibits: what a test is tried on ---------------------------------------------------------------------------


def _single(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` in single precision from end to end."""

    def run(*args):
        half = (a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args)
        return np.asarray(function(*half)).astype(np.float32)

    return run


def _nan(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: np.asarray(function(*args)) * np.nan


def _odd_shape(function: Callable[..., Any]) -> Callable[..., Any]:
    """One axis too many, and other numbers: a test of the shape and a test of the numbers both see it."""

    def run(*args):
        out = np.asarray(function(*args), dtype=float)
        return (out + 2 + np.arange(out.size).reshape(out.shape))[None]

    return run


class Exhibit(NamedTuple):
    """A broken function with its surroundings.

    `names` are the arguments that students know. `rights` and `relatives` map what follows "a right function, " and "a
    relative that " to functions. `args` are ordinary inputs, `most` is the largest count of numbers in one call of a
    small test. What comes back may be a `scalar`, which has no shape to get wrong.
    """

    names: str
    broken: Callable[..., Any]
    right: Callable[..., Any]
    rights: Mapping[str, Callable[..., Any]]
    relatives: Mapping[str, Callable[..., Any]]
    args: tuple[Any, ...]
    most: int
    scalar: bool = False

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """The broken one first, which students have before them. The rest comes in any order."""
        yield self._trial("the broken function of the notebook", self.broken)
        rights = {"written as the formula reads": self.right, "in single precision": _single(self.right)}
        rest = [
            self._trial(f"a right function, {how}", right, broken=False)
            for how, right in (rights | dict(self.rights)).items()
        ]
        rest += [
            self._trial(f"a relative that {how}", wrong, part="relatives")
            for how, wrong in (dict(self.relatives) | self._odd()).items()
        ]
        for place in rng.permutation(len(rest)):
            yield rest[place]
        note = f"the broken function, when you may hand over {self.most} numbers at most in one call"
        yield self._trial(note, self.broken, part="small", most=self.most)

    def _odd(self) -> dict[str, Callable[..., Any]]:
        odd = {} if self.scalar else {"returns other numbers, and one axis too many": _odd_shape(self.right)}
        return {"returns nan everywhere": _nan(self.right)} | odd

    def _trial(self, note: str, subject, broken: bool = True, part: str = "ordinary", most: int | None = None) -> Case:
        return Case(steps=(Trial(_called(subject, self.names), broken=broken, most=most),), part=part, note=note)


def _called(subject: Callable[..., Any], names: str) -> Callable[..., Any]:
    """`subject` with arguments of these names: a test may use them."""
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names.split()]
    signature = inspect.Signature(parameters)

    def implementation(*args, **kwargs):
        return subject(*signature.bind(*args, **kwargs).args)

    implementation.__signature__ = signature
    return implementation


# --- tests that are wrong --------------------------------------------------------------------------------------------


def _silent(*args) -> Test:
    def test(implementation):
        implementation(*args)

    return test


def _shaped(shape: tuple[int, ...], *args) -> Test:
    def test(implementation):
        assert np.shape(implementation(*args)) == shape

    return test


def _finite(*args) -> Test:
    def test(implementation):
        assert np.isfinite(implementation(*args)).all()

    return test


def _near(want: Any, *args, tolerance: float = 1e-4) -> Test:
    """What a right test does; wrong is what it wants, or the inputs that it chose."""

    def test(implementation):
        got = implementation(*args)
        assert np.shape(got) == np.shape(want), f"the shape is {np.shape(got)}; it should be {np.shape(want)}"
        assert np.allclose(got, want, rtol=0, atol=tolerance), f"got {got}; it should be {want}"

    return test


def _exact(want: Any, *args) -> Test:
    def test(implementation):
        assert np.array_equal(implementation(*args), want)

    return test


def _refuses(*args) -> Test:
    def test(implementation):
        assert implementation(*args) is None

    return test


def _usual(exhibit: Exhibit, read: str, *, loose: tuple, dull: tuple, big: tuple, says: Mapping[str, str]) -> tuple:
    """The mistakes that any test can make: `loose`, `dull` and `big` are inputs, `says` what the hints add."""
    right, args = exhibit.right, exhibit.args
    want = np.asarray(right(*args))
    shape = (
        Mistake(
            "your test looks at the shape only",
            _shaped(want.shape, *args),
            f"The broken function has the right shape; nearly all broken code has. {says.get('shape')} Assert "
            "something about the numbers.",
            "use#museum-shape-only-test",
        ),
    )
    return (
        Mistake(
            "your test asserts nothing about what it gets back",
            _silent(*args),
            "It passes whatever comes back: nan, a wrong shape, anything. Calling is not testing, and comparing a "
            f"result with itself is not either. Write `assert`, and beside it what must be true: {says['true']}",
            "verify#verify-mutants",
        ),
        *(() if exhibit.scalar else shape),
        Mistake(
            "your test asks only whether the result is finite",
            _finite(*args),
            f"Wrong numbers are finite, too. {says['finite']}",
            "verify#verify-graders",
        ),
        Mistake(
            "your test allows an error of about 1",
            _near(right(*loose), *loose, tolerance=1.0),
            f"An error of 1 is as large as the numbers themselves. {says['loose']} 1e-4 is wide enough for float32 and "
            "far below what the mistake does.",
            "verify#verify-bound",
        ),
        Mistake(
            "your test demands the last bit",
            _exact(right(*args), *args),
            f"A right function that {says['bits']} rounds in another way, and your test refuses it. Compare with a "
            "tolerance, such as np.allclose(got, want, atol=1e-4).",
            "verify#verify-bound",
        ),
        Mistake(
            "your test wants what the broken function gives",
            _near(exhibit.broken(*args), *args),
            f"It passes the broken function and refuses right ones. {says['copied']} Take the expected number from the "
            "formula and not from a run of the code that you test.",
            "use#museum-self-comparison",
        ),
        Mistake(
            "your test fails whatever it is handed",
            _refuses(*args),
            "A test that nothing passes says nothing about any function. Try it on a right one: is the number that you "
            f"expect right? {says['refuses']}",
            "verify#verify-hand",
        ),
        Mistake(
            says["dull name"],
            _near(right(*dull), *dull),
            says["dull"],
            read,
        ),
        Mistake(
            "your test is right, and larger than it need be",
            _near(right(*big), *big),
            f"It tells right from wrong, but hands over more than {exhibit.most} numbers in one call. {says['small']} "
            "With so few numbers you can check the expected value by hand.",
            read,
        ),
    )


def _unmended(exhibit: Exhibit, name: str, hint: str, hints: Mapping[str, str], read: str) -> tuple[Mistake, ...]:
    """The broken function and its relatives, as wrong ways to mend it. `hints` has the relatives' keys."""
    kin = (Mistake(f"your function {how}", exhibit.relatives[how], told, read) for how, told in hints.items())
    return (Mistake(name, exhibit.broken, hint, read), *kin)


# --- 1. scaled_heads -------------------------------------------------------------------------------------------------


def _heads_over(divide: Callable[..., float], axis: int = -1) -> Callable[..., Any]:
    """Attention in each head, with scores over `divide(query, key, value)`; the right one is sqrt(d_head)."""

    def run(query, key, value):
        return _softmax(_dots(query, key) / divide(query, key, value), axis) @ value

    return run


_scaled_heads = _heads_over(lambda q, k, v: sqrt(q.shape[-1]))
_root_of_model = _heads_over(lambda q, k, v: sqrt(q.shape[0] * q.shape[-1]))


def _heads_in_loops(query, key, value):
    return np.array(
        [[_row(one, keys, values) for one in rows] for rows, keys, values in zip(query, key, value, strict=True)]
    )


def _heads_einsum(query, key, value):
    scores = np.einsum("hid,hjd->hij", query * query.shape[-1] ** -0.5, key)
    powers = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
    return np.einsum("hij,hjv->hiv", powers, value) / powers.sum(axis=-1)[..., None]


def _first_head_for_all(query, key, value):
    weights = _softmax(_dots(query, key) / sqrt(query.shape[-1]))
    return weights[:1] @ value if len(weights) else weights @ value


_THREE_HEADS = (2 * _some(0, 3, 1, 2), _some(1, 3, 4, 2), 2 * _some(2, 3, 4, 1))

_HEADS = Exhibit(
    names="query key value",
    broken=_root_of_model,
    right=_scaled_heads,
    rights={"written with loops": _heads_in_loops, "written with einsum": _heads_einsum},
    relatives={
        "divides by d_head and not by its root": _heads_over(lambda q, k, v: q.shape[-1]),
        "does not scale at all": _heads_over(lambda q, k, v: 1.0),
        "divides by the root of the number of heads": _heads_over(lambda q, k, v: sqrt(q.shape[0])),
        "divides by the root of the number of keys": _heads_over(lambda q, k, v: sqrt(k.shape[-2])),
        "lets the softmax run over the queries": _heads_over(lambda q, k, v: sqrt(q.shape[-1]), axis=-2),
    },
    args=_THREE_HEADS,
    most=60,
)


def _qkv(rng: np.random.Generator, heads: int, q_len: int, k_len: int, d: int, d_v: int) -> tuple[np.ndarray, ...]:
    return _draw(rng, heads, q_len, d), _draw(rng, heads, k_len, d), _draw(rng, heads, k_len, d_v)


def _three_fifths(implementation):
    """Scores ln 3, 0, 0 make weights 3/5, 1/5, 1/5, in each of three heads."""
    query, key, value = np.zeros((3, 1, 2)), np.zeros((3, 3, 2)), np.zeros((3, 3, 1))
    query[..., 0], key[:, 0, 0], value[:, 0] = sqrt(2), log(3), 1
    out = implementation(query, key, value)
    assert np.allclose(out, np.full((3, 1, 1), 0.6), atol=1e-4), f"got {out}, not 3/5"


class _OfTests:
    """What the questions that ask for a test have in common."""

    exhibit: Exhibit
    parts: ClassVar = {"ordinary": 1, "relatives": 1, "small": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        return self.exhibit.cases(rng)


def _heads_alone(implementation):
    query, key, value = _THREE_HEADS
    alone = [implementation(query[h : h + 1], key[h : h + 1], value[h : h + 1]) for h in range(3)]
    assert np.allclose(implementation(query, key, value), np.concatenate(alone), atol=1e-4)


@question(points=3, answer="test_scaled_heads")
class TestScaledHeads(_OfTests):
    """A test that fails on attention whose scale is wrong, and passes what is right."""

    read = "scores#museum-root-of-model"
    exhibit = _HEADS

    def reference(self, implementation):
        """One answer, known beforehand."""
        _three_fifths(implementation)

    mistakes = (
        *_usual(
            _HEADS,
            "scores#museum-root-of-model",
            loose=(*_THREE_HEADS[:2], 6 * _THREE_HEADS[2]),
            dull=tuple(np.zeros_like(one) for one in _THREE_HEADS),
            big=(_some(0, 3, 9, 4), _some(1, 3, 20, 4), _some(2, 3, 20, 5)),
            says={
                "true": "choose scores whose softmax you know.",
                "shape": "No scale changes the shape of an average.",
                "finite": "Any scale gives finite weights: choose scores whose softmax you know, and compare.",
                "loose": "An average of values of size 1 with slightly wrong weights is off by a tenth or so.",
                "bits": "sums the heads in a loop, or divides the query instead of the scores,",
                "copied": "Which width stands under the root, that of a head or that of the model?",
                "refuses": "The scores are divided by sqrt(d_head): a query entry of sqrt(d_head) cancels it.",
                "dull name": "your test hands over zeros only",
                "dull": "If all scores are 0, no scale can change them, and an average of zeros is 0. Choose a query "
                "and a key with a dot product that is not 0, and values that differ.",
                "small": "Three heads, one query and three keys of width 2 are enough.",
            },
        ),
        Mistake(
            "your test uses one head only",
            _near(_scaled_heads(*(one[:1] for one in _THREE_HEADS)), *(one[:1] for one in _THREE_HEADS)),
            "With one head d_model and d_head are the same number, so both roots are. Let no two sizes be equal: "
            "take three heads.",
            "scores#museum-root-of-model",
        ),
        Mistake(
            "your test takes values that are all 1",
            _near(np.ones((3, 1, 1)), *_THREE_HEADS[:2], np.ones((3, 4, 1))),
            "Weights that sum to 1 average ones to 1, whatever they are. This law holds for any scale. Give "
            "different keys different values: with rows of the identity the output is the weights.",
            "verify#verify-laws",
        ),
        Mistake(
            "your test asks only whether a head alone is what it is among others",
            _heads_alone,
            "A good law, and it finds the broken function. But a scale that is wrong in the same way for one head and "
            "for three keeps it. Know one answer beforehand, too.",
            "verify#verify-laws",
        ),
    )


@question(points=2, answer="scaled_heads")
class ScaledHeads:
    """Attention in each of several heads, with the right scale."""

    read = "scaled-dot-product#attention-scale"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Heads, lengths and widths all differ."""
        yield Case(_qkv(rng, 3, 1, 2, 2, 1), note="three heads, one query, two keys")
        yield Case(_qkv(rng, 3, 2, 4, 2, 1), note="three heads of width 2")
        yield Case(_qkv(rng, 2, 3, 5, 4, 3), note="two heads of width 4")
        yield Case(_qkv(rng, 5, 4, 7, 3, 2), note="five heads of width 3")
        yield Case(_qkv(rng, 1, 2, 3, 4, 2), part="edges", note="a single head")
        yield Case(_qkv(rng, 3, 2, 1, 4, 2), part="edges", note="a single key")
        yield Case(_qkv(rng, 3, 0, 4, 2, 2), part="edges", note="no queries at all")
        query, key, value = _qkv(rng, 3, 2, 4, 2, 2)
        yield Case((100 * query, 100 * key, value), part="edges", note="scores far from 0")

    def reference(self, query, key, value):
        """softmax(QK^T / sqrt(d_head)) V in each head."""
        return _scaled_heads(query, key, value)

    invariants = (
        Invariant(
            "an output lies outside the values of its head",
            lambda got, q, k, v: bool(((got >= v.min(1)[:, None] - 1e-3) & (got <= v.max(1)[:, None] + 1e-3)).all()),
            "An output is an average of the values of its head: weights are positive and sum to 1.",
            "scaled-dot-product#attention-values",
        ),
        Invariant(
            "an output is not finite",
            lambda got, q, k, v: bool(np.isfinite(got).all()),
            "Every output should be finite. Use the softmax that the notebook gives you: it subtracts the maximum.",
            "softmax#softmax-max-shift",
        ),
    )

    mistakes = (
        *_unmended(
            _HEADS,
            "the scale is still the root of the model's width",
            "query.shape is (heads, length, d_head). A score is a sum of d_head products, so its spread grows with the "
            "root of d_head, however many heads there are.",
            {
                "divides by d_head and not by its root": "Variances add up, so the spread grows with the root. Divide "
                "by np.sqrt(d_head).",
                "does not scale at all": "The scale was wrong, not superfluous: divide the scores by np.sqrt(d_head).",
                "divides by the root of the number of heads": "The axes are (heads, length, d_head). The scale belongs "
                "to the last one.",
                "divides by the root of the number of keys": "A score is a sum over the width, not over the keys. Take "
                "query.shape[-1].",
                "lets the softmax run over the queries": "Each query shares out a weight of 1 among the keys: the "
                "softmax runs over the last axis.",
            },
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "your function divides by the root of the values' width",
            _heads_over(lambda q, k, v: sqrt(v.shape[-1])),
            "Values take no part in the scores. The width under the root is that of queries and keys.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "all heads use the first head's weights",
            _first_head_for_all,
            "Each head has queries and keys of its own, and so weights of its own. Keep the axis of heads throughout.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the output is divided instead of the scores",
            lambda q, k, v: _softmax(_dots(q, k)) @ v / sqrt(q.shape[-1]),
            "The scale tames the scores before the softmax. Divided afterwards, the output is no average any more.",
            "scaled-dot-product#attention-scale",
        ),
    )


# --- 2. layer_norm ---------------------------------------------------------------------------------------------------


def _normed(centre, spread, gain=1.0, bias=0.0):
    return centre / spread * gain + bias


def _layer_norm(x, gain, bias, eps, axis: int | None = -1, ddof: int = 0):
    """(x - mean) / sqrt(variance + eps) * gain + bias, with mean and variance of each row."""
    if x.size == 0:
        return x
    centre = x - x.mean(axis=axis, keepdims=True)
    count = x.shape[-1] - ddof if axis == -1 else x.size if axis is None else x.shape[axis]
    variance = np.square(centre).sum(axis=axis, keepdims=True) / count
    return _normed(centre, np.sqrt(variance + eps), gain, bias)


def _eps_outside(x, gain, bias, eps):
    mean, std = x.mean(axis=-1, keepdims=True), x.std(axis=-1, keepdims=True)
    return (x - mean) / (std + eps) * gain + bias


def _norm_in_loops(x, gain, bias, eps):
    out = np.zeros(np.shape(x))
    for place in np.ndindex(out.shape[:-1]):
        row = [float(one) for one in x[place]]
        mean = fsum(row) / len(row)
        root = sqrt(fsum((one - mean) ** 2 for one in row) / len(row) + eps)
        out[place] = [(one - mean) / root * g + b for one, g, b in zip(row, gain, bias, strict=True)]
    return out


def _norm_by_squares(x, gain, bias, eps):
    """The mean of the squares less the square of the mean, and a factor in place of a division."""
    mean = np.einsum("...d->...", x)[..., None] / x.shape[-1]
    variance = np.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1] - mean**2
    factor = (variance + eps) ** -0.5
    return x * (factor * gain) + (bias - mean * factor * gain)


def _rows_of(seed: int, rows: int, d: int, eps: float) -> tuple[Any, ...]:
    return 3 * _some(seed, rows, d) + 1, _some(seed + 1, d), _some(seed + 2, d), eps


_NORM = Exhibit(
    names="x gain bias eps",
    broken=_eps_outside,
    right=_layer_norm,
    rights={"written with loops": _norm_in_loops, "that never subtracts the mean from x": _norm_by_squares},
    relatives={
        "divides the sum of squares by d - 1": lambda x, g, b, eps: _layer_norm(x, g, b, eps, ddof=1),
        "forgets eps": lambda x, g, b, eps: _layer_norm(x, g, b, 1e-12),
        "normalises columns instead of rows": lambda x, g, b, eps: _layer_norm(x, g, b, eps, axis=-2),
        "forgets the gain": lambda x, g, b, eps: _layer_norm(x, 1.0, b, eps),
        "forgets the bias": lambda x, g, b, eps: _layer_norm(x, g, 0.0, eps),
    },
    args=_rows_of(0, 3, 4, 2.0),
    most=24,
)


def _root_of_four(implementation):
    """The row -1, 1 has variance 1; with eps = 3 the root is 2, and the row becomes -1/2, 1/2. A constant row: 0."""
    x = np.array([[-1.0, 1.0], [5.0, 5.0]])
    gain, bias = np.array([2.0, 4.0]), np.array([1.0, 0.0])
    out = implementation(x, gain, bias, 3.0)
    assert np.allclose(out, [[0, 2], [1, 0]], atol=1e-4), f"got {out}"


@question(points=3, answer="test_layer_norm")
class TestLayerNorm(_OfTests):
    """A test that fails on a layer norm whose eps stands outside the root, and passes what is right."""

    read = "model#museum-eps-outside-root"
    exhibit = _NORM

    def reference(self, implementation):
        """An eps so large that one can see where it stands."""
        _root_of_four(implementation)

    mistakes = (
        *_usual(
            _NORM,
            "model#museum-eps-outside-root",
            loose=_rows_of(0, 3, 4, 2.0),
            dull=(np.zeros((3, 4)), np.ones(4), np.zeros(4), 2.0),
            big=_rows_of(0, 8, 8, 2.0),
            says={
                "true": "the row that you expect.",
                "shape": "A norm gives back the shape that it got, wherever eps stands.",
                "finite": "Wherever eps stands, nothing is divided by 0. Compute one row by hand and compare.",
                "loose": "Normalised rows have entries near 1, so an error of 1 is all of them.",
                "bits": "computes the variance as a mean of squares less a square of the mean",
                "copied": "Is it variance + eps under the root, or the root + eps?",
                "refuses": "The variance is the mean of squares, with d below, and eps is added to it before the root.",
                "dull name": "your test hands over a row of zeros",
                "dull": "A constant row has variance 0 and becomes 0, whatever stands below the fraction line. Choose "
                "a row with a spread that you know, such as -1, 1.",
                "small": "Two rows of two numbers are enough: -1, 1 has variance 1.",
            },
        ),
        Mistake(
            "your test leaves eps at 1e-5",
            _near(_layer_norm(*_rows_of(0, 3, 4, 1e-5)), *_rows_of(0, 3, 4, 1e-5)),
            "With eps = 1e-5 both places give the same first four digits, so the test would pass the broken function "
            "or need a tolerance that float32 cannot keep. Make eps large: 1 or 3. A law that holds for all eps must "
            "hold for that one.",
            "model#museum-eps-outside-root",
        ),
        Mistake(
            "your test leaves the gain at 1 and the bias at 0",
            _near(
                _layer_norm(_rows_of(0, 3, 4, 2.0)[0], np.ones(4), np.zeros(4), 2.0),
                *(_rows_of(0, 3, 4, 2.0)[0], np.ones(4), np.zeros(4), 2.0),
            ),
            "A function that forgets them passes. Take a gain and a bias whose entries all differ.",
            "model#museum-eps-outside-root",
        ),
    )


@question(points=2, answer="layer_norm")
class LayerNorm:
    """Layer norm over the last axis, with eps under the root."""

    read = "block#block-norm"
    forbidden = (
        *("torch.nn.functional.layer_norm", "torch.nn.LayerNorm", "torch.layer_norm", "torch.native_layer_norm"),
        "attnkit",
    )
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """eps is large in the ordinary ones, so that one can see it."""
        low = float(rng.integers(-2, 3))
        yield Case((_array([[low - 1, low + 1], [low, low + 4]]), *_affine(rng, 2), 3.0), note="rows of two, eps = 3")
        yield Case((_spread(rng, 3, 4), *_affine(rng, 4), 0.5), note="three rows of four, eps = 0.5")
        yield Case((_spread(rng, 4, 5), *_affine(rng, 5), 1e-5), note="four rows of five, eps = 1e-5")
        yield Case((_spread(rng, 2, 3, 4), *_affine(rng, 4), 1.0), part="edges", note="an array with three axes")
        yield Case((_array([[low] * 3]), *_affine(rng, 3), 1e-5), part="edges", note="a constant row")
        yield Case((_array([[low]]), *_affine(rng, 1), 1e-5), part="edges", note="rows of a single number")
        tiny = _spread(rng, 2, 4) * np.float32(2**-10)
        yield Case((tiny, *_affine(rng, 4), 1e-5), part="edges", note="numbers near 0.001")
        yield Case((_draw(rng, 0, 4), *_affine(rng, 4), 1e-5), part="edges", note="no rows at all")

    def reference(self, x, gain, bias, eps):
        """(x - mean) / sqrt(variance + eps) * gain + bias."""
        return _layer_norm(x, gain, bias, eps)

    invariants = (
        Invariant(
            "an entry is not finite",
            lambda got, x, gain, bias, eps: bool(np.isfinite(got).all()),
            "With eps under the root nothing is divided by 0, not even for a constant row.",
            "block#block-norm",
        ),
        Invariant(
            "rows do not have mean 0 before gain and bias",
            lambda got, x, gain, bias, eps: bool(
                got.size == 0 or np.allclose(((got - bias) / gain).mean(axis=-1), 0, atol=1e-3)
            ),
            "Take the bias off and divide by the gain: what is left of each row must have mean 0.",
            "block#block-norm",
        ),
    )

    mistakes = (
        *_unmended(
            _NORM,
            "eps still stands outside the root",
            "The definition adds eps to the variance and takes the root of the sum: sqrt(variance + eps).",
            {
                "divides the sum of squares by d - 1": "A layer norm estimates nothing: the variance is the mean of "
                "the squares, with d below. np.var does that; torch's var and std need correction=0.",
                "forgets eps": "A constant row then computes 0 / 0. eps is an argument: use it.",
                "normalises columns instead of rows": "Each token is normalised by itself: mean and variance run over "
                "the last axis.",
                "forgets the gain": "After the division each entry is multiplied by the gain of its column.",
                "forgets the bias": "At the end each entry gets the bias of its column.",
            },
            "block#block-norm",
        ),
        Mistake(
            "one mean and one variance are taken over the whole array",
            lambda x, g, b, eps: _layer_norm(x, g, b, eps, axis=None),
            "What a token becomes must not depend on the other tokens: give mean and variance the last axis.",
            "block#block-norm",
        ),
        Mistake(
            "the mean is not subtracted above the fraction line",
            lambda x, g, b, eps: _normed(x, np.sqrt(x.var(axis=-1, keepdims=True) + eps), g, b),
            "Rows keep their mean, divided by something. Subtract it first.",
            "block#block-norm",
        ),
        Mistake(
            "the root is missing",
            lambda x, g, b, eps: _normed(x - x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True) + eps, g, b),
            "Divided by the variance, a row of large numbers comes out small. Take the root of variance + eps.",
            "block#block-norm",
        ),
        Mistake(
            "the bias is added before the gain is multiplied",
            lambda x, g, b, eps: (_layer_norm(x, 1.0, 0.0, eps) + b) * g,
            "The gain stretches the normalised row, and the bias is added last, as it is.",
            "block#block-norm",
        ),
    )


def _affine(rng: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray]:
    """A gain and a bias: halves, none of them 0 or 1."""
    gain = rng.choice([-2.0, -1.5, 0.5, 1.5, 2.0, 3.0], size=d)
    return _array(gain), _array(rng.choice([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], size=d))


def _spread(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Halves; within each row no two are equal, and no two rows have one spread."""
    steps = np.cumsum(rng.integers(1, 5, size=shape), axis=-1) / 2
    return rng.permuted(steps - float(rng.integers(0, 4)), axis=-1).astype(np.float32)


# --- 3. masked_attention ---------------------------------------------------------------------------------------------


def _filled(fill: float) -> Callable[..., Any]:
    def run(query, key, value, mask):
        return _softmax(np.where(mask, _dots(query, key) / sqrt(query.shape[-1]), fill)) @ value

    return run


_blind_average = _filled(-1e9)


def _late(query, key, value, mask):
    return _softmax(_dots(query, key) / sqrt(query.shape[-1])) * mask @ value


def _late_again(query, key, value, mask):
    weights = _softmax(_dots(query, key) / sqrt(query.shape[-1])) * mask
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ value


def _zero_scores(query, key, value, mask):
    weights = _softmax(np.where(mask, _dots(query, key) / sqrt(query.shape[-1]), 0.0))
    return np.where(mask.any(axis=-1, keepdims=True), weights @ value, 0.0)


def _any_hidden_is_zero(query, key, value, mask):
    return np.where(mask.all(axis=-1, keepdims=True), _attend(query, key, value, mask), 0.0)


def _leaky(query, key, value, mask):
    return np.where(mask.any(axis=-1, keepdims=True), _filled(-1e4)(query, key, value, mask), 0.0)


def _masked_in_loops(query, key, value, mask):
    out = np.zeros((len(query), value.shape[-1]))
    for i, row in enumerate(query):
        seen = [j for j in range(len(key)) if mask[i, j]]
        if seen:
            out[i] = _row(row, key[seen], value[seen])
    return out


def _masked_einsum(query, key, value, mask):
    """Hidden scores become -inf; the nan of a row that sees nothing is taken out at the end."""
    scores = np.where(mask, np.einsum("id,jd->ij", query / sqrt(query.shape[-1]), key), -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.nan_to_num(np.einsum("ij,jv->iv", powers, value) / powers.sum(axis=-1)[:, None], nan=0.0)


_FEW = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]], dtype=bool)
_QKV = (_some(3, 3, 2), _some(4, 4, 2), _some(5, 4, 1))

_MASKED = Exhibit(
    names="query key value mask",
    broken=_blind_average,
    right=_attend,
    rights={"written with loops": _masked_in_loops, "that drops nan at the end": _masked_einsum},
    relatives={
        "gives nan to a query that sees nothing": _filled(-np.inf),
        "ignores the mask": lambda q, k, v, mask: _attend(q, k, v),
        "reads the mask upside down": lambda q, k, v, mask: _attend(q, k, v, ~mask),
        "masks the weights after the softmax": _late,
        "gives hidden keys a score of 0": _zero_scores,
        "gives zeros to every query with a hidden key": _any_hidden_is_zero,
    },
    args=(*_QKV, _FEW),
    most=40,
)


def _one_sees_and_one_is_blind(implementation):
    """Query 0 sees key 0 alone and gets its value; query 1 sees nothing and gets 0."""
    query, key = np.ones((2, 1)), np.array([[1.0], [2.0]])
    out = implementation(query, key, np.array([[3.0], [5.0]]), np.array([[True, False], [False, False]]))
    assert np.allclose(out, [[3.0], [0.0]], atol=1e-4), f"got {out}"


def _deaf_to_the_hidden(implementation):
    (query, key, value), other = _QKV, np.where(_FEW.any(axis=0)[:, None], _QKV[2], 50.0)
    blind = [implementation(query, key, one, _FEW)[..., 1, :] for one in (value, 3 * other)]
    few = [implementation(query, key, one, _FEW)[..., [0, 2], :] for one in (value, other)]
    assert np.allclose(*blind, atol=1e-4)
    assert np.allclose(*few, atol=1e-4)


@question(points=3, answer="test_masked_attention")
class TestMaskedAttention(_OfTests):
    """A test that fails on masked attention whose blind rows average what they must not see."""

    read = "museum/masks#museum-masked-row-average"
    exhibit = _MASKED

    def reference(self, implementation):
        """A row that sees one key, and a row that sees none."""
        _one_sees_and_one_is_blind(implementation)

    mistakes = (
        *_usual(
            _MASKED,
            "museum/masks#museum-masked-row-average",
            loose=(*_QKV, _FEW),
            dull=(*_QKV[:2], np.zeros((4, 1)), _FEW),
            big=(_some(3, 3, 4), _some(4, 4, 4), _some(5, 4, 2), _FEW),
            says={
                "true": "what a query gets that sees nothing.",
                "shape": "A mask hides keys; it never changes a shape.",
                "finite": "That was the point of -1e9: no nan, and a wrong number instead. Say which number is right.",
                "loose": "An average of a few values near 0 is less than 1 away from the zeros that you want.",
                "bits": "sums over the visible keys alone",
                "copied": "A query that may attend to nothing gets zeros, whatever the values are.",
                "refuses": "A query that sees one key gets its value; a query that sees none gets 0.",
                "dull name": "your test takes values of zero",
                "dull": "Then every average is 0, also that of a query which must not average. Choose values that are "
                "far from 0.",
                "small": "Two queries and two keys of width 1 are enough.",
            },
        ),
        Mistake(
            "every query of your test sees something",
            _near(_attend(*_QKV, _FEW | np.eye(3, 4, dtype=bool)), *_QKV, _FEW | np.eye(3, 4, dtype=bool)),
            "Under a causal mask each query sees itself, and there -1e9 does what it should. Go to the extreme: a row "
            "of the mask that is False from end to end.",
            "museum/masks#museum-masked-row-average",
        ),
        Mistake(
            "your test has no query that sees a part of the keys",
            _near(_attend(*_QKV, _FEW[[1, 1, 1]]), *_QKV, _FEW[[1, 1, 1]]),
            "A function that gives zeros to everybody would pass. Add a query that sees some keys and not others, and "
            "say what it gets.",
            "verify#verify-graders",
        ),
        Mistake(
            "your test asks only whether hidden values have no influence",
            _deaf_to_the_hidden,
            "A good law, and it finds the broken function. But who hears of nobody, or of the visible ones too "
            "faintly, keeps it. Say as well what the visible keys give.",
            "verify#verify-laws",
        ),
    )


@question(points=2, answer="masked_attention")
class MaskedAttention:
    """Masked attention, in which a query that may attend to nothing gets zeros."""

    read = "idea/masks#masks-empty"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Rows that see all, some, one and nothing."""
        mask = np.array([[True, False, True], [False, False, False]])
        yield Case((*_distinct(rng, 2, 3, 2, 2), mask), note="two queries, the second of which sees nothing")
        mask = np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
        yield Case((*_distinct(rng, 3, 5, 4, 3), mask), note="a row that sees some, a row that sees all, a blind row")
        mask = rng.random((4, 6)) < 0.5
        mask[:, 0], mask[:, 1], mask[2] = True, False, False
        yield Case((*_distinct(rng, 4, 6, 3, 2), mask), note="a random mask with a blind row")
        yield Case((*_distinct(rng, 2, 4, 2, 1), np.zeros((2, 4), bool)), part="edges", note="nobody sees anything")
        yield Case((*_distinct(rng, 2, 1, 2, 2), np.array([[True], [False]])), part="edges", note="a single key")
        yield Case((*_distinct(rng, 0, 3, 2, 2), np.zeros((0, 3), bool)), part="edges", note="no queries at all")
        yield Case(_far_below(rng), part="edges", note="a visible score far below all that is hidden")

    def reference(self, query, key, value, mask):
        """Hidden keys weigh exactly 0; the visible ones share 1; a row that sees nothing gets 0."""
        return _attend(query, key, value, mask)

    invariants = (
        Invariant(
            "a query that sees nothing does not get zeros",
            lambda got, q, k, v, mask: bool((got[~mask.any(axis=-1)] == 0).all()),
            "mask.any over the last axis tells which rows see something; the others get 0.",
            "idea/masks#masks-empty",
        ),
        Invariant(
            "an output is not finite",
            lambda got, q, k, v, mask: bool(np.isfinite(got).all()),
            "A row of -inf has the maximum -inf, and -inf - (-inf) is nan.",
            "idea/masks#masks-empty",
        ),
    )

    mistakes = (
        *_unmended(
            _MASKED,
            "a query that sees nothing still averages all values",
            "If all scores of a row are the same -1e9, their softmax is uniform. Ask mask.any over the last axis, keep "
            "that axis, and put 0 where it is False.",
            {
                "gives nan to a query that sees nothing": "A row of -inf from end to end makes 0 / 0. Keep such a row "
                "away from the softmax, or put zeros in its place afterwards with np.where.",
                "ignores the mask": "A hidden key must get a weight of exactly 0.",
                "reads the mask upside down": "True means: this query may attend to this key.",
                "masks the weights after the softmax": "The hidden keys have had their share of the sum by then, and "
                "the visible ones sum to less than 1. Mask the scores.",
                "gives hidden keys a score of 0": "exp(0) is 1, not 0. A hidden score becomes -inf.",
                "gives zeros to every query with a hidden key": "Only a query with no visible key gets zeros: "
                "mask.any, and not mask.all.",
            },
            "idea/masks#masks-empty",
        ),
        Mistake(
            "the weights are masked after the softmax and normalised again",
            _late_again,
            "On paper that is right. If a hidden score is far above the visible ones, their weights are 0 by then, and "
            "nothing is left to normalise. Mask the scores before the softmax.",
            "museum/masks#museum-mask-after-softmax",
        ),
        Mistake(
            "-10000 stands for minus infinity",
            _leaky,
            "A visible score may lie below that, and then the hidden keys get the weight. Use -inf.",
            "museum/masks#museum-finite-sentinel",
        ),
    )


def _distinct(rng: np.random.Generator, q_len: int, k_len: int, d: int, d_v: int) -> tuple[np.ndarray, ...]:
    """Scores that all differ and values without a zero, so that every key can be told from every other."""
    query = _array(rng.choice([0.5, 1.0, 1.5, 2.0], size=(q_len, d)))
    key = np.tile(_array(rng.permutation(k_len) + 1)[:, None] / 2, (1, d))
    value = _array(rng.permuted(np.tile(np.arange(2, 2 * k_len + 2, 2)[:, None], (1, d_v)), axis=0)) + _array(0.5)
    return query, key, value


def _far_below(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """One key with a score of -20000, visible; two near 0, hidden."""
    low, near = -20_000.0, float(rng.integers(1, 4))
    return _array([[1.0]]), _array([[low], [near], [0]]), _array([[4], [-2], [-8]]), np.array([[True, False, False]])


# --- 4. next_token_loss ----------------------------------------------------------------------------------------------


def _picked(logits, tokens):
    """-log p of each token, by the logits at its place."""
    return -np.take_along_axis(_log_softmax(logits), tokens[..., None].astype(np.int64), -1)[..., 0]


def _mean_where(losses, real):
    return np.where(real, losses, 0.0).sum() / real.sum()


def _predicts(lengths, places: int):
    """Place t predicts token t + 1, which must be a real one."""
    return np.arange(1, places + 1) < np.asarray(lengths)[:, None]


def _loss(logits, tokens, lengths):
    losses = _picked(logits[:, :-1], tokens[:, 1:])
    return _mean_where(losses, _predicts(lengths, losses.shape[1]))


def _no_shift(logits, tokens, lengths):
    losses = _picked(logits, tokens)
    return _mean_where(losses, np.arange(tokens.shape[1]) < np.asarray(lengths)[:, None])


def _wrong_way(logits, tokens, lengths):
    losses = _picked(logits[:, 1:], tokens[:, :-1])
    return _mean_where(losses, _predicts(lengths, losses.shape[1]))


def _with_padding(logits, tokens, lengths):
    return _picked(logits[:, :-1], tokens[:, 1:]).mean()


def _one_too_many(logits, tokens, lengths):
    losses = _picked(logits[:, :-1], tokens[:, 1:])
    return _mean_where(losses, np.arange(losses.shape[1]) < np.asarray(lengths)[:, None])


def _over_all(logits, tokens, lengths):
    losses = _picked(logits[:, :-1], tokens[:, 1:])
    return np.where(_predicts(lengths, losses.shape[1]), losses, 0.0).mean()


def _mean_of_means(logits, tokens, lengths):
    losses = _picked(logits[:, :-1], tokens[:, 1:])
    real = _predicts(lengths, losses.shape[1])
    return (np.where(real, losses, 0.0).sum(axis=-1) / real.sum(axis=-1)).mean()


def _summed(logits, tokens, lengths):
    losses = _picked(logits[:, :-1], tokens[:, 1:])
    return np.where(_predicts(lengths, losses.shape[1]), losses, 0.0).sum()


def _mean_probability(logits, tokens, lengths):
    chances = np.exp(-_picked(logits[:, :-1], tokens[:, 1:]))
    return -np.log(_mean_where(chances, _predicts(lengths, chances.shape[1])))


def _loss_in_loops(logits, tokens, lengths):
    losses = []
    for sentence, words, length in zip(logits, tokens, lengths, strict=True):
        for t in range(int(length) - 1):
            row = [float(one) for one in sentence[t]]
            total = log(fsum(exp(one - max(row)) for one in row)) + max(row)
            losses.append(total - row[int(words[t + 1])])
    return np.float64(sum(reversed(losses)) / len(losses))


def _loss_one_hot(logits, tokens, lengths):
    chances = _softmax(logits[:, :-1])
    wanted = np.eye(logits.shape[-1])[tokens[:, 1:].astype(np.int64)]
    real = _predicts(lengths, chances.shape[1])
    return -np.log((chances * wanted).sum(axis=-1)[real]).mean()


def _text(seed: int, lengths: tuple[int, ...], places: int, words: int, strength: float = 1.0) -> tuple[Any, ...]:
    tokens = np.random.default_rng(seed).integers(0, words, (len(lengths), places))
    return strength * _some(seed, len(lengths), places, words), tokens, np.array(lengths)


_LOSS = Exhibit(
    names="logits tokens lengths",
    broken=_no_shift,
    right=_loss,
    rights={"written with loops": _loss_in_loops, "that picks by a product with 0 and 1": _loss_one_hot},
    relatives={
        "shifts the wrong way": _wrong_way,
        "averages over padding, too": _with_padding,
        "takes in one prediction of padding a sentence": _one_too_many,
        "averages the means of the sentences": _mean_of_means,
        "returns the sum": _summed,
    },
    args=_text(0, (4, 2), 5, 3),
    most=60,
    scalar=True,
)


def _five_thirds(implementation):
    """Three predictions, made with 1/2, 1/2 and 1/8: the mean of ln 2, ln 2 and 3 ln 2. The rest is unlikely."""
    chance = np.array([[1 / 2, 1 / 2, 1 / 16, 1 / 16], [1 / 8, 1 / 32, 1 / 16, 1 / 32]])  # of token 1
    tokens = np.array([[0, 1, 1, 1], [0, 1, 1, 1]])
    logits = np.log(np.stack([1 - chance, chance], axis=-1))  # (2 sentences, 4 places, 2 words)
    loss = float(implementation(logits, tokens, np.array([3, 2])))
    assert abs(loss - 5 / 3 * log(2)) < 1e-4, f"the loss is {loss}"


def _all_foreseen(implementation):
    tokens = np.array([[0, 1, 2, 0], [2, 1, 0, 0]])
    sure = 30.0 * np.eye(3)[np.roll(tokens, -1, axis=1)]
    assert abs(float(implementation(sure, tokens, np.array([4, 3])))) < 1e-3


@question(points=3, answer="test_next_token_loss")
class TestNextTokenLoss(_OfTests):
    """A test that fails on a loss without the shift, and passes what is right."""

    read = "whole#whole-shift"
    exhibit = _LOSS

    def reference(self, implementation):
        """Probabilities that are powers of 1/2."""
        _five_thirds(implementation)

    mistakes = (
        *_usual(
            _LOSS,
            "whole#whole-shift",
            loose=_text(0, (4, 2), 5, 3, 6.0),
            dull=(np.zeros((2, 5, 3)), *_text(0, (4, 2), 5, 3)[1:]),
            big=_text(0, (4, 2), 5, 7),
            says={
                "true": "the loss of predictions whose probabilities you chose.",
                "finite": "Any tokens have some finite loss. Choose probabilities and compute the mean by hand.",
                "loose": "A loss is a few times ln 2; an error of 1 is most of it.",
                "bits": "sums the tokens in another order, or takes the softmax first and the logarithm later,",
                "copied": "Which token does place t predict: the one that stands there, or the next one?",
                "refuses": "A prediction with probability p costs -ln p, and the loss is their mean over the batch.",
                "dull name": "all logits of your test are equal",
                "dull": "Then every token costs ln V, whichever one you compare with: it is what an untrained model "
                "should give, and says nothing about the shift. Let different tokens have different probabilities.",
                "small": "Two words, two sentences and four places are enough.",
            },
        ),
        Mistake(
            "no sentence of your test has padding",
            _near(_loss(*_text(1, (4, 4), 4, 3)), *_text(1, (4, 4), 4, 3)),
            "A loss that counts padding passes. Let no two lengths be equal: one sentence shorter than the other, and "
            "both shorter than the batch.",
            "whole#whole-masks",
        ),
        Mistake(
            "your test takes one sentence only",
            _near(_loss(*_text(2, (3,), 5, 3)), *_text(2, (3,), 5, 3)),
            "With one sentence the mean of the means is the mean. Take two sentences of different length, with "
            "different losses.",
            "use#museum-mean-of-means",
        ),
        Mistake(
            "the right loss of your test is 0",
            _all_foreseen,
            "Who foresees everything costs 0, and that finds the broken loss. But 0 is 0 whether you sum or average, "
            "and over whatever. Let the predictions be right with probabilities such as 1/2 and 1/8.",
            "verify#verify-hand",
        ),
    )


@question(points=2, answer="next_token_loss")
class NextTokenLoss:
    """The mean cross-entropy of the next token, over all real predictions of a batch."""

    read = "whole#whole-shift"
    forbidden = ("attnkit",)
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Sentences of different length, with padding behind each."""
        yield Case(_sentences(rng, (3, 2), 4, 2), note="two sentences of three and two tokens")
        yield Case(_sentences(rng, (2, 5, 3), 6, 4), note="three sentences")
        yield Case(_sentences(rng, (4, 4), 4, 3), part="edges", note="a batch without padding")
        yield Case(_sentences(rng, (2,), 5, 3), part="edges", note="a single prediction")
        logits, *rest = _sentences(rng, (3, 2), 4, 3)
        yield Case((logits * np.float32(400), *rest), part="edges", note="logits from -1200 to 1200")

    def reference(self, logits, tokens, lengths):
        """-log p of token t + 1 by the logits at t; the mean over those that are real."""
        return _loss(logits, tokens, lengths)

    invariants = (
        Invariant(
            "the loss is negative",
            lambda got, logits, tokens, lengths: bool(got >= 0),
            "-log p is 0 or more for every probability.",
            "training#training-loss",
        ),
        Invariant(
            "the loss is larger than any prediction could cost",
            lambda got, logits, tokens, lengths: bool(got <= _picked_most(logits) + 1e-3),
            "A mean lies between the smallest and the largest of what is averaged.",
            "training#training-loss",
        ),
    )

    mistakes = (
        *_unmended(
            _LOSS,
            "the logits at t are still compared with token t",
            "That token is the input, and a model may simply copy it. The logits at t predict token t + 1: compare "
            "logits[:, :-1] with tokens[:, 1:].",
            {
                "shifts the wrong way": "logits[:, 1:] against tokens[:, :-1] asks for the token before. Drop the last "
                "place of the logits and the first of the tokens.",
                "averages over padding, too": "Places from lengths on are padding, and predicting them is no merit. "
                "Count only those with t + 1 < length.",
                "takes in one prediction of padding a sentence": "The last real token predicts padding. A sentence of "
                "n tokens has n - 1 predictions.",
                "averages the means of the sentences": "A short sentence then counts as much as a long one. Sum over "
                "all real predictions of the batch and divide by how many there are.",
                "returns the sum": "Divide by the number of real predictions.",
            },
            "whole#whole-shift",
        ),
        Mistake(
            "the sum is divided by all places, padding included",
            _over_all,
            "The more padding, the lower the loss. Divide by the number of real predictions.",
            "use#museum-mean-of-means",
        ),
        Mistake(
            "the logarithm is taken of the mean probability",
            _mean_probability,
            "The loss is the mean of the logarithms: the logarithm first, then the mean.",
            "training#training-loss",
        ),
        Mistake(
            "the logits are taken for log-probabilities",
            lambda logits, tokens, lengths: _mean_where(
                -np.take_along_axis(logits[:, :-1], tokens[:, 1:, None], -1)[..., 0],
                _predicts(lengths, tokens.shape[1] - 1),
            ),
            "Subtract the logarithm of the sum of their exponentials from the logits of each place first.",
            "training#training-loss",
        ),
    )


def _picked_most(logits: np.ndarray) -> float:
    return float(-_log_softmax(logits).min())


def _sentences(rng: np.random.Generator, lengths: tuple[int, ...], places: int, words: int) -> tuple[np.ndarray, ...]:
    """Logits that rise from token to token, so that no two of a place are equal and padding is expensive."""
    logits = _array(rng.permuted(np.tile(np.arange(words) * 1.5 - 1, (len(lengths), places, 1)), axis=-1))
    logits += _array(rng.integers(0, 3, (len(lengths), places, 1)) / 2)
    tokens = rng.integers(0, words, (len(lengths), places))
    return logits, tokens, np.array(lengths)


# --- 5. top_p --------------------------------------------------------------------------------------------------------


def _keeping(kept: Callable[[np.ndarray, float], np.ndarray], renormalise: bool = True) -> Callable[..., Any]:
    """Keep those of the sorted probabilities that `kept(sorted, p)` says, the first always."""

    def run(probabilities, p):
        order = np.argsort(-probabilities, kind="stable")
        ranked = probabilities[order]
        keep = kept(ranked, p)
        keep[:1] = True
        out = np.zeros_like(probabilities)
        out[order[keep]] = ranked[keep]
        return out / out.sum() if renormalise else out

    return run


def _reached(ranked: np.ndarray, p: float) -> np.ndarray:
    """True where what stands before has not reached p yet: the token that crosses p is kept."""
    return np.cumsum(ranked) - ranked < p


_top_p = _keeping(_reached)
_without_crossing = _keeping(lambda ranked, p: np.cumsum(ranked) <= p)


def _one_more(ranked, p):
    keep = _reached(ranked, p)
    keep[: keep.sum() + 1] = True
    return keep


def _from_below(probabilities, p):
    order = np.argsort(probabilities, kind="stable")
    out = np.zeros_like(probabilities)
    keep = order[_reached(probabilities[order], p)]
    out[keep] = probabilities[keep]
    return out / out.sum()


def _left_sorted(probabilities, p):
    return -np.sort(-_top_p(probabilities, p))


def _unsorted(probabilities, p):
    out = np.where(_reached(probabilities, p), probabilities, 0.0)
    return out / out.sum()


def _softmax_of_kept(probabilities, p):
    kept = _top_p(probabilities, p) > 0
    return _softmax(np.where(kept, probabilities, -np.inf))


def _top_p_in_loops(probabilities, p):
    left, total, kept = {i: float(one) for i, one in enumerate(probabilities)}, 0.0, []
    while not kept or (total < p and left):
        best = max(left, key=lambda i: left[i])
        total += left[best]
        kept.append((best, left.pop(best)))
    out = np.zeros(len(probabilities))
    for i, one in kept:
        out[i] = one / fsum(value for _, value in kept)
    return out


def _top_p_by_rank(probabilities, p):
    """For each token what is more probable than it; ties are cut by place."""
    places = np.arange(len(probabilities))
    above = (probabilities > probabilities[:, None]) | (
        (probabilities == probabilities[:, None]) & (places < places[:, None])
    )
    out = probabilities * ((above @ probabilities < p) | ~above.any(axis=-1))
    return np.exp(np.log(np.where(out > 0, out, 1)) - np.log(out.sum())) * (out > 0)


_SHARES = np.array([0.07, 0.4, 0.03, 0.3, 0.2])

_TOP_P = Exhibit(
    names="probabilities p",
    broken=_without_crossing,
    right=_top_p,
    rights={"written with loops": _top_p_in_loops, "that never sorts": _top_p_by_rank},
    relatives={
        "keeps one token more than it need": _keeping(_one_more),
        "does not renormalise": _keeping(_reached, renormalise=False),
        "returns the kept ones in order of size": _left_sorted,
        "starts with the least probable": _from_below,
        "keeps the best token only": _keeping(lambda ranked, p: np.arange(len(ranked)) < 1),
        "keeps all": lambda probabilities, p: probabilities.copy(),
    },
    args=(_SHARES, 0.6),
    most=10,
)


def _two_thirds_and_one(implementation):
    """1/2 and 1/4 reach 0.7; 1/2 alone does not. What is kept sums to 3/4, so the shares are 2/3 and 1/3."""
    out = implementation(np.array([0.25, 0.05, 0.5, 0.2]), 0.7)
    assert np.allclose(out, [1 / 3, 0, 2 / 3, 0], atol=1e-4), f"got {out}"


@question(points=3, answer="test_top_p")
class TestTopP(_OfTests):
    """A test that fails on a top-p that drops the token crossing p, and passes what is right."""

    read = "decoding#decoding-filters"
    exhibit = _TOP_P

    def reference(self, implementation):
        """Four tokens, of which two reach p."""
        _two_thirds_and_one(implementation)

    mistakes = (
        *_usual(
            _TOP_P,
            "decoding#decoding-filters",
            loose=(_SHARES, 0.6),
            dull=(np.array([0.0, 1.0, 0.0]), 0.6),
            big=(np.arange(1, 31) / 465, 0.6),
            says={
                "true": "which tokens are left, and with which shares.",
                "shape": "A filter gives back as many probabilities as it got.",
                "finite": "Write down which tokens must be left for four probabilities of your choice.",
                "loose": "No two probabilities are more than 1 apart, so nothing can fail.",
                "bits": "divides by a sum that was made in another order",
                "copied": "Is the token kept that carries the sum over p?",
                "refuses": "Keep the fewest of the most probable tokens that sum to p or more; divide by their sum.",
                "dull name": "one token of your test has all the probability",
                "dull": "Then it is kept by every rule and nothing else is there to keep. Take a few tokens of "
                "different probability, and a p that needs two of them.",
                "small": "Four probabilities and p are enough.",
            },
        ),
        Mistake(
            "your test asks only whether the result sums to 1",
            lambda f: _near(1.0, tolerance=1e-4)(lambda: np.sum(f(_SHARES, 0.6))),
            "Any renormalised choice of tokens sums to 1. Say which tokens must be left, and how much each has.",
            "verify#verify-laws",
        ),
        Mistake(
            "your test takes p = 1",
            _near(_SHARES, _SHARES, 1.0),
            "At p = 1 all tokens are needed and none crosses p: it is the one case in which a filter does nothing. "
            "Choose a p between two partial sums.",
            "verify#verify-hand",
        ),
        Mistake(
            "your test asks only how many tokens are left",
            lambda f: _near(2.0)(lambda: np.sum(np.asarray(f(_SHARES, 0.6)) > 0, dtype=float)),
            "Which ones, and with which shares? Compare all probabilities.",
            "verify#verify-hand",
        ),
    )


@question(points=2, answer="top_p")
class TopP:
    """The fewest most probable tokens whose probabilities reach p, renormalised."""

    read = "decoding#decoding-filters"
    forbidden = ("attnkit",)
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """p lies between two partial sums, never on one: there rounding would decide."""
        for shares, p, note in (
            ([0.5, 0.3, 0.2], 0.6, "three tokens, two of which are needed"),
            ([0.4, 0.3, 0.2, 0.07, 0.03], 0.8, "five tokens, three of which are needed"),
            ([0.35, 0.25, 0.2, 0.12, 0.05, 0.03], 0.75, "six tokens, p = 0.75"),
        ):
            # The most probable stand neither first nor last, or an order of one's own would do no harm.
            yield Case((_mixed(rng, shares), p), note=note)
        yield Case((_mixed(rng, [0.5, 0.3, 0.2]), 0.05), part="edges", note="a p that the best token alone exceeds")
        yield Case((_mixed(rng, [0.4, 0.3, 0.2, 0.1]), 0.95), part="edges", note="a p that needs all tokens")
        yield Case((_array([1.0]), 0.5), part="edges", note="a single token")
        yield Case((_mixed(rng, [0.6, 0.4, 0.0]), 0.9), part="edges", note="a token of probability 0")

    def reference(self, probabilities, p):
        """Keep a token while those before it, from the most probable on, sum to less than p."""
        return _top_p(probabilities, p)

    invariants = (
        Invariant(
            "what is left does not sum to 1",
            lambda got, probabilities, p: bool(abs(got.sum() - 1) < 1e-3),
            "Divide by the sum of what is kept.",
            "decoding#decoding-filters",
        ),
        Invariant(
            "the most probable token is not the most probable any more",
            lambda got, probabilities, p: bool(got.argmax() == probabilities.argmax()),
            "A filter only drops the improbable ones. The rest keep their order and their places.",
            "decoding#decoding-filters",
        ),
    )

    mistakes = (
        *_unmended(
            _TOP_P,
            "the token that crosses p is still dropped",
            "What is kept must sum to p or more. A token is needed as long as those *before* it sum to less than p: "
            "np.cumsum(ranked) - ranked < p.",
            {
                "keeps one token more than it need": "Once p is reached, the next token is not needed: compare what "
                "stands before it with p.",
                "does not renormalise": "What is left must sum to 1: divide by its sum.",
                "returns the kept ones in order of size": "Token i must stay at place i. The order of the sort is only "
                "for finding out who is kept.",
                "starts with the least probable": "Sort from the most probable down: np.argsort(-probabilities).",
                "keeps the best token only": "That is greedy decoding. Keep as many as it takes to reach p.",
                "keeps all": "The result of the choice is thrown away: the others must get 0.",
            },
            "decoding#decoding-filters",
        ),
        Mistake(
            "the tokens are taken in the order of the vocabulary",
            _unsorted,
            "The most probable come first: sort, take the cumulative sum, and carry the choice back to its places.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "what is left goes through a softmax",
            _softmax_of_kept,
            "These are probabilities already. Divide by their sum, and their ratios stay as they were.",
            "decoding#decoding-filters",
        ),
    )


def _mixed(rng: np.random.Generator, shares: list[float]) -> np.ndarray:
    """The shares in some order, neither falling nor rising."""
    middle = [*rng.permutation(shares[1:-1]), shares[0]] if len(shares) > 3 else [shares[0]]
    ends = [shares[-1], *shares[1:2]] if len(shares) == 3 else [shares[-1]]
    return _array([ends[0], *middle, *ends[1:]])


# --- 6. multi_head ---------------------------------------------------------------------------------------------------


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    """(length, d_model) to (heads, length, d_head): each head gets a slice of the features."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2) if x.size else x.reshape(heads, 0, x.shape[-1] // heads)


def _cut(x: np.ndarray, heads: int) -> np.ndarray:
    """The same shape with the numbers as they lie: tokens and features are mixed up."""
    return x.reshape(heads, len(x), -1) if x.size else _split(x, heads)


def _merge(x: np.ndarray) -> np.ndarray:
    heads, length, d_head = x.shape
    return x.transpose(1, 0, 2).reshape(length, heads * d_head)


def _pile(x: np.ndarray) -> np.ndarray:
    heads, length, d_head = x.shape
    return x.reshape(length, heads * d_head)


def _heads_by(split: Callable = _split, merge: Callable = _merge) -> Callable[..., Any]:
    def run(query, key, value, heads):
        return merge(_attend(split(query, heads), split(key, heads), split(value, heads)))

    return run


_multi_head = _heads_by()


def _interleaved(query, key, value, heads):
    """Head h gets the features h, h + heads, h + 2 heads, ..."""
    parts = (np.moveaxis(x.reshape(len(x), x.shape[-1] // heads, heads), -1, 0) for x in (query, key, value))
    return np.moveaxis(_attend(*parts), 0, -1).reshape(len(query), -1)


def _one_for_all(query, key, value, heads):
    scores = _dots(_split(query, heads), _split(key, heads)) / sqrt(query.shape[-1] // heads)
    return _merge(_softmax(scores)[:1] @ _split(value, heads))


def _mean_of_heads(query, key, value, heads):
    scores = _dots(_split(query, heads), _split(key, heads)) / sqrt(query.shape[-1] // heads)
    return _merge(np.broadcast_to(_softmax(scores).mean(axis=0), scores.shape) @ _split(value, heads))


def _added_up(query, key, value, heads):
    """The sum of the heads in the place of each."""
    parts = _attend(_split(query, heads), _split(key, heads), _split(value, heads))
    return np.tile(parts.sum(axis=0), (1, heads))


def _model_scaled(query, key, value, heads):
    scores = _dots(_split(query, heads), _split(key, heads)) / sqrt(query.shape[-1])
    return _merge(_softmax(scores) @ _split(value, heads))


def _heads_one_by_one(query, key, value, heads):
    parts = zip(*(np.split(x, heads, axis=-1) for x in (query, key, value)), strict=True)
    return np.concatenate([np.array([_row(one, k, v) for one in q]) for q, k, v in parts], axis=-1)


def _heads_by_einsum(query, key, value, heads):
    q, k, v = (x.reshape(len(x), heads, -1) for x in (query, key, value))
    scores = np.einsum("ihd,jhd->ijh", q, k) / sqrt(q.shape[-1])
    powers = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
    return (np.einsum("ijh,jhd->ihd", powers, v) / powers.sum(axis=1)[..., None]).reshape(query.shape)


def _model(seed: int, q_len: int, k_len: int, d_model: int) -> tuple[np.ndarray, ...]:
    return 2 * _some(seed, q_len, d_model), _some(seed + 1, k_len, d_model), _some(seed + 2, k_len, d_model)


_MANY = Exhibit(
    names="query key value heads",
    broken=_heads_by(_cut, _pile),
    right=_multi_head,
    rights={"with one head at a time": _heads_one_by_one, "written with einsum": _heads_by_einsum},
    relatives={
        "splits well and merges by a bare reshape": _heads_by(_split, _pile),
        "splits by a bare reshape and merges well": _heads_by(_cut, _merge),
        "gives head h the features h, h + heads, ...": _interleaved,
        "uses the weights of the first head for all": _one_for_all,
        "averages the weights over the heads": _mean_of_heads,
        "adds the heads up": _added_up,
        "is one wide head": lambda q, k, v, heads: _attend(q, k, v),
    },
    args=(*_model(0, 2, 3, 4), 2),
    most=60,
)


def _side_by_side(implementation):
    """The two halves of the output are what two heads give that know nothing of each other."""
    query, key, value = _model(7, 2, 3, 4)
    halves = [_attend(query[:, half], key[:, half], value[:, half]) for half in (slice(0, 2), slice(2, 4))]
    out = implementation(query, key, value, 2)
    assert np.allclose(out, np.concatenate(halves, axis=-1), atol=1e-4), f"got {out}"


@question(points=3, answer="test_multi_head")
class TestMultiHead(_OfTests):
    """A test that fails on heads that are split by a reshape alone, and passes what is right."""

    read = "heads#museum-reshape-without-transpose"
    exhibit = _MANY

    def reference(self, implementation):
        """Two heads together are two heads apart."""
        _side_by_side(implementation)

    mistakes = (
        *_usual(
            _MANY,
            "heads#museum-reshape-without-transpose",
            loose=(*_model(0, 2, 3, 4), 2),
            dull=(*_model(0, 2, 3, 4)[:2], np.ones((3, 4)), 2),
            big=(*_model(0, 5, 7, 6), 3),
            says={
                "true": "the output of each head, alone.",
                "shape": "A reshape always gives the shape that you ask for.",
                "finite": "Mixed-up tokens have finite averages. Compare each head with a lone head.",
                "loose": "Averages of values of size 1 are seldom farther apart than that.",
                "bits": "goes through the heads in a loop",
                "copied": "Head h owns the features from h d_head to (h + 1) d_head, at every position.",
                "refuses": "The output of head h is attention over its own slices, and the slices stand side by side.",
                "dull name": "your test takes values that are all 1",
                "dull": "Averages of ones are ones, whoever is averaged. Let every value differ from every other.",
                "small": "Two heads of width 2, two queries and three keys are enough.",
            },
        ),
        Mistake(
            "your test uses one head only",
            _near(_multi_head(*_model(0, 2, 3, 4), 1), *_model(0, 2, 3, 4), 1),
            "With one head there is nothing to split: a reshape and a transpose do the same. Take two heads or three.",
            "verify#verify-graders",
        ),
        Mistake(
            "your test has a single query",
            _near(_multi_head(*_model(0, 1, 3, 4), 2), *_model(0, 1, 3, 4), 2),
            "The heads of one query lie side by side already, so a merge by a bare reshape is right for it. Take two "
            "queries or more.",
            "heads#museum-merge-without-permute",
        ),
    )


@question(points=2, answer="multi_head")
class MultiHead:
    """Attention in several heads, each over its own slice of the features."""

    read = "many-heads#heads-reshape"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Heads, lengths and widths all differ."""
        yield Case((*_wide(rng, 2, 3, 4), 2), note="two heads of width 2, two queries, three keys")
        yield Case((*_wide(rng, 4, 5, 6), 3), note="three heads of width 2")
        yield Case((*_wide(rng, 3, 4, 6), 2), note="two heads of width 3")
        yield Case((*_wide(rng, 3, 4, 4), 1), part="edges", note="a single head")
        yield Case((*_wide(rng, 2, 3, 3), 3), part="edges", note="three heads of width 1")
        yield Case((*_wide(rng, 1, 4, 4), 2), part="edges", note="a single query")
        yield Case((*_wide(rng, 3, 1, 4), 2), part="edges", note="a single key")

    def reference(self, query, key, value, heads):
        """Split, attend, merge."""
        return _multi_head(query, key, value, heads)

    invariants = (
        Invariant(
            "an output lies outside the values of its column",
            lambda got, q, k, v, heads: bool(((got >= v.min(0) - 1e-3) & (got <= v.max(0) + 1e-3)).all()),
            "Column c of the output is an average of column c of the values: no number may change its column.",
            "many-heads#heads-reshape",
        ),
        Invariant(
            "an output is not finite",
            lambda got, q, k, v, heads: bool(np.isfinite(got).all()),
            "Every output should be finite: use the softmax that the notebook gives you.",
            "softmax#softmax-max-shift",
        ),
    )

    mistakes = (
        *_unmended(
            _MANY,
            "heads are still split and merged by a reshape alone",
            "A reshape never moves a number. Split into (length, heads, d_head) first, then swap the first two axes; "
            "on the way out swap them back, then reshape.",
            {
                "splits well and merges by a bare reshape": "On the way out the axes are (heads, length, d_head): swap "
                "the first two before you reshape to (length, d_model).",
                "splits by a bare reshape and merges well": "On the way in, reshape to (length, heads, d_head) and "
                "then swap the first two axes.",
                "gives head h the features h, h + heads, ...": "Head h owns a slice of d_head neighbours: reshape to "
                "(length, heads, d_head) and not to (length, d_head, heads).",
                "uses the weights of the first head for all": "Each head has its own weights: keep the axis of heads.",
                "averages the weights over the heads": "What makes several heads worth having is that their weights "
                "differ. Do not average them.",
                "adds the heads up": "The heads stand side by side: each fills its own d_head columns of the output.",
                "is one wide head": "The argument `heads` must matter: each head scores with its own features only.",
            },
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the scale is the root of the model's width",
            _model_scaled,
            "Within a head a score is a sum of d_head products: take the width after the split.",
            "scores#museum-root-of-model",
        ),
        Mistake(
            "the heads come out in reverse order",
            lambda q, k, v, heads: _merge(_attend(*(_split(x, heads) for x in (q, k, v)))[::-1]),
            "Head 0 stands in the first columns of the output.",
            "many-heads#heads-reshape",
        ),
    )


def _wide(rng: np.random.Generator, q_len: int, k_len: int, d_model: int) -> tuple[np.ndarray, ...]:
    """Query and key of halves; values that all differ, with columns in ranges of their own."""
    query, key = _draw(rng, q_len, d_model), _draw(rng, k_len, d_model)
    key[:, 0], key[:, -1] = np.arange(k_len), -np.arange(k_len) / 2  # heads that disagree
    query[:, 0] = query[:, -1] = rng.choice([1.0, 1.5, 2.0], size=q_len)
    value = rng.permuted(np.tile(np.arange(k_len)[:, None], (1, d_model)), axis=0) + 10 * np.arange(d_model)
    return query, key, value.astype(np.float32)


# --- 7. causal_attention ---------------------------------------------------------------------------------------------


def _seen_by(visible: Callable[[int, int], np.ndarray]) -> Callable[..., Any]:
    """Attention under the mask `visible(q_len, k_len)`."""
    return lambda query, key, value: _attend(query, key, value, visible(len(query), len(key)))


def _triangle(shift: Callable[[int, int], int]) -> Callable[..., Any]:
    return _seen_by(lambda q_len, k_len: np.tri(q_len, k_len, shift(q_len, k_len), dtype=bool))


_causal = _triangle(lambda q_len, k_len: k_len - q_len)
_upper_left = _triangle(lambda q_len, k_len: 0)


def _causal_in_loops(query, key, value):
    cached = len(key) - len(query)
    rows = [_row(one, key[: cached + i + 1], value[: cached + i + 1]) for i, one in enumerate(query)]
    return np.array(rows).reshape(len(query), value.shape[-1])


def _causal_padded(query, key, value):
    """The queries of the cached tokens are put back in front, all of them equal, and their rows are dropped."""
    scores = np.einsum("id,jd->ij", np.concatenate([np.zeros_like(key[: len(key) - len(query)]), query]), key)
    scores = np.where(np.tri(len(key), dtype=bool), scores / sqrt(query.shape[-1]), -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))[len(key) - len(query) :]
    return powers @ value / powers.sum(axis=-1, keepdims=True)


def _new_only(q_len, k_len):
    """Of the keys only those of the new tokens."""
    return np.tri(q_len, k_len, k_len - q_len, dtype=bool) & (np.arange(k_len) >= k_len - q_len)


def _causal_late(query, key, value):
    visible = np.tri(len(query), len(key), len(key) - len(query), dtype=bool)
    return _softmax(_dots(query, key) / sqrt(query.shape[-1])) * visible @ value


_CAUSAL = Exhibit(
    names="query key value",
    broken=_upper_left,
    right=_causal,
    rights={"written with loops": _causal_in_loops, "that puts the cached queries back": _causal_padded},
    relatives={
        "has no mask at all": lambda q, k, v: _attend(q, k, v),
        "sees one token of the future": _triangle(lambda q_len, k_len: k_len - q_len + 1),
        "does not see the token itself": _triangle(lambda q_len, k_len: k_len - q_len - 1),
        "forgets the cached keys": _seen_by(_new_only),
        "masks the weights after the softmax": _causal_late,
    },
    args=_model(20, 2, 4, 2),
    most=24,
)


def _plain_means(implementation):
    """Queries of 0 average what they see: the first of two sees two keys of three, the second all."""
    out = implementation(np.zeros((2, 1)), np.ones((3, 1)), np.array([[4.0], [2.0], [0.0]]))
    assert np.allclose(out, [[3.0], [2.0]], atol=1e-4), f"got {out}"


def _last_alone(implementation):
    query, key, value = _model(20, 4, 4, 2)
    alone = implementation(query[-1:], key, value)
    assert np.allclose(alone, np.asarray(implementation(query, key, value))[..., -1:, :], atol=1e-4)


@question(points=3, answer="test_causal_attention")
class TestCausalAttention(_OfTests):
    """A test that fails on causal attention whose triangle is in the wrong corner, and passes what is right."""

    read = "museum/masks#museum-causal-alignment"
    exhibit = _CAUSAL

    def reference(self, implementation):
        """Queries of 0 make plain means of what is visible."""
        _plain_means(implementation)

    mistakes = (
        *_usual(
            _CAUSAL,
            "museum/masks#museum-causal-alignment",
            loose=_model(20, 2, 4, 2),
            dull=(*_model(20, 2, 4, 2)[:2], np.zeros((4, 2))),
            big=_model(20, 3, 7, 4),
            says={
                "true": "which keys each query averages.",
                "shape": "Wherever the triangle stands, the output has a row for each query.",
                "finite": "Every query sees something in either corner. Say what it must see.",
                "loose": "Two averages of values of size 1 are less than 1 apart.",
                "bits": "leaves out hidden keys instead of giving them a weight of 0",
                "copied": "The last query stands at the last key: which keys does the first one see?",
                "refuses": "With two queries and five keys, three tokens are cached: the first query sees four keys.",
                "dull name": "your test takes values of zero",
                "dull": "Then every average is 0, whoever is averaged. Give each key a value of its own.",
                "small": "Two queries and three keys of width 1 are enough; queries of 0 make plain means.",
            },
        ),
        Mistake(
            "your test has as many queries as keys",
            _near(_causal(*_model(20, 4, 4, 2)), *_model(20, 4, 4, 2)),
            "In a square the two corners are one. A cache is what tells them apart: fewer queries than keys.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "your test has a single query",
            _near(_causal(*_model(20, 1, 4, 2)), *_model(20, 1, 4, 2)),
            "The one query sees all keys, as it does without any mask. It finds the wrong corner, and nothing that is "
            "wrong with the future. Add a second query.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "your test asks only whether the last query alone gets what it gets among all",
            _last_alone,
            "A good law, and it finds the wrong corner. But the last query sees everything, so it cannot tell who sees "
            "the future. Say as well what an earlier query gets.",
            "verify#verify-laws",
        ),
    )


@question(points=2, answer="causal_attention")
class CausalAttention:
    """Causal attention over cached and new keys: the last query stands at the last key."""

    read = "idea/masks#masks-alignment"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Fewer queries than keys, as with a cache."""
        yield Case(_distinct(rng, 2, 3, 1, 1), note="two queries, three keys of width 1")
        yield Case(_distinct(rng, 2, 5, 2, 3), note="two queries, five keys")
        yield Case(_distinct(rng, 3, 4, 2, 2), note="three queries, four keys")
        yield Case(_distinct(rng, 4, 4, 2, 3), part="edges", note="nothing cached: four queries, four keys")
        yield Case(_distinct(rng, 1, 4, 2, 2), part="edges", note="one query, as in decoding")
        yield Case(_distinct(rng, 1, 1, 2, 2), part="edges", note="a single token")
        yield Case(_distinct(rng, 0, 3, 2, 2), part="edges", note="no new token at all")

    def reference(self, query, key, value):
        """Query i sees the keys up to i + (L_k - L_q)."""
        return _causal(query, key, value)

    invariants = (
        Invariant(
            "the last query does not see all keys as it should",
            lambda got, q, k, v: bool(len(q) == 0 or np.allclose(got[-1], _attend(q[-1:], k, v)[0], atol=1e-3)),
            "The last query stands at the last key: it sees everything.",
            "idea/masks#masks-alignment",
        ),
        Invariant(
            "an output is not finite",
            lambda got, q, k, v: bool(np.isfinite(got).all()),
            "Each query sees its own token at least, so nothing is empty and nothing is nan.",
            "idea/masks#masks-alignment",
        ),
    )

    mistakes = (
        *_unmended(
            _CAUSAL,
            "the triangle still stands in the upper left corner",
            "With L_k - L_q cached tokens, query i is token i + L_k - L_q. Shift the triangle by as much: np.tri(L_q, "
            "L_k, k=L_k - L_q).",
            {
                "has no mask at all": "A token must not see what comes after it. The last query alone sees everything.",
                "sees one token of the future": "Query i sees the keys up to i + L_k - L_q, its own token included and "
                "not the next.",
                "does not see the token itself": "A token sees itself: the diagonal belongs to the visible part.",
                "forgets the cached keys": "All tokens of the cache are past, so every query sees all of them.",
                "masks the weights after the softmax": "The future has had its share of the sum by then. Mask the "
                "scores.",
            },
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the triangle is shifted the wrong way",
            _triangle(lambda q_len, k_len: q_len - k_len),
            "Cached tokens let a query see more, not less: the shift is L_k - L_q, which is 0 or more.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "queries see their own token and the future, and not the past",
            _seen_by(lambda q_len, k_len: ~np.tri(q_len, k_len, k_len - q_len - 1, dtype=bool)),
            "The triangle is upside down: visible is what stands on the diagonal and to its left.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the scores are not scaled",
            lambda q, k, v: _causal(q * sqrt(q.shape[-1]), k, v),
            "The mask was wrong, and the scale was right: divide by np.sqrt(d).",
            "scaled-dot-product#attention-scale",
        ),
    )


# --- 8. rotate -------------------------------------------------------------------------------------------------------


def _turned(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The pairs (0, 1), (2, 3), ... of each row, turned by `angle`, of shape (length, d / 2)."""
    even, odd, out = x[:, 0::2], x[:, 1::2], np.zeros_like(x)
    out[:, 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    out[:, 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out


def _at(x: np.ndarray, start: int) -> np.ndarray:
    """The positions of the rows, as a column."""
    return np.arange(start, start + len(x))[:, None]


def _speeds(x: np.ndarray, base: float, power: float = -2.0) -> np.ndarray:
    """base^(-2i/d) for the pairs i."""
    return np.asarray(base, dtype=float) ** (power * np.arange(x.shape[-1] // 2) / x.shape[-1])


def _rotate(x, start, base):
    return _turned(x, _at(x, start) * _speeds(x, base))


def _half_speed(x, start, base):
    return _turned(x, _at(x, start) * _speeds(x, base, power=-1.0))


def _halves(x, start, base):
    angle, half = _at(x, start) * _speeds(x, base), x.shape[-1] // 2
    first, second = x[:, :half], x[:, half:]
    return np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), first * np.sin(angle) + second * np.cos(angle)], axis=-1
    )


def _put_back_as_halves(x, start, base):
    out = _rotate(x, start, base)
    return np.concatenate([out[:, 0::2], out[:, 1::2]], axis=-1)


def _no_minus(x, start, base):
    angle, even, odd, out = _at(x, start) * _speeds(x, base), x[:, 0::2], x[:, 1::2], np.zeros_like(x)
    out[:, 0::2] = even * np.cos(angle) + odd * np.sin(angle)
    out[:, 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out


def _rotate_complex(x, start, base):
    z = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * _at(x, start) * _speeds(x, base))
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


def _rotate_in_loops(x, start, base):
    out = np.zeros(x.shape)
    for t, i in np.ndindex(len(x), x.shape[1] // 2):
        angle = (start + t) / base ** (2 * i / x.shape[1])
        a, b = float(x[t, 2 * i]), float(x[t, 2 * i + 1])
        out[t, 2 * i : 2 * i + 2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [a, b]
    return out


_ROTATE = Exhibit(
    names="x start base",
    broken=_half_speed,
    right=_rotate,
    rights={"written with loops": _rotate_in_loops, "written with complex numbers": _rotate_complex},
    relatives={
        "ignores start": lambda x, start, base: _rotate(x, 0, base),
        "counts from start + 1": lambda x, start, base: _rotate(x, start + 1, base),
        "gives all rows the position start": lambda x, start, base: _turned(x, start * _speeds(x, base)[None]),
        "forgets a minus sign": _no_minus,
        "turns the other way": lambda x, start, base: _turned(x, -_at(x, start) * _speeds(x, base)),
        "pairs c with c + d/2": _halves,
        "turns all pairs at the speed of the first": lambda x, start, base: _rotate(x, start, 1.0),
    },
    args=(_some(0, 3, 6), 4, 100.0),
    most=24,
)


def _by_hand_angles(implementation):
    """With base 16 and d = 4 the pairs turn by 1 and by 1/4 a step: at positions 2 and 3 by 2, 1/2 and 3, 3/4."""
    out = implementation(np.array([[1.0, 0, 0, 1], [1.0, 0, 0, 1]]), 2, 16.0)
    want = [[np.cos(2), np.sin(2), -np.sin(0.5), np.cos(0.5)], [np.cos(3), np.sin(3), -np.sin(0.75), np.cos(0.75)]]
    assert np.allclose(out, want, atol=1e-4), f"got {out}"


@question(points=3, answer="test_rotate")
class TestRotate(_OfTests):
    """A test that fails on rotary angles that are wrong, and passes what is right."""

    read = "relative-position#relative-rope"
    exhibit = _ROTATE

    def reference(self, implementation):
        """Angles that can be worked out by hand."""
        _by_hand_angles(implementation)

    mistakes = (
        *_usual(
            _ROTATE,
            "relative-position#relative-rope",
            loose=(0.6 * _some(0, 3, 6), 4, 100.0),
            dull=(np.zeros((3, 6)), 4, 100.0),
            big=(_some(0, 7, 6), 4, 100.0),
            says={
                "true": "where a vector points after it has been turned.",
                "shape": "A rotation keeps every shape.",
                "finite": "A cosine is always finite. Work out an angle by hand and compare.",
                "loose": "Sine and cosine are at most 1, so an error of 1 is half of all there is.",
                "bits": "turns complex numbers, or pair by pair,",
                "copied": "Pair i turns by base^(-2i/d) a step. What is that for i = 1, d = 4, base = 16?",
                "refuses": "At position 0 nothing turns; at position m pair i has turned by m base^(-2i/d).",
                "dull name": "your test turns zeros",
                "dull": "Zeros stay zeros, whatever the angle. Take pairs such as 1, 0, which become cos, sin.",
                "small": "Two rows of four numbers are enough.",
            },
        ),
        Mistake(
            "your test asks only whether lengths are kept",
            lambda f: _near(np.linalg.norm(_ROTATE.args[0], axis=-1))(
                lambda: np.linalg.norm(np.asarray(f(*_ROTATE.args)), axis=-1)
            ),
            "Every rotation keeps lengths, also one by a wrong angle. This law is blind to what is wrong here; know "
            "one angle beforehand.",
            "verify#verify-laws",
        ),
        Mistake(
            "your test takes vectors of width 2",
            _near(_rotate(_some(0, 3, 2), 4, 100.0), _some(0, 3, 2), 4, 100.0),
            "With d = 2 there is one pair, its index is 0, and base^0 is 1 by any rule. Take d = 4.",
            "verify#verify-graders",
        ),
        Mistake(
            "your test stays at position 0",
            _near(_some(0, 1, 6), _some(0, 1, 6), 0, 100.0),
            "At position 0 nothing turns, so no angle can be wrong. Take a start of 2 or more.",
            "relative-position#relative-cache",
        ),
        Mistake(
            "your test turns one row of pairs 1, 0",
            _near(_rotate(np.array([[1.0, 0, 1, 0]]), 2, 16.0), np.array([[1.0, 0, 1, 0]]), 2, 16.0),
            "The second number of each pair is 0, so nobody sees the sign that stands before it; and with one row "
            "nobody sees positions grow. Take a second row, and a pair 0, 1.",
            "relative-position#relative-rope",
        ),
    )


@question(points=2, answer="rotate")
class Rotate:
    """Rotary positions: neighbours are turned as pairs, by angles that shrink from pair to pair."""

    read = "relative-position#relative-rope"
    forbidden = ("attnkit",)
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Starts above 0, as with a cache."""
        start = int(rng.integers(2, 5))
        yield Case((_array([[1, 0, 1, 0]]), start, 16.0), note="one row of four numbers, base 16")
        yield Case((_halves_without_zero(rng, 2, 4), start, 16.0), note="two rows of four numbers")
        yield Case((_halves_without_zero(rng, 3, 6), start + 3, 100.0), note="three rows of six numbers, base 100")
        yield Case((_halves_without_zero(rng, 3, 4), 0, 100.0), part="edges", note="a start at position 0")
        yield Case((_halves_without_zero(rng, 2, 2), start, 100.0), part="edges", note="a single pair")
        yield Case((_halves_without_zero(rng, 2, 8), 90 + start, 10000.0), part="edges", note="a start near 90")
        yield Case((_halves_without_zero(rng, 1, 6), 1, 100.0), part="edges", note="a single row, at position 1")

    def reference(self, x, start, base):
        """Row t, pair i: turned by (start + t) base^(-2i/d)."""
        return _rotate(x, start, base)

    invariants = (
        Invariant(
            "a row changed its length",
            lambda got, x, start, base: bool(
                np.allclose(np.linalg.norm(got, axis=-1), np.linalg.norm(x, axis=-1), atol=1e-3)
            ),
            "A rotation keeps lengths: a cos - b sin, a sin + b cos, with the same angle in all four places.",
            "relative-position#relative-rope",
        ),
        Invariant(
            "numbers left their pair",
            lambda got, x, start, base: bool(
                np.allclose(got[:, 0::2] ** 2 + got[:, 1::2] ** 2, x[:, 0::2] ** 2 + x[:, 1::2] ** 2, atol=1e-3)
            ),
            "The pairs are the neighbours (0, 1), (2, 3), ..., and a turned pair stands where it stood.",
            "relative-position#relative-layout",
        ),
    )

    mistakes = (
        *_unmended(
            _ROTATE,
            "the exponent is still -i/d",
            "Pair i turns by base^(-2i/d) a step: from 1 for the first pair down to nearly 1/base for the last. With "
            "-i/d it ends at the root of that.",
            {
                "ignores start": "The rows stand at start, start + 1, ... With a cache, start is how many tokens are "
                "there already.",
                "counts from start + 1": "The first row stands at position start.",
                "gives all rows the position start": "Row t stands at start + t.",
                "forgets a minus sign": "A rotation has one minus sign: the first of a pair becomes a cos - b sin.",
                "turns the other way": "A pair a, b becomes a cos - b sin, a sin + b cos.",
                "pairs c with c + d/2": "That is the other layout. Here neighbours are a pair: x[:, 0::2] and "
                "x[:, 1::2].",
                "turns all pairs at the speed of the first": "Later pairs turn more slowly: by base^(-2i/d).",
            },
            "relative-position#relative-rope",
        ),
        Mistake(
            "the turned pairs are put back as halves",
            _put_back_as_halves,
            "Numbers 2i and 2i + 1 belong to pair i on the way in and on the way out.",
            "relative-position#relative-layout",
        ),
        Mistake(
            "later pairs turn faster instead of more slowly",
            lambda x, start, base: _turned(x, _at(x, start) * _speeds(x, base, power=2.0)),
            "The exponent is negative: base^(-2i/d).",
            "relative-position#relative-rope",
        ),
        Mistake(
            "the exponent is -2i/d with i = 0, 2, 4, ...",
            lambda x, start, base: _turned(x, _at(x, start) * _speeds(x, base, power=-4.0)),
            "i counts the pairs: 0, 1, 2, ... If it counts entries in steps of two, the 2 is in it already.",
            "relative-position#relative-rope",
        ),
    )


def _halves_without_zero(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.choice([-1.0, 1.0], size=shape) * rng.integers(1, 7, size=shape) / 2).astype(np.float32)
