"""FlashAttention's mathematics.

Five questions: merging two halves of a softmax, attention in blocks of keys, partial results put together by their
lse, a sliding window whose hidden blocks are never computed, and the gradients from the lse alone. One head at a time:
query (L_q, d_k), key (L_k, d_k), value (L_k, d_v). Numbers are halves, so that a counter-example is easy to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt
from typing import ClassVar

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Resource, Tolerance, question

# An answer may compute in float32. Weights taken as exp(score - lse) are then right to half a unit in the last place of
# the lse, which at logits of 10000 is 5e-4 of the weight.
SINGLE_PRECISION = Tolerance(rtol=1e-3, atol=1e-5)
# A gradient sums products of gradients: what cancels leaves more behind.
OF_GRADIENTS = Tolerance(rtol=1e-3, atol=1e-4)
MIB = 2**20
FAR = 1e4  # a logit that exp cannot take in any format

# Calls that would be the answer. exp, max and logsumexp are fair: to put them together is the question.
_NO_SOFTMAX = (
    *("torch.softmax", "torch.log_softmax", "torch._softmax", "torch.special.softmax", "torch.special.log_softmax"),
    *("torch.Tensor.softmax", "torch.Tensor.log_softmax", "torch.sparse.softmax", "torch.sparse.log_softmax"),
    *(f"torch.nn.functional.{name}" for name in ("softmax", "log_softmax", "softmin", "gumbel_softmax")),
    *(f"torch.nn.{name}" for name in ("Softmax", "LogSoftmax", "Softmax2d", "Softmin")),
    *("scipy.special.softmax", "scipy.special.log_softmax"),
)
_NO_ATTENTION = (
    *_NO_SOFTMAX,
    *("torch.nn.functional.scaled_dot_product_attention", "torch.nn.functional.multi_head_attention_forward"),
    *("torch.nn.MultiheadAttention", "torch.nn.Transformer", "torch.nn.TransformerEncoder"),
    *("torch.nn.TransformerEncoderLayer", "torch.nn.TransformerDecoder", "torch.nn.TransformerDecoderLayer"),
    *("torch._scaled_dot_product_attention_math", "torch.nn.attention.flex_attention.flex_attention", "attnkit"),
)
_NO_AUTOGRAD = (
    *("torch.autograd.grad", "torch.autograd.backward", "torch.Tensor.backward", "torch.utils.checkpoint.checkpoint"),
    *(f"torch.func.{name}" for name in ("grad", "grad_and_value", "vjp", "jvp", "jacrev", "jacfwd")),
    *(f"torch.autograd.functional.{name}" for name in ("vjp", "jvp", "jacobian")),
)

Visible = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of query numbers and key numbers: may this one see that one?


def _array(rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def _draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Halves between -3 and 3."""
    return (rng.integers(-6, 7, size=shape) / 2).astype(np.float32)


def _problem(rng: np.random.Generator, *sizes: int) -> tuple[np.ndarray, ...]:
    """query, key, value for the sizes L_q, L_k, d_k, d_v."""
    q_len, k_len, d_k, d_v = sizes
    return _draw(rng, q_len, d_k), _draw(rng, k_len, d_k), _draw(rng, k_len, d_v)


def _smooth(rng: np.random.Generator, *sizes: int) -> tuple[np.ndarray, ...]:
    """The same with real numbers and scores of the size of 1, as the first layers of a model have them."""
    q_len, k_len, d_k, d_v = sizes
    shapes = (q_len, d_k), (k_len, d_k), (k_len, d_v)
    query, key, value = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return query, key, value


def _finite(x: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """x, with `otherwise` where it is -inf: there -inf - -inf would be nan."""
    return np.where(x == -np.inf, np.array(otherwise, dtype=x.dtype), x)


def _positive(x: np.ndarray) -> np.ndarray:
    """A sum to divide by: 1 where it is 0."""
    return np.where(x > 0, x, np.ones_like(x))


def _numbers(got: tuple[np.ndarray, ...], *arguments: object) -> bool:
    return not any(np.isnan(x).any() for x in got)


def _between(out: np.ndarray, value: np.ndarray) -> bool:
    """Whether the outputs lie between the smallest value and the largest of each column; 0 is always allowed."""
    low, high = (f(value, axis=0, initial=0) for f in (np.min, np.max))
    return bool((out >= low - 1e-3).all() and (out <= high + 1e-3).all())


def _logs_fit(lse: np.ndarray, top: np.ndarray, terms: int) -> bool:
    """log of the sum of up to `terms` exponentials, of which the largest is exp(top)."""
    slack = 1e-3 * (1 + np.abs(_finite(top)))
    return bool((lse >= top - slack).all() and (lse <= top + np.log(max(terms, 1)) + slack).all())


# --- the definition, a few rows at a time: the references must cope with the lengths at which memory is measured ------


def _all(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    return np.ones(np.broadcast_shapes(rows.shape, cols.shape), dtype=bool)


def _causal(query: np.ndarray, key: np.ndarray) -> Visible:
    """The last query sees the last key."""
    shift = len(key) - len(query)
    return lambda rows, cols: cols <= rows + shift


def _chunks(query, key, visible: Visible = _all, size: int = 256):
    """For some rows after another: their numbers, their weights (rows, L_k), and their lse."""
    for start in range(0, len(query), size):
        rows = np.arange(start, min(start + size, len(query)))
        scores = query[rows] @ key.T / sqrt(query.shape[-1])
        scores = np.where(visible(rows[:, None], np.arange(len(key))), scores, -np.inf)
        top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - _finite(top))
        total = _positive(weights.sum(axis=-1, keepdims=True))
        yield rows, weights / total, (top + np.log(total))[:, 0]


def _attend(query, key, value, visible: Visible = _all):
    """softmax(QK^T / sqrt(d_k)) V and the logarithm of the sum of each row's exponentials."""
    out, lse = np.zeros((len(query), value.shape[-1])), np.zeros(len(query))
    for rows, weights, logs in _chunks(query, key, visible):
        out[rows], lse[rows] = weights @ value, logs
    return out, lse


def _gradients(query, key, value, out, lse, d_out, visible: Visible = _all, size: int = 256):
    """The chain rule from O = PV back to S, with P = exp(S - lse); a few rows after another."""
    root = sqrt(query.shape[-1])
    d_query, d_key, d_value = (np.zeros(x.shape) for x in (query, key, value))
    for start in range(0, len(query), size):
        rows = np.arange(start, min(start + size, len(query)))
        q, d_o, o = query[rows], d_out[rows], out[rows]
        seen = visible(rows[:, None], np.arange(len(key))) & (lse[rows] > -np.inf)[:, None]
        scores = np.where(seen, q @ key.T / root, -np.inf)
        weights = np.exp(scores - _finite(lse[rows])[:, None])
        d_weights = d_o @ value.T
        d_scores = weights * (d_weights - (d_o * o).sum(axis=-1, keepdims=True))
        d_query[rows] = d_scores @ key / root
        d_key += d_scores.T @ q / root
        d_value += weights.T @ d_o
    return d_query, d_key, d_value


# --- merge -----------------------------------------------------------------------------------------------------------


def _merge(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m = np.maximum(m_a, m_b)
    a, b = (np.exp(one - _finite(m)) for one in (m_a, m_b))
    return m, a * l_a + b * l_b, a[:, None] * acc_a + b[:, None] * acc_b


def _merging(top: Callable = np.maximum, scales: Callable | None = None, **terms: Callable) -> Callable:
    """A merge in which one thing is done otherwise: the maximum, the two factors, the new l, the new acc."""

    def merge(m_a, l_a, acc_a, m_b, l_b, acc_b):
        m = top(m_a, m_b)
        guarded = _finite(m)
        a, b = scales(m_a, m_b, guarded) if scales else (np.exp(m_a - guarded), np.exp(m_b - guarded))
        new_l = terms.get("l", lambda a, b, x, y: a * x + b * y)(a, b, l_a, l_b)
        new_acc = terms.get("acc", lambda a, b, x, y: a * x + b * y)(a[:, None], b[:, None], acc_a, acc_b)
        return m, new_l, new_acc

    return merge


def _plain_sum(a, b, x, y):
    return x + y


def _merge_without_shift(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Both back to plain exponentials, then to the new maximum."""
    m = np.maximum(m_a, m_b)
    a, b, back = np.exp(m_a), np.exp(m_b), np.exp(-_finite(m))
    return m, (a * l_a + b * l_b) * back, (a[:, None] * acc_a + b[:, None] * acc_b) * back[:, None]


def _merge_unguarded(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m = np.maximum(m_a, m_b)
    a, b = np.exp(m_a - m), np.exp(m_b - m)
    return m, a * l_a + b * l_b, a[:, None] * acc_a + b[:, None] * acc_b


def _merge_lost_axis(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m, total, _ = _merge(m_a, l_a, acc_a, m_b, l_b, acc_b)
    a, b = (np.exp(one - _finite(m)) for one in (m_a, m_b))
    return m, total, a * acc_a + b * acc_b


def _merge_divided(*halves):
    m, total, acc = _merge(*halves)
    return m, total, acc / _positive(total)[:, None]


def _half(rng: np.random.Generator, rows: int, d_v: int, top: object = None) -> tuple[np.ndarray, ...]:
    """(m, l, acc) of some block: the sum l holds a term of 1 for the maximum itself."""
    m = _draw(rng, rows) if top is None else np.broadcast_to(_array(top), (rows,)).copy()
    return m, 1 + rng.integers(1, 7, size=rows).astype(np.float32) / 2, _draw(rng, rows, d_v)


def _nothing(rows: int, d_v: int) -> tuple[np.ndarray, ...]:
    """(m, l, acc) of no keys at all."""
    return np.full(rows, -np.inf, np.float32), np.zeros(rows, np.float32), np.zeros((rows, d_v), np.float32)


@question(points=3, answer="merge")
class Merge:
    """Two halves (m, l, acc) of the same softmax, over different keys, as one."""

    read = "softmax#softmax-max-shift"
    forbidden = ("attnkit",)
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "nothing seen": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Once the first maximum is the larger one, once the second; both are wanted by each mistake."""
        low = float(rng.integers(-2, 3))
        one, other = (_array([low + 1]), _array([2]), _array([[4]])), (_array([low]), _array([1.5]), _array([[-2]]))
        yield Case((*one, *other), note="one row, and the first half has the larger maximum")
        yield Case((*other, *one), note="one row, and the second half has the larger maximum")
        halves = (*_half(rng, 2, 3, [low + 2, low]), *_half(rng, 2, 3, [low, low + 1]))
        yield Case(halves, note="two rows: the first half leads in one, the second half in the other")
        halves = (*_half(rng, 3, 3, [low + 1, low, low - 1]), *_half(rng, 3, 3, [low, low, low + 1]))
        yield Case(halves, note="three rows and three columns")
        yield Case((*_half(rng, 9, 4), *_half(rng, 9, 4)), note="nine rows")
        yield Case((*_half(rng, 0, 2), *_half(rng, 0, 2)), note="no rows at all, m of shape (0,)")

        part = "nothing seen"
        yield Case((*_nothing(1, 1), *_half(rng, 1, 1)), part=part, note="a first half that has seen no key")
        yield Case((*_half(rng, 1, 1), *_nothing(1, 1)), part=part, note="a second half that has seen no key")
        yield Case((*_nothing(1, 1), *_nothing(1, 1)), part=part, note="two halves that have seen no key")
        some = _half(rng, 3, 2)
        for x, empty in zip(some, _nothing(3, 2), strict=True):
            x[1] = empty[1]
        yield Case((*some, *_nothing(3, 2)), part=part, note="three rows, of which the second has seen no key")

        far, near = rng.permutation([FAR, FAR - float(rng.integers(1, 4))])
        halves = (*_half(rng, 1, 1, far), *_half(rng, 1, 1, near))
        yield Case(halves, part="extreme", note="maxima near 10000")
        halves = (*_half(rng, 1, 1, -far), *_half(rng, 1, 1, -near))
        yield Case(halves, part="extreme", note="maxima near -10000")
        halves = (*_half(rng, 2, 1, [FAR, -FAR]), *_half(rng, 2, 1, [-FAR, FAR]))
        yield Case(halves, part="extreme", note="one maximum of 10000 and one of -10000")

    def reference(self, m_a, l_a, acc_a, m_b, l_b, acc_b):
        """Both halves as they would be if their maximum had been the common one from the start."""
        return _merge(m_a, l_a, acc_a, m_b, l_b, acc_b)

    invariants = (
        Invariant(
            "a value is nan",
            _numbers,
            "nan comes from -inf - (-inf), 0 / 0 or inf * 0: look at halves that have seen nothing, and at factors "
            "that are not between 0 and 1.",
            "scaled-dot-product#attention-masked-row",
        ),
        Invariant(
            "m is not the larger of the two maxima",
            lambda got, m_a, l_a, acc_a, m_b, l_b, acc_b: bool((got[0] == np.maximum(m_a, m_b)).all()),
            "The maximum over all keys is the larger of the two maxima, row by row.",
            "softmax#softmax-max-shift",
        ),
        Invariant(
            "l is larger than the two sums together",
            lambda got, m_a, l_a, acc_a, m_b, l_b, acc_b: bool((got[1] <= 1.001 * (l_a + l_b)).all()),
            "Both factors are at most 1, so that merging never makes a sum larger: exp(own maximum - m).",
            "softmax#softmax-max-shift",
        ),
    )

    mistakes = (
        Mistake(
            "the sums are added without being rescaled",
            _merging(l=_plain_sum, acc=_plain_sum),
            "Each sum holds exp(score - its own maximum). Under the common maximum m it must first be multiplied by "
            "exp(own maximum - m), which is 1 for the half that had the larger one.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "l is rescaled but acc is not",
            _merging(acc=_plain_sum),
            "acc is a sum of the same exponentials, times values. Whatever l is multiplied by, acc is, too; otherwise "
            "acc / l is no average any more.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "acc is rescaled but l is not",
            _merging(l=_plain_sum),
            "l is the sum of the exponentials by which acc will be divided: both need the same factor.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "only the first half is rescaled",
            _merging(scales=lambda m_a, m_b, m: (np.exp(m_a - m), np.ones_like(m_b))),
            "The second half was summed under its own maximum, not under the common one. When the first half's is the "
            "larger, the second needs exp(m_b - m).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "only the second half is rescaled",
            _merging(scales=lambda m_a, m_b, m: (np.ones_like(m_a), np.exp(m_b - m))),
            "When the second half's maximum is the larger, everything that was summed before stands under a maximum "
            "that is too low: multiply it by exp(m_a - m).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the two factors are exchanged",
            _merging(scales=lambda m_a, m_b, m: (np.exp(m_b - m), np.exp(m_a - m))),
            "The first half is multiplied by exp(m_a - m), the second by exp(m_b - m): each by its own maximum.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the factor is upside down",
            _merging(scales=lambda m_a, m_b, m: (np.exp(m - m_a), np.exp(m - m_b))),
            "exp(x - m) = exp(x - m_a) * exp(m_a - m): old maximum minus new one. No factor may be above 1.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the smaller of the two maxima is taken",
            _merging(np.minimum),
            "Then one factor is exp of something positive, which overflows. With the larger one both factors lie "
            "between 0 and 1.",
            "softmax#softmax-minimum",
        ),
        Mistake(
            "the second half's maximum replaces the first's",
            _merging(lambda m_a, m_b: m_b),
            "The newest block need not have the largest score. Then the older half is multiplied by exp of something "
            "positive, which overflows: m is the larger of the two.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "both halves go through plain exponentials",
            _merge_without_shift,
            "exp(m_a) is inf once m_a is above 88 in float32, and 0 far below: what the maximum had saved is lost. Use "
            "differences of maxima only, which are never positive.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "two halves that have seen nothing give nan",
            _merge_unguarded,
            "Both maxima are -inf, and -inf - (-inf) is nan. Subtract 0 instead where the common maximum is -inf: "
            "exp(-inf - 0) is 0, which is right.",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "acc is divided already",
            _merge_divided,
            "acc stays a plain sum until the last block is in: divide once, at the end. A half that was divided cannot "
            "be merged again by the same rule.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the factors meet acc along the wrong axis",
            _merge_lost_axis,
            "There is a factor for each row, and acc has shape (rows, d_v): the factor of shape (rows,) is laid along "
            "the columns. Use factor[:, None]. Square inputs hide it, others raise.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the two halves are averaged",
            _merging(l=lambda a, b, x, y: (a * x + b * y) / 2, acc=lambda a, b, x, y: (a * x + b * y) / 2),
            "The sum over all keys is the sum over the first ones plus the sum over the others: add, do not halve.",
            "softmax#softmax-max-shift",
        ),
    )


# --- flash_forward ---------------------------------------------------------------------------------------------------


def _online(
    query,
    key,
    value,
    block,
    *,
    divide: float | None = None,
    start: float = -np.inf,
    top: Callable = lambda m, scores: np.maximum(m, scores.max(axis=-1)),
    rescale: tuple[bool, bool] = (True, True),  # l, acc
    rounded: Callable = lambda weights: weights,
    taken: Callable = lambda first, block, k_len: slice(first, first + block),
    until: Callable = lambda block, k_len: k_len,
):
    """(m, l, acc) of all keys, block by block; each keyword does one thing otherwise."""
    divide = sqrt(query.shape[-1]) if divide is None else divide
    m = np.full(len(query), start, query.dtype)
    total, acc = np.zeros_like(m), np.zeros((len(query), value.shape[-1]), query.dtype)
    for first in range(0, until(block, len(key)), block):
        some = taken(first, block, len(key))
        scores = query @ key[some].T / divide
        if scores.shape[-1] == 0:
            continue
        new = top(m, scores)
        weights, old = np.exp(scores - new[:, None]), np.exp(m - new)
        total = (old if rescale[0] else 1) * total + weights.sum(axis=-1)
        acc = (old[:, None] if rescale[1] else 1) * acc + rounded(weights) @ value[some]
        m = new
    return m, total, acc


def _finish(m, total, acc):
    return acc / _positive(total)[:, None], m + np.log(_positive(total))


def _forward(lse: Callable | None = None, out: Callable | None = None, **otherwise) -> Callable:
    """Attention in blocks in which one thing is done otherwise; `lse` and `out` are functions of (m, l, acc)."""

    def forward(query, key, value, block):
        state = _online(query, key, value, block, **otherwise)
        right = _finish(*state)
        return (out(*state) if out else right[0]), (lse(*state) if lse else right[1])

    return forward


def _divided_by(divide: Callable) -> Callable:
    """Scores divided by something else than sqrt(d_k)."""
    return lambda q, k, v, block: _finish(*_online(q, k, v, block, divide=divide(q, k, v)))


def _by_block(q, k, v, block):
    """Each block's own output, and the lse of all."""
    blocks = [_finish(*_online(q, k[i : i + block], v[i : i + block], block)) for i in range(0, len(k), block)]
    return [out for out, _ in blocks] or [np.zeros((len(q), v.shape[-1]))], _attend(q, k, v)[1]


def _mean_of_blocks(q, k, v, block):
    outs, lse = _by_block(q, k, v, block)
    return sum(outs) / len(outs), lse


def _sum_of_blocks(q, k, v, block):
    outs, lse = _by_block(q, k, v, block)
    return sum(outs), lse


def _lse_unscaled(q, k, v, block):
    root = np.float32(sqrt(q.shape[-1]))
    return _attend(q, k, v)[0], _attend(q * root, k, v)[1]


def _bfloat16(x: np.ndarray) -> np.ndarray:
    """x to eight significant bits, rounded to the nearest as torch's bfloat16 is."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _far_apart(rng: np.random.Generator, high: float = FAR, gap: float = 1.0) -> tuple[np.ndarray, ...]:
    """Scores of `high`, a few gaps less, and -high for the first query; about the other way round for the second."""
    step, root = float(rng.integers(1, 4)) * gap, sqrt(high)
    query = _array([[root, 2, 0, 0], [-root, 0, 2, 0]])
    key = _array([[2 * root, 0, 0, 0], [2 * root, -step, step, 0], [-2 * root, 0, 0, 0]])
    return query, key, _draw(rng, 3, 2) + _array([[4], [0], [-4]])


def _long(block: int) -> Callable[[int, np.random.Generator], Case]:
    return lambda length, rng: Case((*_smooth(rng, length, length, 16, 16), block))


@question(points=5, answer="flash_forward")
class FlashForward:
    """Attention that goes through the keys in blocks: the output, and lse of each row."""

    read = "cost#cost-memory"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "extreme": 1, "memory": 2}
    resources = (
        Resource(
            part="memory",
            measure="memory",
            lengths=(1024, 4096),
            case=_long(64),
            at_most=lambda length: 16 * MIB + 2048 * length,
            hint="A table with a score for each query and each key is too large: hold the scores of one block of keys "
            "at a time, and forget them before the next. The running m, l and acc are all that stays.",
            read="cost#cost-memory",
        ),
    )

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first. Blocks that do not divide the keys, and maxima that rise and fall, are ordinary."""
        query, key, value = _array([[2, 0, 0, 0]]), _array([[0, 1, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]), [[8], [0], [4]]
        yield Case((query, key, _array(value), 1), note="one query, three keys, blocks of one; the scores rise")
        yield Case((query, key[::-1].copy(), _array(value), 2), note="one query, three keys, blocks of two; they fall")
        yield Case((*_problem(rng, 2, 5, 4, 1), 2), note="two queries, five keys, blocks of two")
        yield Case((*_problem(rng, 3, 4, 2, 3), 3), note="three queries, four keys, blocks of three")
        yield Case((*_smooth(rng, 20, 33, 8, 3), 8), note="twenty queries, 33 keys, blocks of eight")

        part = "shapes"
        yield Case((*_problem(rng, 1, 1, 4, 2), 1), part=part, note="one query and one key")
        yield Case((*_problem(rng, 2, 3, 4, 5), 16), part=part, note="a block larger than the number of keys")
        yield Case((*_problem(rng, 3, 6, 2, 1), 3), part=part, note="blocks that divide the keys")
        yield Case((*_smooth(rng, 37, 5, 6, 9), 4), part=part, note="more queries than keys")
        yield Case((*_smooth(rng, 3, 70, 9, 4), 1), part=part, note="seventy keys in blocks of one")
        yield Case((*_problem(rng, 0, 3, 2, 2), 2), part=part, note="no queries at all, query of shape (0, 2)")
        yield Case((*_problem(rng, 2, 0, 4, 3), 2), part=part, note="no keys at all, key of shape (0, 4)")

        part = "extreme"
        query, key, value = _far_apart(rng)
        yield Case((query, key, value, 1), part=part, note="scores of 10000 and -10000, blocks of one")
        backwards = key[::-1].copy(), value[::-1].copy()
        yield Case((query, *backwards, 2), part=part, note="scores of -10000 and 10000, blocks of two")
        yield Case((query, key, value, 3), part=part, note="scores of 10000 and -10000 in one block")
        yield Case((-query[:1], key[:2], value[:2], 2), part=part, note="all scores near -10000")
        yield Case((_array([[FAR]]), _array([[1], [-1], [1]]), value, 1), part=part, note="d_k = 1 and large scores")
        yield replace(_long(64)(130, rng), part="memory", note="130 queries and keys, as long ones are measured")

    def reference(self, query, key, value, block):
        """The definition; blocks change nothing but the memory. No keys: output 0 and lse -inf."""
        return _attend(query, key, value)

    invariants = (
        Invariant(
            "a value is nan",
            _numbers,
            "nan comes from inf / inf, 0 / 0 or -inf - (-inf): look at large scores, and at what happens without any "
            "key.",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "an output lies outside the values",
            lambda got, query, key, value, block: _between(got[0], value),
            "Each output is an average of the values, with weights that are positive and sum to 1: divide by l, once.",
            "scaled-dot-product#attention-values",
        ),
        Invariant(
            "lse lies below the largest score of its row, or too far above it",
            lambda got, query, key, value, block: _logs_fit(
                got[1],
                (query @ key.T / sqrt(query.shape[-1])).max(axis=-1, initial=-np.inf),
                len(key),
            ),
            "The sum of exponentials holds the largest one, and no more terms than keys: lse lies between the largest "
            "score and that plus log(L_k).",
            "softmax#softmax-max-shift",
        ),
    )

    mistakes = (
        Mistake(
            "what was summed before is not rescaled when the maximum rises",
            _forward(rescale=(False, False)),
            "l and acc hold exponentials under the old maximum. Before the new block comes in, multiply both by "
            "exp(old maximum - new maximum).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "l is rescaled when the maximum rises, and acc is not",
            _forward(rescale=(True, False)),
            "acc is a sum of the same exponentials, times values: it needs the factor that l needs.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "acc is rescaled when the maximum rises, and l is not",
            _forward(rescale=(False, True)),
            "l is the sum of the exponentials by which acc is divided in the end: it needs the factor that acc needs.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "no maximum is subtracted",
            _forward(start=0.0, top=lambda m, scores: m, lse=lambda m, total, acc: np.log(total)),
            "exp(10000) is inf and exp(-10000) is 0 in every format. Keep a running maximum for each row and subtract "
            "it before exp.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the minimum is subtracted, not the maximum",
            _forward(top=lambda m, scores: np.maximum(m, scores.min(axis=-1))),
            "Then exponents have no upper bound, and exp overflows once the scores of a block lie far apart. After the "
            "shift no exponent may be above 0.",
            "softmax#softmax-minimum",
        ),
        Mistake(
            "the maximum forgets the blocks before",
            _forward(top=lambda m, scores: scores.max(axis=-1)),
            "On paper any m will do, but when a later block has lower scores, exp(old m - new m) overflows. The "
            "running maximum never falls: the larger of the old one and the block's.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the running maximum starts at 0",
            _forward(start=0.0),
            "A row whose scores are all far below 0 then has only exponentials that round to 0, and 0 / 0 is nan. "
            "Start at -inf: the largest of no numbers.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the last block is left out when it is not full",
            _forward(until=lambda block, k_len: k_len // block * block),
            "Five keys in blocks of two are three blocks, the last of one key. range(0, L_k, block) finds them all, "
            "and a slice that ends past the array is cut off by itself.",
            "verify#verify-edges",
        ),
        Mistake(
            "each block but the last loses its last key",
            _forward(taken=lambda i, block, k_len: slice(i, i + block if i + block >= k_len else i + block - 1)),
            "A slice leaves out its end: the block that starts at i is key[i : i + block].",
            "verify#verify-edges",
        ),
        Mistake(
            "the outputs of the blocks are averaged",
            _mean_of_blocks,
            "Each block's softmax is divided by its own sum, so a block of poor matches counts as much as one of good "
            "ones. Divide once, by the sum over all keys.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the outputs of the blocks are added",
            _sum_of_blocks,
            "Each block's weights sum to 1, so all together sum to the number of blocks. Divide once, by the sum over "
            "all keys.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the output is never divided by l",
            _forward(out=lambda m, total, acc: acc),
            "acc is the sum of exponentials times values. An average needs the division by l, once, after the last "
            "block.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "no keys give nan",
            _forward(out=lambda m, total, acc: acc / total[:, None]),
            "Without a key l is 0, and 0 / 0 is nan. Who may see nothing gets 0: divide by 1 where l is 0.",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "the scores are not scaled",
            _divided_by(lambda q, k, v: 1.0),
            "Divide the scores by sqrt(d_k), before anything else is done with them.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by d_k, not by its square root",
            _divided_by(lambda q, k, v: q.shape[-1]),
            "A sum of d_k products spreads out by sqrt(d_k): divide by that.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by the root of d_k + 1",
            _divided_by(lambda q, k, v: sqrt(q.shape[-1] + 1)),
            "d_k is query.shape[-1], the number of products that a score sums up.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by the root of the wrong width",
            _divided_by(lambda q, k, v: sqrt(v.shape[-1])),
            "A score sums over the d_k features of a query and a key; how wide the values are does not matter.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the weights are rounded to bfloat16",
            _forward(rounded=_bfloat16),
            "Eight bits of a weight are too few for an answer in single precision: the output is off by parts in a "
            "thousand. Leave the weights in the type that they were computed in.",
            "verify#verify-bound",
        ),
        Mistake(
            "the maximum is returned as lse",
            _forward(lse=lambda m, total, acc: m),
            "l exponentials stand under that maximum: lse = m + log(l).",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "log(l) is returned as lse, without the maximum",
            _forward(lse=lambda m, total, acc: np.log(total)),
            "l is the sum of exp(score - m). Its logarithm is m too low: lse = m + log(l).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "l is returned as lse",
            _forward(lse=lambda m, total, acc: total),
            "lse is the logarithm of the sum of exp(score), so that it does not overflow: m + log(l).",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the logarithm has base 2",
            _forward(lse=lambda m, total, acc: m + np.log2(_positive(total))),
            "Kernels that use exp2 keep scores in base 2, but both must then be of one base. Here exp is e: take log.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "lse is that of the unscaled scores",
            _lse_unscaled,
            "lse must belong to the weights: exp(score / sqrt(d_k) - lse) is one. Use the scaled scores for both.",
            "scaled-dot-product#attention-scale",
        ),
    )


# --- combine ---------------------------------------------------------------------------------------------------------


def _combine(outs, lses):
    top = lses.max(axis=0)
    weights = np.exp(lses - _finite(top))
    total = weights.sum(axis=0)
    out = (weights[..., None] * outs).sum(axis=0) / _positive(total)[:, None]
    return out, top + np.log(_positive(total))


def _combining(shares: Callable | None = None, lse: Callable | None = None) -> Callable:
    """The parts put together with other shares (parts, rows) of the output, or with another lse."""

    def combine(outs, lses):
        out, right = _combine(outs, lses)
        if shares:
            out = (shares(lses)[..., None] * outs).sum(axis=0)
        return out, (lse(lses) if lse else right)

    return combine


def _share(weights: np.ndarray, axis: int = 0) -> np.ndarray:
    return weights / _positive(weights.sum(axis=axis, keepdims=True))


def _combine_unguarded(outs, lses):
    weights = np.exp(lses - lses.max(axis=0))
    total = weights.sum(axis=0)
    return (weights[..., None] * outs).sum(axis=0) / total[:, None], lses.max(axis=0) + np.log(total)


def _combine_plain(outs, lses):
    weights = np.exp(lses)
    total = weights.sum(axis=0)
    return (weights[..., None] * outs).sum(axis=0) / _positive(total)[:, None], np.log(total)


def _rows_share(lses):
    top = lses.max(axis=-1, keepdims=True, initial=-np.inf)
    return _share(np.exp(lses - _finite(top)), axis=-1)


def _without(outs: np.ndarray, lses: np.ndarray, *places: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The same, where these (part, row) have seen no key."""
    for part, row in places:
        outs[part, row], lses[part, row] = 0, -np.inf
    return outs, lses


@question(points=2, answer="combine")
class Combine:
    """Outputs over different keys, put together by their lse."""

    read = "softmax#softmax-max-shift"
    forbidden = ("attnkit",)
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Two parts first, of which one or the other weighs more."""
        low = float(rng.integers(-2, 3))
        outs = _array([[[4]], [[0]]])
        yield Case((outs, _array([[low], [low + 1]])), note="two parts of one row; the second weighs more")
        yield Case((outs, _array([[low], [low]])), note="two parts that weigh the same")
        lses = _array([[low + 1, low], [low, low + 2]])
        yield Case((_draw(rng, 2, 2, 1), lses), note="two parts of two rows")
        yield Case((_draw(rng, 3, 2, 3), _draw(rng, 3, 2)), note="three parts of two rows")
        yield Case((_draw(rng, 5, 9, 4), _draw(rng, 5, 9)), note="five parts of nine rows")

        part = "edges"
        yield Case((_draw(rng, 1, 2, 3), _draw(rng, 1, 2)), part=part, note="a single part")
        yield Case((_draw(rng, 2, 0, 3), _draw(rng, 2, 0)), part=part, note="no rows at all, lses of shape (2, 0)")
        parts = _without(_draw(rng, 2, 1, 1), _draw(rng, 2, 1), (int(rng.integers(2)), 0))
        yield Case(parts, part=part, note="a part that has seen no key")
        parts = _without(_draw(rng, 2, 2, 1), _draw(rng, 2, 2), (0, 1), (1, 1))
        yield Case(parts, part=part, note="a row that has seen no key in any part")
        near = FAR + _array([[0], [low]])
        yield Case((_draw(rng, 2, 1, 2), near), part=part, note="lse near 10000")
        yield Case((_draw(rng, 2, 1, 2), -near), part=part, note="lse near -10000")
        yield Case((_draw(rng, 2, 2, 2), _array([[FAR, -FAR], [-FAR, FAR]])), part=part, note="lse far apart")

    def reference(self, outs, lses):
        """Each part's output times its share exp(lse) of the sum, and the logarithm of that sum."""
        return _combine(outs, lses)

    invariants = (
        Invariant(
            "a value is nan",
            _numbers,
            "nan comes from inf / inf, 0 / 0 or -inf - (-inf): look at large lse, and at rows that have seen nothing.",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "an output lies outside those of the parts",
            lambda got, outs, lses: bool(
                (got[0] >= outs.min(axis=0) - 1e-3).all() and (got[0] <= outs.max(axis=0) + 1e-3).all()
            ),
            "Each output is an average of the parts' outputs, with shares that sum to 1 over the parts.",
            "scaled-dot-product#attention-values",
        ),
        Invariant(
            "lse lies below the largest one, or too far above it",
            lambda got, outs, lses: _logs_fit(got[1], lses.max(axis=0), len(lses)),
            "More keys never make the sum of exponentials smaller: lse lies between the largest lse and that plus "
            "log(number of parts).",
            "softmax#softmax-max-shift",
        ),
    )

    mistakes = (
        Mistake(
            "the parts are averaged as if they weighed the same",
            _combining(lambda lses: np.full_like(lses, 1 / len(lses))),
            "A part that holds the good matches counts for more. Its share is exp(its lse) over the sum of exp(lse).",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the outputs are added",
            _combining(np.ones_like),
            "Each part's output is an average already. Their shares must sum to 1.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the shares are not divided by their sum",
            _combining(lambda lses: np.exp(lses - _finite(lses.max(axis=0)))),
            "exp(lse - max) is 1 for the largest part, so all together are more. Divide by their sum over the parts.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the shares are in the ratio of lse itself",
            _combining(lambda lses: lses / lses.sum(axis=0)),
            "lse is a logarithm. What adds up over the keys is exp(lse).",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the part with the largest lse takes all",
            _combining(lambda lses: (lses.argmax(axis=0) == np.arange(len(lses))[:, None]).astype(lses.dtype)),
            "The other parts have a share, too: exp(their lse) over the sum of exp(lse).",
            "softmax#softmax-temperature",
        ),
        Mistake(
            "the shares are turned round",
            _combining(lambda lses: _share(np.exp(_finite(lses.min(axis=0)) - lses))),
            "The larger the lse, the larger the share: exp(lse - max), not exp(max - lse).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the softmax runs over the rows",
            _combining(_rows_share),
            "Each row shares out its 1 among the parts, which are the first axis: axis=0.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "no maximum is subtracted from lse",
            _combine_plain,
            "exp(10000) is inf, and exp(-10000) is 0. Subtract the largest lse of the row first; it cancels.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "a row that has seen nothing gives nan",
            _combine_unguarded,
            "All its lse are -inf, and -inf - (-inf) is nan. Who has seen nothing gets output 0 and lse -inf.",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "the output of a row that has seen nothing is nan",
            lambda outs, lses: (_combine_unguarded(outs, lses)[0], _combine(outs, lses)[1]),
            "Its lse is right, -inf. Its shares are exp(-inf - (-inf)), which is nan, where they should be 0: give "
            "such a row an output of 0.",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "the largest lse is returned",
            _combining(lse=lambda lses: lses.max(axis=0)),
            "There are more exponentials than the largest part's: lse = max + log(sum of exp(lse - max)).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the lse are added",
            _combining(lse=lambda lses: lses.sum(axis=0)),
            "The sum of logarithms is the logarithm of a product. Add exp(lse), and take the logarithm of that.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the lse are averaged",
            _combining(lse=lambda lses: lses.mean(axis=0)),
            "lse of more keys is never smaller than that of fewer: max + log(sum of exp(lse - max)).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the maximum is missing from the new lse",
            _combining(lse=lambda lses: np.log(np.exp(lses - _finite(lses.max(axis=0))).sum(axis=0))),
            "That is the logarithm under the maximum: put it back, max + log(sum of exp(lse - max)).",
            "softmax#softmax-max-shift",
        ),
    )


# --- flash_window ----------------------------------------------------------------------------------------------------


def _band(query, key, before: int | None, after: int = 0, align: int = 1) -> Visible:
    """Query i stands at key p = i + align * (L_k - L_q): it sees p, `before` keys before it and `after` after it."""
    shift = align * (len(key) - len(query))

    def visible(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        distance = rows + shift - cols
        return (distance >= -after) & (distance <= (len(key) + len(query) if before is None else before))

    return visible


def _banded(before: int | None, after: int = 0, align: int = 1) -> Callable:
    """Attention under another band than the one asked for."""
    return lambda q, k, v, block: _attend(q, k, v, _band(q, k, before, after, align))


def _table(query, key, visible: Visible) -> np.ndarray:
    return visible(np.arange(len(query))[:, None], np.arange(len(key)))


def _windowed(window: int, weigh: Callable) -> Callable:
    """The window laid over the whole table of scores at once: `weigh(scores, seen)` gives (top, exponentials)."""

    def attend(query, key, value, block):
        scores = query @ key.T / sqrt(query.shape[-1])
        if scores.shape[-1] == 0:
            return _attend(query, key, value)
        top, weights = weigh(scores, _table(query, key, _band(query, key, window - 1)))
        total = weights.sum(axis=-1, keepdims=True)
        return weights @ value / total, (top + np.log(total))[:, 0]

    return attend


def _shifted(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    top = scores.max(axis=-1, keepdims=True)
    return top, np.exp(scores - top)


def _hidden_as(fill: float) -> Callable:
    return lambda scores, seen: _shifted(np.where(seen, scores, np.array(fill, scores.dtype)))


def _hidden_late(scores: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of all, and hidden weights set to 0 afterwards."""
    top, weights = _shifted(scores)
    return top, weights * seen


def _hidden_in_the_sum(window: int) -> Callable:
    def attend(query, key, value, block):
        scores = query @ key.T / sqrt(query.shape[-1])
        if scores.shape[-1] == 0:
            return _attend(query, key, value)
        top, weights = _shifted(scores)
        total = weights.sum(axis=-1, keepdims=True)
        seen = _table(query, key, _band(query, key, window - 1))
        return weights * seen @ value / total, (top + np.log(total))[:, 0]

    return attend


def _in_tiles(window: int, guarded: bool = True, keep: Callable = np.any, local: bool = False) -> Callable:
    """Tile by tile, with a running maximum; a tile is computed if `keep` holds for what is visible of it.

    Without the guard a row whose first computed tile is hidden from it becomes nan. With `local` each tile has its own
    numbering of rows and keys.
    """

    def attend(query, key, value, block):
        seen = _table(query, key, _band(query, key, window - 1))
        outs, lses = [np.zeros((0, value.shape[-1]), query.dtype)], [np.zeros(0, query.dtype)]
        for top in range(0, len(query), block):
            q = query[top : top + block]
            m, total, acc = _nothing(len(q), value.shape[-1])
            for first in range(0, len(key), block):
                k, v = key[first : first + block], value[first : first + block]
                visible = seen[top : top + block, first : first + block]
                if not keep(visible):
                    continue
                if local:
                    visible = visible & _table(q, k, _band(q[:0], k[:0], window - 1))
                scores = np.where(visible, q @ k.T / sqrt(query.shape[-1]), -np.inf).astype(query.dtype)
                new = np.maximum(m, scores.max(axis=-1))
                pivot = _finite(new) if guarded else new
                weights, old = np.exp(scores - pivot[:, None]), np.exp(m - pivot)
                m, total, acc = new, old * total + weights.sum(axis=-1), old[:, None] * acc + weights @ v
            done = _finish(m, total, acc)
            outs.append(done[0])
            lses.append(done[1])
        return np.concatenate(outs), np.concatenate(lses)

    return attend


def _lse_of_nothing(window: int) -> Callable:
    def attend(query, key, value, block):
        out, lse = _attend(query, key, value, _band(query, key, window - 1))
        return out, _finite(lse)

    return attend


@question(points=5, answer="flash_window")
class FlashWindow:
    """Causal attention in blocks, where each query sees the last {window} keys, its own place included.

    The last query stands at the last key. So query i stands at p = i + L_k - L_q and sees the keys j with
    p - {window} < j <= p. A query that sees no key has output 0 and lse -inf. A block of keys that is hidden from a
    whole block of queries is not computed: the time grows like the length.
    """

    read = "reach#reach-patterns"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "nothing seen": 1, "extreme": 1, "time": 1}
    resources = (
        Resource(
            part="time",
            measure="time",
            lengths=(768, 1536, 3072),
            case=_long(32),
            growth=1.5,
            hint="A window sees a fixed number of keys, however long the text is. Take a block of queries, work out "
            "the first and the last key that any of them sees, and go only through the blocks of keys between "
            "these.",
            read="cost#cost-causal",
        ),
    )

    def variant(self, rng: np.random.Generator) -> dict[str, int]:
        """Each student's own window."""
        return {"window": int(rng.integers(3, 7))}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first. Keys that leave the window, and more keys than queries, are ordinary."""
        w = self.window
        yield Case((*_problem(rng, 2, 2, 4, 1), 1), note="two queries, two keys, blocks of one")
        yield Case((*_problem(rng, 1, w + 1, 4, 1), 2), note=f"one query at the end of {w + 1} keys")
        yield Case((*_problem(rng, w + 2, w + 2, 2, 1), 2), note=f"{w + 2} queries and keys, blocks of two")
        yield Case((*_problem(rng, 3, w + 4, 4, 2), 2), note=f"three queries at the end of {w + 4} keys")
        yield Case((*_smooth(rng, 4 * w, 4 * w, 4, 3), 3), note=f"{4 * w} queries and keys, blocks of three")

        part = "shapes"
        yield Case((*_problem(rng, 1, 1, 4, 2), 4), part=part, note="one query and one key")
        yield Case((*_problem(rng, w + 3, w + 3, 2, 5), 64), part=part, note="a block larger than the lengths")
        yield Case((*_smooth(rng, 13, 29, 6, 2), 5), part=part, note="13 queries, 29 keys, blocks of five")
        yield Case((*_smooth(rng, 24, 24, 3, 4), 8), part=part, note="blocks that divide the lengths")
        yield Case((*_smooth(rng, 9, 9, 8, 2), 1), part=part, note="nine queries and keys, blocks of one")
        yield Case((*_problem(rng, 0, 4, 2, 2), 2), part=part, note="no queries at all, query of shape (0, 2)")

        part = "nothing seen"
        query, key, value = _problem(rng, 2, 1, 4, 1)
        yield Case((query, key, value + 4, 1), part=part, note="two queries, one key: the first query stands before it")
        query, key, value = _problem(rng, w + 6, 3, 2, 2)
        yield Case((query, key, value + 4, 4), part=part, note=f"{w + 6} queries, three keys, blocks of four")
        yield Case((*_problem(rng, 3, 0, 4, 2), 2), part=part, note="no keys at all, key of shape (0, 4)")

        yield from self._extreme(rng)
        yield replace(_long(32)(65, rng), part="time", note="65 queries and keys, as long ones are measured")

    def _extreme(self, rng: np.random.Generator) -> Iterator[Case]:
        """Scores of 10000 and -10000 where a key is hidden, and where it is not."""
        part, w = "extreme", self.window
        step = float(rng.integers(1, 4))
        high, low = _array([[200, 0, 0, 0]]), _array([[-200, 0, -step, step]])
        query = np.repeat(_array([[100, 0, 2, 0]]), 2, axis=0)
        key = np.concatenate([high, np.repeat(low, w, axis=0)])
        value = _draw(rng, w + 1, 2)
        note = "a key that has left the window, and whose score is 20000 above the visible ones"
        yield Case((query[:1], key, value, 2), part=part, note=note)
        key = np.concatenate([low, high])
        note = "a key that is yet to come, and whose score is 20000 above the visible one"
        yield Case((query, key, value[:2], 2), part=part, note=note)
        mixed = np.concatenate([high, low, low, high])
        yield Case((-query, mixed, value[:4], 1), part=part, note="scores of 10000 and -10000 in blocks of one")

    def reference(self, query, key, value, block):
        """The definition, query by query, over the slice of keys that it sees."""
        out, lse = np.zeros((len(query), value.shape[-1])), np.zeros(len(query))
        for i in range(len(query)):
            p = i + len(key) - len(query)
            seen = slice(max(0, p - self.window + 1), max(0, p + 1))
            out[i : i + 1], lse[i : i + 1] = _attend(query[i : i + 1], key[seen], value[seen])
        return out, lse

    invariants = (
        Invariant(
            "a value is nan",
            _numbers,
            "nan comes from -inf - (-inf) or 0 / 0: look at rows that see nothing, in a block or at all.",
            "scaled-dot-product#attention-masked-row",
        ),
        Invariant(
            "a query that stands before the first key does not get 0 and -inf",
            lambda got, query, key, value, block: bool(
                (got[0][: max(0, len(query) - len(key))] == 0).all()
                and (got[1][: max(0, len(query) - len(key))] == -np.inf).all()
            ),
            "It sees nothing, so there is nothing to average: output 0 and lse -inf.",
            "scaled-dot-product#attention-masked-row",
        ),
        Invariant(
            "an output lies outside the values",
            lambda got, query, key, value, block: _between(got[0], value),
            "Each output is an average of the visible values, with weights that are positive and sum to 1.",
            "scaled-dot-product#attention-values",
        ),
    )

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """A property, since they depend on the student's window."""
        w = self.window
        return (
            Mistake(
                "nothing is hidden",
                _banded(None, 10**6),
                "Query i stands at key p = i + L_k - L_q. It sees no key after p, and only your window's number of "
                "keys up to p.",
                "scaled-dot-product#attention-causal",
            ),
            Mistake(
                "the window has no beginning",
                _banded(None),
                "That is plain causal attention. A key that lies your window's number of places or more before p is "
                "hidden, too.",
                "reach#reach-patterns",
            ),
            Mistake(
                "keys to come are visible",
                _banded(w - 1, 10**6),
                "The window hides what is long past, causality what is yet to come: j <= p as well.",
                "scaled-dot-product#attention-causal",
            ),
            Mistake(
                "the window reaches to both sides",
                _banded(w - 1, w - 1),
                "The keys after p are hidden: the window ends at p.",
                "reach#reach-patterns",
            ),
            Mistake(
                "the window holds one key too many",
                _banded(w),
                "The query's own place counts: the oldest visible key is j = p - window + 1.",
                "conventions#conventions-hf",
            ),
            Mistake(
                "the window holds one key too few",
                _banded(w - 2),
                "The oldest visible key is j = p - window + 1, and it is visible itself.",
                "conventions#conventions-hf",
            ),
            Mistake(
                "a query does not see its own place",
                lambda q, k, v, block: _attend(
                    q, k, v, lambda i, j: _band(q, k, w - 1)(i, j) & (j != i + len(k) - len(q))
                ),
                "Key j = p is visible: j <= p, not j < p.",
                "scaled-dot-product#attention-causal",
            ),
            Mistake(
                "a query sees one key that is yet to come",
                _banded(w - 1, 1),
                "Key p is the last that is visible: j <= p, not j <= p + 1.",
                "scaled-dot-product#attention-causal",
            ),
            Mistake(
                "the first query stands at the first key",
                _banded(w - 1, 0, align=0),
                "With equal lengths that is the same; with more keys than queries it is not. The queries are the "
                "newest tokens: the last one stands at the last key, p = i + L_k - L_q.",
                "conventions#conventions-flash",
            ),
            Mistake(
                "queries and keys are shifted the wrong way",
                _banded(w - 1, 0, align=-1),
                "With more keys than queries, query 0 stands further to the right: p = i + (L_k - L_q).",
                "conventions#conventions-flash",
            ),
            Mistake(
                "past and future are exchanged",
                lambda q, k, v, block: _attend(q, k, v, _band(q, k, 0, w - 1)),
                "Rows are queries and columns keys. Query p sees keys up to p, not from p on.",
                "scaled-dot-product#attention-causal",
            ),
            Mistake(
                "each tile has its own numbering",
                _in_tiles(w, local=True),
                "Inside a tile, row 0 is not query 0 and column 0 is not key 0: compare the numbers that they have in "
                "the whole.",
                "scaled-dot-product#attention-causal",
            ),
            Mistake(
                "blocks that are hidden in part are left out",
                _in_tiles(w, keep=np.all),
                "Only a block that is hidden from every query of the block of queries may be left out. If some pair is "
                "visible, compute the block and hide the others.",
                "cost#cost-causal",
            ),
            Mistake(
                "a row is lost when its first block is hidden from it",
                _in_tiles(w, guarded=False, keep=lambda visible: True),
                "Its running maximum is still -inf then, and -inf - (-inf) is nan, which stays. Subtract 0 while the "
                "maximum is -inf.",
                "scaled-dot-product#attention-masked-row",
            ),
            Mistake(
                "a query that sees no key gives nan",
                _windowed(w, _hidden_as(-np.inf)),
                "There are more queries than keys, and the first ones stand before the first key. They get output 0 "
                "and lse -inf: divide by 1 where l is 0.",
                "scaled-dot-product#attention-masked-row",
            ),
            Mistake(
                "hidden scores are a large negative number",
                _windowed(w, _hidden_as(-1e9)),
                "A query that sees no key then averages all of them, since their scores are all alike. Use -inf, and "
                "give such a row output 0 and lse -inf.",
                "scaled-dot-product#attention-masked-row",
            ),
            Mistake(
                "hidden scores are 0",
                _windowed(w, _hidden_as(0.0)),
                "exp(0) is 1, so a hidden key has a weight. A hidden score is -inf.",
                "scaled-dot-product#attention-mask",
            ),
            Mistake(
                "-10000 hides a key",
                _windowed(w, _hidden_as(-FAR)),
                "A visible score may be as low as that. A hidden score is -inf, and its weight exactly 0.",
                "scaled-dot-product#attention-mask",
            ),
            Mistake(
                "hidden keys are counted in the sum",
                _hidden_in_the_sum(w),
                "Their values are left out and their weights are not: what remains of a row sums to less than 1. Hide "
                "the scores before exp.",
                "scaled-dot-product#attention-mask",
            ),
            Mistake(
                "the maximum is taken over hidden keys, too",
                _windowed(w, _hidden_late),
                "A hidden score 20000 above the visible ones leaves exp(-20000) = 0 for these, and 0 / 0 is nan. Hide "
                "the scores first, then take the maximum.",
                "softmax#softmax-max-shift",
            ),
            Mistake(
                "lse is 0 where nothing is seen",
                _lse_of_nothing(w),
                "lse is the logarithm of a sum without terms: log(0) = -inf. That is also what lets such a row be put "
                "together with another part later.",
                "scaled-dot-product#attention-masked-row",
            ),
            Mistake(
                "the scores are not scaled",
                lambda q, k, v, block: _attend(q * np.float32(sqrt(q.shape[-1])), k, v, _band(q, k, w - 1)),
                "Divide the scores by sqrt(d_k), as in the question before.",
                "scaled-dot-product#attention-scale",
            ),
        )


# --- flash_backward --------------------------------------------------------------------------------------------------


def _below(causal: bool, query, key, align: int = 1) -> np.ndarray:
    """The table of visible pairs."""
    return _table(query, key, _band(query, key, None, 0 if causal else 10**9, align))


def _row_product(d_out, out):
    return (d_out * out).sum(axis=-1)


def _backward(
    visible: Callable = _below,
    divide: Callable = sqrt,
    scales: Callable = lambda root: (1 / root, 1 / root),
    logs: Callable = _finite,
    of: Callable = lambda scores, lse: np.exp(scores - lse),
    delta: Callable = _row_product,
    softmax: Callable = lambda weights, d_weights, delta: weights * (d_weights - delta),
    for_value: Callable = lambda weights, d_scores: weights,
    blocks: Callable = lambda parts: sum(parts),
    until: Callable = lambda block, k_len: k_len,
    hide: Callable | None = None,
) -> Callable:
    """The backward pass with one thing done otherwise: each keyword is one line of it."""

    def backward(query, key, value, out, lse, d_out, block, causal):
        seen, root = visible(causal, query, key), sqrt(query.shape[-1])
        to_query, to_key = scales(root)
        to_query, to_key = query.dtype.type(to_query), key.dtype.type(to_key)
        d_query, d_key, d_value = [np.zeros_like(query)], np.zeros_like(key), np.zeros_like(value)
        row_delta, row_lse = delta(d_out, out), logs(lse)
        for first in range(0, until(block, len(key)), block):
            some = slice(first, first + block)
            scores = query @ key[some].T / divide(query.shape[-1])
            if hide is None:
                scores = np.where(seen[:, some], scores, np.array(-np.inf, scores.dtype))
            weights = of(scores, row_lse[:, None])
            d_scores = softmax(weights, d_out @ value[some].T, row_delta[:, None])
            if hide is not None:
                weights, d_scores = hide(seen[:, some], weights, d_scores)
            d_query.append(to_query * (d_scores @ key[some]))
            d_key[some] = to_key * (d_scores.T @ query)
            d_value[some] = for_value(weights, d_scores).T @ d_out
        return blocks(d_query), d_key, d_value

    return backward


def _softmax_of_block(scores, lse):
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - _finite(top))
    return weights / _positive(weights.sum(axis=-1, keepdims=True))


def _value_leaks(seen, weights, d_scores):
    """Hidden pairs are taken out of the scores' gradient only; their weights, which lse does not count, stay."""
    return weights, np.where(seen, d_scores, np.zeros_like(d_scores))


def _exchanged(query, key, value, out, lse, d_out, block, causal):
    d_query, d_key, d_value = _backward()(query, key, value, out, lse, d_out, block, causal)
    return d_key, d_query, d_value


def _with_forward(problem: tuple[np.ndarray, ...], rng, block: int, causal: bool, d_out=None) -> tuple:
    """The arguments of a backward pass: output and lse are those of the definition."""
    query, key, value = problem
    exact = (x.astype(np.float64) for x in problem)
    out, lse = _attend(*exact, _causal(query, key) if causal else _all)
    d_out = _draw(rng, *out.shape) if d_out is None else d_out
    return query, key, value, out.astype(np.float32), lse.astype(np.float32), d_out, block, causal


def _long_gradient(length: int, rng: np.random.Generator) -> Case:
    return Case(_with_forward(_smooth(rng, length, length, 16, 16), rng, 64, False))


@question(points=5, answer="flash_backward")
class FlashBackward:
    """The gradients of query, key and value in blocks of keys, from the output and lse of the forward pass."""

    read = "verify#verify-gradient"
    forbidden = (*_NO_ATTENTION, *_NO_AUTOGRAD)
    tolerance = OF_GRADIENTS
    parts: ClassVar = {"ordinary": 1, "causal": 1, "shapes": 1, "extreme": 1, "memory": 1}
    resources = (
        Resource(
            part="memory",
            measure="memory",
            lengths=(1024, 4096),
            case=_long_gradient,
            at_most=lambda length: 24 * MIB + 2048 * length,
            hint="No table of L_q times L_k may stand in memory, nor be kept by autograd. Compute the weights of one "
            "block of keys again from lse, use them for the three gradients, and forget them.",
            read="cost#cost-training",
        ),
    )

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first. The part "causal" has more keys than queries, fewer, and rows that see none."""

        def given(*sizes: int, block: int, causal: bool = False, draw: Callable = _problem) -> tuple:
            return _with_forward(draw(rng, *sizes), rng, block, causal)

        yield Case(self._two_keys(rng), note="one query, two keys")
        yield Case(given(2, 3, 4, 1, block=2), note="two queries, three keys, blocks of two")
        yield Case(given(3, 3, 2, 2, block=2), note="three queries, three keys, blocks of two")
        yield Case(given(7, 10, 4, 3, block=4, draw=_smooth), note="seven queries, ten keys, blocks of four")

        part = "causal"
        yield Case(given(2, 2, 4, 1, block=1, causal=True), part=part, note="two queries, two keys, causal")
        note = "three queries at the end of five keys, causal"
        yield Case(given(3, 5, 4, 2, block=2, causal=True), part=part, note=note)
        note = "four queries and two keys, causal: the first two queries see nothing"
        yield Case(given(4, 2, 4, 2, block=1, causal=True), part=part, note=note)
        yield Case(given(12, 12, 5, 3, block=5, causal=True, draw=_smooth), part=part, note="twelve queries, causal")

        part = "shapes"
        yield Case(given(1, 1, 4, 2, block=1), part=part, note="one query and one key")
        yield Case(given(2, 3, 3, 5, block=64), part=part, note="a block larger than the number of keys")
        yield Case(given(9, 4, 6, 2, block=2, draw=_smooth), part=part, note="nine queries, four keys")
        yield Case(given(3, 31, 2, 7, block=1, causal=True, draw=_smooth), part=part, note="31 keys in blocks of one")
        yield Case(given(0, 3, 2, 2, block=2), part=part, note="no queries at all, query of shape (0, 2)")
        yield Case(given(2, 0, 4, 3, block=2), part=part, note="no keys at all, key of shape (0, 4)")

        part = "extreme"
        # At 10000 a float32 lse is right to 5e-4 only, unless one key has all the weight.
        far, large = _far_apart(rng, gap=64.0), _far_apart(rng, high=100.0)
        yield Case(_with_forward(far, rng, 1, False), part=part, note="scores of 10000 and -10000, blocks of one")
        yield Case(_with_forward(far, rng, 2, True), part=part, note="scores of 10000 and -10000, causal")
        yield Case(_with_forward(large, rng, 2, False), part=part, note="scores of 100 and -100, blocks of two")
        yield Case(_with_forward(large, rng, 1, True), part=part, note="scores of 100 and -100, causal")
        low = -large[0][:1], large[1][:2], large[2][:2]
        yield Case(_with_forward(low, rng, 2, False), part=part, note="all scores near -100")
        yield replace(_long_gradient(130, rng), part="memory", note="130 queries and keys, as long ones are measured")

    def _two_keys(self, rng: np.random.Generator) -> tuple:
        """Weights of one half each, so that the gradient can be done in the head."""
        query, key = _array([[2, 0, 0, 0]]), _array([[1, 1, 0, 0], [1, 0, 1, 0]])
        low = float(rng.integers(1, 4))
        return _with_forward((query, key, _array([[low], [low + 4]])), rng, 1, False, _array([[2]]))

    def reference(self, query, key, value, out, lse, d_out, block, causal):
        """The chain rule through softmax(QK^T / sqrt(d_k)) V, at the lse and the output that were handed over.

        These are in float32, and a right answer may well take them as exact: so does this one. An answer that
        computes a softmax of its own differs by their rounding, which the tolerance allows.
        """
        return _gradients(query, key, value, out, lse, d_out, _causal(query, key) if causal else _all)

    invariants = (
        Invariant(
            "a value is nan",
            _numbers,
            "nan comes from -inf - (-inf) or inf * 0: look at queries that see nothing, and at exp of something "
            "positive.",
            "scaled-dot-product#attention-masked-row",
        ),
        Invariant(
            "the gradients of the values do not add up to those of the output",
            lambda got, query, key, value, out, lse, d_out, *rest: bool(
                np.allclose(got[2].sum(axis=0), d_out[lse > -np.inf].sum(axis=0), rtol=1e-2, atol=1e-2)
            ),
            "Each query that sees something hands out its d_out in shares that sum to 1, over all blocks: dV = P^T dO.",
            "softmax#softmax-axis",
        ),
        Invariant(
            "the gradients of query and key do not fit together",
            lambda got, query, key, *rest: bool(
                np.isclose((query * got[0]).sum(), (key * got[1]).sum(), rtol=1e-2, atol=1e-2)
            ),
            "A longer query does to the scores what longer keys do: the sums of query * d_query and of key * d_key are "
            "the same. Both come from one dS, with one scale.",
            "verify#verify-gradient",
        ),
    )

    mistakes = (
        Mistake(
            "delta is missing",
            _backward(delta=lambda d_out, out: np.zeros_like(out[:, 0])),
            "A softmax's weights sum to 1, so raising one score lowers all other weights: dS = P * (dP - delta), with "
            "delta = sum of dO * O over a row.",
            "verify#verify-gradient",
        ),
        Mistake(
            "delta is added",
            _backward(delta=lambda d_out, out: -_row_product(d_out, out)),
            "dS = P * (dP - delta). With the right sign each row of dS sums to 0.",
            "verify#verify-gradient",
        ),
        Mistake(
            "delta is the sum of dO alone",
            _backward(delta=lambda d_out, out: d_out.sum(axis=-1)),
            "delta is the row's sum of dO * O: the weighted mean of dP, since O is the weighted mean of the values.",
            "verify#verify-gradient",
        ),
        Mistake(
            "delta is the mean of dO * O",
            _backward(delta=lambda d_out, out: (d_out * out).mean(axis=-1)),
            "delta is the sum of dO * O over the d_v features of a row.",
            "verify#verify-gradient",
        ),
        Mistake(
            "delta is taken outside of the product with the weights",
            _backward(softmax=lambda weights, d_weights, delta: weights * d_weights - delta),
            "dS = P * (dP - delta): the weight multiplies the whole bracket, so that a key with weight 0 gets no "
            "gradient.",
            "verify#verify-gradient",
        ),
        Mistake(
            "each score moves its own weight only",
            _backward(softmax=lambda weights, d_weights, delta: weights * (1 - weights) * d_weights),
            "P * (1 - P) is the slope of a weight against its own score. Every score moves every weight of its row, "
            "and delta stands for all of them: dS = P * (dP - delta).",
            "verify#verify-gradient",
        ),
        Mistake(
            "the softmax is left out of the chain",
            _backward(softmax=lambda weights, d_weights, delta: d_weights),
            "dP is the gradient of the weights. That of the scores is dS = P * (dP - delta).",
            "verify#verify-gradient",
        ),
        Mistake(
            "the scale is missing from both gradients",
            _backward(scales=lambda root: (1.0, 1.0)),
            "The scores are QK^T / sqrt(d_k), so their gradient is divided by sqrt(d_k) on its way to Q and to K.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scale is missing from the gradient of the query",
            _backward(scales=lambda root: (1.0, 1 / root)),
            "dQ = dS K / sqrt(d_k): the scale belongs to both gradients.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scale is missing from the gradient of the key",
            _backward(scales=lambda root: (1 / root, 1.0)),
            "dK = dS^T Q / sqrt(d_k): the scale belongs to both gradients.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scale is taken twice",
            _backward(scales=lambda root: (1 / root**2, 1 / root**2)),
            "Once: either dS carries the factor 1 / sqrt(d_k), or dQ and dK do.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the weights are recomputed from unscaled scores",
            _backward(divide=lambda d_k: 1.0),
            "P = exp(QK^T / sqrt(d_k) - lse): lse was taken of the scaled scores.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "lse is not subtracted",
            _backward(of=lambda scores, lse: np.exp(scores)),
            "exp(score) is no weight: P = exp(score - lse), and each row of P sums to 1 over all blocks.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the exponentials are divided by lse",
            _backward(of=lambda scores, lse: np.exp(scores) / lse),
            "lse is the logarithm of the sum: dividing by the sum is subtracting lse, inside exp.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "each block has a softmax of its own",
            _backward(of=_softmax_of_block),
            "The weights of a row sum to 1 over all blocks. lse knows the whole row: P = exp(score - lse).",
            "softmax#softmax-axis",
        ),
        Mistake(
            "only the last block is left in the gradient of the query",
            _backward(blocks=lambda parts: parts[-1]),
            "A query meets every block of keys: add up what each gives (+=). The rows of dK and dV belong to one block "
            "each, and may be written.",
            "verify#verify-gradient",
        ),
        Mistake(
            "the last block is left out when it is not full",
            _backward(until=lambda block, k_len: k_len // block * block),
            "Three keys in blocks of two are two blocks, the last of one key: range(0, L_k, block).",
            "verify#verify-edges",
        ),
        Mistake(
            "the gradient of the values is taken through dS",
            _backward(for_value=lambda weights, d_scores: d_scores),
            "O = PV, so dV = P^T dO: the weights themselves.",
            "scaled-dot-product#attention-values",
        ),
        Mistake(
            "the gradients of query and key are exchanged",
            _exchanged,
            "dQ = dS K has a row for each query, dK = dS^T Q a row for each key. Return dQ, dK, dV.",
            "scaled-dot-product#attention-formula",
        ),
        Mistake(
            "causal is ignored",
            _backward(visible=lambda causal, query, key: _below(False, query, key)),
            "The forward pass hid keys after the query's place, and lse does not count them. Hide them again: their "
            "score is -inf, their weight exactly 0.",
            "scaled-dot-product#attention-causal",
        ),
        Mistake(
            "every call is causal",
            _backward(visible=lambda causal, query, key: _below(True, query, key)),
            "Only when causal is True is anything hidden.",
            "scaled-dot-product#attention-causal",
        ),
        Mistake(
            "the first query stands at the first key",
            _backward(visible=lambda causal, query, key: _below(causal, query, key, align=0)),
            "With equal lengths that is the same. The last query stands at the last key: query i at p = i + L_k - L_q.",
            "conventions#conventions-flash",
        ),
        Mistake(
            "a query does not see its own place",
            _backward(
                visible=lambda causal, query, key: _table(query, key, _band(query, key, None, -1 if causal else 10**9))
            ),
            "Key p = i + L_k - L_q is visible to query i: hide j > p, not j >= p.",
            "scaled-dot-product#attention-causal",
        ),
        Mistake(
            "hidden pairs are kept in the gradient of the values",
            _backward(hide=_value_leaks),
            "exp(score - lse) of a hidden pair is no weight, and may be huge: lse does not count it. Hide the score "
            "before exp, and dV and dS are both right.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "a query that sees nothing gives nan",
            _backward(logs=lambda lse: lse),
            "Its lse is -inf and so are its scores, and -inf - (-inf) is nan. Its weights are 0: subtract 0, or +inf, "
            "where lse is -inf.",
            "scaled-dot-product#attention-masked-row",
        ),
    )
