"""Attention from scratch.

Three questions: a softmax that does not overflow, scaled dot-product attention, and attention under a mask.
Numbers are drawn as halves, so that a counter-example is easy to read and exact in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import ClassVar

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Tolerance, question

# An answer may compute in float32, whatever it was handed, and by way of exp(x - logsumexp(x)): with logits of
# 10000 that form is right to half a unit in the last place of 10000, which is 5e-4 of the weight.
SINGLE_PRECISION = Tolerance(rtol=1e-3, atol=1e-5)

# Calls that would be the answer. logsumexp and exp are fair: to put them together is the question.
_NO_SOFTMAX = (
    *("torch.softmax", "torch.log_softmax", "torch._softmax", "torch.special.softmax", "torch.special.log_softmax"),
    *("torch.Tensor.softmax", "torch.Tensor.log_softmax", "torch.sparse.softmax", "torch.sparse.log_softmax"),
    *(f"torch.nn.functional.{name}" for name in ("softmax", "log_softmax", "softmin", "gumbel_softmax")),
    *(f"torch.nn.{name}" for name in ("Softmax", "LogSoftmax", "Softmax2d", "Softmin")),
    *("scipy.special.softmax", "scipy.special.log_softmax", "attnkit"),
)
_NO_ATTENTION = (
    *("torch.nn.functional.scaled_dot_product_attention", "torch.nn.functional.multi_head_attention_forward"),
    *("torch.nn.MultiheadAttention", "torch.nn.Transformer", "torch.nn.TransformerEncoder"),
    *("torch.nn.TransformerEncoderLayer", "torch.nn.TransformerDecoder", "torch.nn.TransformerDecoderLayer"),
    *("torch._scaled_dot_product_attention_math", "torch.nn.attention.flex_attention.flex_attention", "attnkit"),
)


def _array(rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def _draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Halves between -3 and 3."""
    return (rng.integers(-6, 7, size=shape) / 2).astype(np.float32)


def _softmax(x: np.ndarray, axis: int | None = -1) -> np.ndarray:
    """Softmax over `axis`; None means over the whole array."""
    if x.size == 0:
        return x
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def _swap(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def _scores(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """QK^T / sqrt(d_k): (..., L_q, d_k) and (..., L_k, d_k) give (..., L_q, L_k)."""
    return query @ _swap(key) / sqrt(query.shape[-1])


# --- softmax ---------------------------------------------------------------------------------------------------------


def _no_shift(x):
    weights = np.exp(x)
    return weights / weights.sum(axis=-1, keepdims=True)


def _minimum_shift(x):
    weights = np.exp(x - x.min(axis=-1, keepdims=True)) if x.size else x
    return weights / weights.sum(axis=-1, keepdims=True)


def _global_maximum(x):
    weights = np.exp(x - x.max()) if x.size else x
    return weights / weights.sum(axis=-1, keepdims=True)


def _shifted_above_only(x):
    shifted = np.exp(x - x.max(axis=-1, keepdims=True)) if x.size else x
    return shifted / np.exp(x).sum(axis=-1, keepdims=True)


def _unnormalised(x):
    return np.exp(x - x.max(axis=-1, keepdims=True))


def _mean_below(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.mean(axis=-1, keepdims=True)


def _no_exponential(x):
    return x / x.sum(axis=-1, keepdims=True)


def _first_order(x):
    return (1 + x) / (1 + x).sum(axis=-1, keepdims=True)


def _log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _sum_lost_axis(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1)


def _both_lost_axis(x):
    weights = np.exp(x - x.max(axis=-1))
    return weights / weights.sum(axis=-1)


@question(points=3, answer="softmax")
class Softmax:
    """Softmax over the last axis, for logits of any size."""

    read = "softmax#softmax-max-shift"
    forbidden = _NO_SOFTMAX
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first: they make the counter-examples."""
        low = float(rng.integers(-2, 3))
        yield Case((_array([low, low + 1]),), note="one row of two logits")
        yield Case((_array([[0, 1], [2, 0]]) + _array(low),), note="two rows of two logits")
        yield Case((_array([[1, 2, 4], [3, 3, 0]]) + _array(low),), note="two rows of three logits")
        yield Case((_draw(rng, 4, 3),), note="four rows of three logits")
        yield Case((_draw(rng, 3, 7),), note="three rows of seven logits")

        yield Case((_array([low]),), part="shapes", note="a single logit")
        yield Case((_draw(rng, 3, 1),), part="shapes", note="rows of a single logit")
        yield Case((_draw(rng, 2, 2, 3),), part="shapes", note="an array with three axes")
        yield Case((_draw(rng, 2, 3, 4, 5),), part="shapes", note="an array with four axes")
        yield Case((_draw(rng, 0, 4),), part="shapes", note="no rows at all, an array of shape (0, 4)")

        step = float(rng.integers(1, 4))
        yield Case((_array([1000, 1000 + step]),), part="extreme", note="logits near 1000")
        yield Case((_array([-1000 - step, -1000]),), part="extreme", note="logits near -1000")
        yield Case((_array([step, -np.inf]),), part="extreme", note="a logit of -inf, as a mask will put there")
        yield Case((_array([[1e4, 1e4 - step], [-1e4, -1e4 - step]]),), part="extreme", note="two rows far apart")
        yield Case((_array([-1e4, step, 1e4]),), part="extreme", note="logits from -10000 to 10000")
        far = _draw(rng, 3, 5) + _array([[2000], [-2000], [0]])
        yield Case((far,), part="extreme", note="three rows, around 2000, -2000 and 0")

    def reference(self, x: np.ndarray) -> np.ndarray:
        """exp(x - max) / sum(exp(x - max)), over the last axis."""
        return _softmax(x)

    invariants = (
        Invariant(
            "a weight is nan or inf",
            lambda got, x: bool(np.isfinite(got).all()),
            "Every weight lies between 0 and 1. nan comes from inf / inf or 0 / 0: look for an exponential that "
            "overflows or a row whose exponentials are all 0.",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "a weight is negative",
            lambda got, x: bool((got >= -1e-6).all()),
            "exp is always positive, so no weight may be below 0.",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "a row does not sum to 1",
            lambda got, x: bool(np.allclose(got.sum(axis=-1), 1, atol=1e-3)),
            "Each row, along the last axis, must sum to 1: divide by the sum over that axis.",
            "softmax#softmax-axis",
        ),
        Invariant(
            "a larger logit got a smaller weight",
            lambda got, x: bool(
                (np.diff(np.take_along_axis(got, np.argsort(x, axis=-1, kind="stable"), -1), axis=-1) >= -1e-4).all()
            ),
            "Softmax keeps the order within a row.",
            "softmax#softmax-temperature",
        ),
    )

    mistakes = (
        Mistake(
            "the row's maximum is not subtracted",
            _no_shift,
            "exp(1000) is inf in every float format here, and inf / inf is nan; exp(-1000) is 0, and 0 / 0 is nan. "
            "Softmax does not change when a constant is subtracted from a row: subtract the row's maximum first, so "
            "that the largest exponent is 0.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the row's minimum is subtracted",
            _minimum_shift,
            "Then the smallest exponent is 0 and the largest has no bound, so exp still overflows. After the shift "
            "no exponent may be above 0: subtract the maximum.",
            "softmax#softmax-minimum",
        ),
        Mistake(
            "one maximum is taken over the whole array",
            _global_maximum,
            "A row far below that maximum underflows to all zeros, and 0 / 0 is nan. Each row needs its own maximum: "
            "take it over the last axis and keep that axis (keepdims).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the shift is made above the fraction line but not below it",
            _shifted_above_only,
            "Subtracting a constant leaves the fraction as it was only when it is done in the numerator and in the "
            "denominator. The rows no longer sum to 1.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "you normalised over the first axis",
            lambda x: _softmax(x, axis=0),
            "Each row must sum to 1, and here the columns do. Take the sum over the last axis (-1).",
            "softmax#softmax-axis",
        ),
        Mistake(
            "you normalised over the last axis but one",
            lambda x: _softmax(x, axis=-2),
            "Each row must sum to 1, and here the columns of each matrix do. Take the sum over the last axis (-1).",
            "softmax#softmax-axis",
        ),
        Mistake(
            "you normalised over the whole array",
            lambda x: _softmax(x, axis=None),
            "All weights together sum to 1, but each row must do so by itself. Give sum and max the last axis.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "you divided by the largest exponential instead of their sum",
            lambda x: _unnormalised(x) / _unnormalised(x).max(axis=-1, keepdims=True),
            "The largest weight of each row is 1 and the row sums to more. Divide by the sum of the row.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "you divided by the mean instead of the sum",
            _mean_below,
            "Each row sums to its length; it must sum to 1.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the exponential is missing",
            _no_exponential,
            "Dividing plain logits by their sum gives negative weights as soon as a logit is negative, and divides by "
            "zero when they cancel. Exponentiate first: that makes every weight positive.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "1 + x stands where exp(x) should",
            _first_order,
            "1 + x is close to exp(x) only near 0; elsewhere weights become negative.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "you returned the logarithm of the softmax",
            _log_softmax,
            "Every value is 0 or below; weights lie between 0 and 1. Apply exp, or do not take the logarithm.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the sign of the logits is turned round",
            lambda x: _softmax(-x),
            "The smallest logit gets the largest weight. Softmax keeps the order: use exp(x - max), not exp(max - x).",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "softmax is applied twice",
            lambda x: _softmax(_softmax(x)),
            "The rows sum to 1, but the second pass sees numbers between 0 and 1 and flattens them: no weight can be "
            "more than e times another.",
            "softmax#softmax-temperature",
        ),
        Mistake(
            "each logit went through a sigmoid",
            lambda x: 1 / (1 + np.exp(-x)),
            "A sigmoid looks at one logit at a time, so nothing makes a row sum to 1. The logits of a row compete: "
            "divide exp(x) by the sum over the row.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the sum lost its axis (no keepdims)",
            _sum_lost_axis,
            "A row of sums was broadcast across columns: value [i, j] was divided by the sum of row j. Square inputs "
            "hide it, others raise. Pass keepdims=True (torch: keepdim=True) to the sum.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the maximum and the sum lost their axis (no keepdims)",
            _both_lost_axis,
            "A row of numbers was broadcast across columns: value [i, j] got the maximum and the sum of row j. Square "
            "inputs hide it, others raise. Pass keepdims=True (torch: keepdim=True) to both.",
            "softmax#softmax-axis",
        ),
    )


# --- attention -------------------------------------------------------------------------------------------------------


def _attend(query, key, value, *, divide: float | None = None, axis: int | None = -1):
    """softmax(QK^T / divide) V; the right `divide` is sqrt(d_k), the right `axis` the last."""
    divide = sqrt(query.shape[-1]) if divide is None else divide
    return _softmax(query @ _swap(key) / divide, axis) @ value


def _plain_sums(query, key, value):
    scores = _scores(query, key)
    return scores / scores.sum(axis=-1, keepdims=True) @ value


def _late_scale(query, key, value):
    return _softmax(query @ _swap(key)) @ value / sqrt(query.shape[-1])


def _problem(rng: np.random.Generator, *sizes: int, batch: tuple[int, ...] = ()) -> tuple[np.ndarray, ...]:
    """query, key, value for the sizes L_q, L_k, d_k, d_v."""
    q_len, k_len, d_k, d_v = sizes
    return _draw(rng, *batch, q_len, d_k), _draw(rng, *batch, k_len, d_k), _draw(rng, *batch, k_len, d_v)


def _huge(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of 10000, 9999, ... and -10000, exact in float32 since d_k = 4."""
    step = float(rng.integers(1, 4))
    query = _array([[100, 2, 0, 0], [-100, 0, 2, 0]])
    key = _array([[200, 0, 0, 0], [200, -step, step, 0], [-200, 0, 0, 0]])
    return query, key, _draw(rng, 3, 2)


# What holds for every average of the values, whatever the weights: used as an invariant by both questions.
def _within_values(got: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> bool:
    if got.size == 0:
        return True
    low, high = value.min(axis=-2, keepdims=True), value.max(axis=-2, keepdims=True)
    return bool(((got >= low - 1e-4) & (got <= high + 1e-4)).all())


@question(points=3, answer="attention")
class Attention:
    """Scaled dot-product attention: softmax(QK^T / sqrt(d_k)) V."""

    read = "scaled-dot-product#attention-formula"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first. No two sizes are equal where an axis could be mistaken for another."""
        value = _array([[0], [4]])
        yield Case((_array([[2, 0, 0]]), _array([[1, 0, 0], [0, 1, 0]]), value), note="one query and two keys")
        yield Case(_problem(rng, 2, 2, 2, 2), note="a case where all sizes are 2")
        yield Case(_problem(rng, 2, 3, 4, 2), note="two queries, three keys, d_k = 4, d_v = 2")
        yield Case(_problem(rng, 3, 3, 5, 2), note="three queries, three keys, d_k = 5, d_v = 2")
        yield Case(_problem(rng, 5, 4, 3, 6), note="five queries, four keys, d_k = 3, d_v = 6")

        yield Case(_problem(rng, 2, 1, 3, 2), part="shapes", note="a single key")
        yield Case(_problem(rng, 2, 3, 2, 1, batch=(2,)), part="shapes", note="a batch of two")
        yield Case(_problem(rng, 3, 3, 4, 2, batch=(2,)), part="shapes", note="a batch of two, as many keys as queries")
        yield Case(_problem(rng, 4, 3, 5, 2, batch=(2, 3)), part="shapes", note="a batch of two with three heads")
        yield Case(_problem(rng, 0, 3, 2, 2), part="shapes", note="no queries at all, query of shape (0, 2)")

        yield Case(_huge(rng), part="extreme", note="scores of 10000 and -10000")
        query, key, value = _huge(rng)
        yield Case((-query, key, value), part="extreme", note="scores of -10000 and 10000")
        yield Case((query * 0, key, value), part="extreme", note="a query of zeros, which likes all keys equally")

    def reference(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Vaswani et al. 2017, equation 1."""
        return _attend(query, key, value)

    invariants = (
        Invariant(
            "a value is nan or inf",
            lambda got, query, key, value: bool(np.isfinite(got).all()),
            "An average of finite values is finite. Does your softmax subtract each row's maximum?",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "an output lies outside the values",
            _within_values,
            "Each output is an average of the value rows, with weights that are positive and sum to 1, so it lies "
            "between the smallest and the largest value of its column.",
            "scaled-dot-product#attention-values",
        ),
    )

    mistakes = (
        Mistake(
            "the scores are not scaled",
            lambda q, k, v: _attend(q, k, v, divide=1),
            "Divide QK^T by sqrt(d_k). Without it the scores' variance grows with d_k and the softmax saturates.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by d_k instead of sqrt(d_k)",
            lambda q, k, v: _attend(q, k, v, divide=q.shape[-1]),
            "(Dividing by sqrt(d_k) twice, once for the queries and once for the keys, comes to the same.) The sum of "
            "d_k products has variance d_k, so its standard deviation is sqrt(d_k): divide by that, once.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by sqrt(d_v)",
            lambda q, k, v: _attend(q, k, v, divide=sqrt(v.shape[-1])),
            "The scores come from queries and keys: what counts is how many products each sums, which is d_k, "
            "query.shape[-1]. The width of the values has no part in it.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by the square root of the number of keys",
            lambda q, k, v: _attend(q, k, v, divide=sqrt(k.shape[-2])),
            "A longer sequence does not make a score larger; a wider key does. Use d_k, the last axis of key.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are multiplied by sqrt(d_k) instead of divided",
            lambda q, k, v: _attend(q, k, v, divide=1 / sqrt(q.shape[-1])),
            "That makes the scores' variance larger instead of bringing it back to 1.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scale is applied after the softmax",
            _late_scale,
            "The weights of each query then sum to 1 / sqrt(d_k), not to 1. Divide the scores, before the softmax.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the softmax runs over the queries",
            lambda q, k, v: _attend(q, k, v, axis=-2),
            "Each query shares out a weight of 1 among the keys: each row of weights, along the last axis, must sum "
            "to 1.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the softmax runs over axis 1 instead of the last axis",
            lambda q, k, v: _attend(q, k, v, axis=1),
            "Without a batch axis 1 is the last axis; with one it is not. Count from the end: axis=-1.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the softmax runs over all scores at once",
            lambda q, k, v: _attend(q, k, v, axis=None),
            "All weights together sum to 1; each row must do so by itself.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the scores are used without a softmax",
            lambda q, k, v: _scores(q, k) @ v,
            "Scores may be negative and sum to anything, so the result is no average of the values. Put a softmax "
            "between the scores and the values.",
            "scaled-dot-product#attention-formula",
        ),
        Mistake(
            "the softmax is applied to the output instead of the scores",
            lambda q, k, v: _softmax(_scores(q, k) @ v),
            "The softmax turns scores into weights. The output is an average of values and may be any number: its "
            "rows do not sum to 1.",
            "scaled-dot-product#attention-formula",
        ),
        Mistake(
            "the scores are divided by their plain sum instead of going through a softmax",
            _plain_sums,
            "Scores may be negative or cancel, so their share of the sum is no weight. Use the softmax.",
            "scaled-dot-product#attention-formula",
        ),
        Mistake(
            "you returned the weights and never used the values",
            lambda q, k, v: _softmax(_scores(q, k)),
            "The weights, of shape (L_q, L_k), say how much of each value to take; multiply them with the values to "
            "get the output, of shape (L_q, d_v).",
            "scaled-dot-product#attention-values",
        ),
        Mistake(
            "the keys stand where the values should",
            lambda q, k, v: _attend(q, k, k),
            "Keys decide how much of each position is taken, values what is taken: use weights @ value.",
            "scaled-dot-product#attention-values",
        ),
        Mistake(
            "queries and keys are swapped",
            lambda q, k, v: _attend(k, q, v),
            "scores[i, j] says how well query i matches key j, so queries give the rows: QK^T, not KQ^T.",
            "scaled-dot-product#attention-formula",
        ),
        Mistake(
            "the weights are transposed before they meet the values",
            lambda q, k, v: _swap(_softmax(_scores(q, k))) @ v,
            "Row i of the weights belongs to query i, and its weights sum to 1. Transposed, they no longer do: use "
            "weights @ value.",
            "scaled-dot-product#attention-values",
        ),
        Mistake(
            "the softmax does not subtract the row's maximum",
            lambda q, k, v: _no_shift(_scores(q, k)) @ v,
            "The formula is right, but exp overflows once a score is large and the output is nan. Use the stable "
            "softmax of the first question.",
            "softmax#softmax-max-shift",
        ),
    )


# --- masked attention ------------------------------------------------------------------------------------------------


def _masked_reference(query, key, value, mask):
    if query.shape[-2] == 0:
        return _scores(query, key) @ value
    scores = np.where(mask, _scores(query, key), -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.where(mask, np.exp(scores - np.where(np.isfinite(top), top, 0)), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1) @ value


def _filled(fill: float):
    return lambda q, k, v, mask: _softmax(np.where(mask, _scores(q, k), np.float32(fill))) @ v


def _inverted(q, k, v, mask):
    return _masked_reference(q, k, v, ~mask)


def _no_renormalising(q, k, v, mask):
    return _softmax(_scores(q, k)) * mask @ v


def _late_renormalising(q, k, v, mask):
    weights = _softmax(_scores(q, k)) * mask
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def _late_with_guard(q, k, v, mask):
    weights = _softmax(_scores(q, k)) * mask
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.float32(1e-9)) @ v


def _own_causal(q, k, v, mask):
    return _masked_reference(q, k, v, np.tri(q.shape[-2], k.shape[-2], dtype=bool))


def _any_masked_is_zero(q, k, v, mask):
    return _masked_reference(q, k, v, mask) * mask.all(axis=-1, keepdims=True)


def _transposed(q, k, v, mask):
    return _masked_reference(q, k, v, _swap(mask))


def _over_queries(fill: float):
    return lambda q, k, v, mask: _softmax(np.where(mask, _scores(q, k), np.float32(fill)), axis=-2) @ v


def _hidden_where_true(fill: float):
    return lambda q, k, v, mask: _softmax(np.where(mask, np.float32(fill), _scores(q, k))) @ v


def _unscaled_masked(q, k, v, mask):
    return _masked_reference(q * np.float32(sqrt(q.shape[-1])), k, v, mask)


def _masked_values(q, k, v, mask):
    """The mask, as numbers, multiplies the scores: a masked score is 0."""
    return _softmax(_scores(q, k) * mask) @ v


def _some_visible(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A random mask in which every row has a True and a False (rows of one key: True)."""
    mask = rng.random(shape) < 0.5
    first = rng.integers(0, shape[-1], size=shape[:-1])[..., None]
    np.put_along_axis(mask, (first + 1) % shape[-1], False, axis=-1)
    np.put_along_axis(mask, first, True, axis=-1)
    return mask


def _outside_visible(got: np.ndarray, query, key, value, mask) -> bool:
    return _within_values(got, query, key, np.concatenate([value, np.zeros_like(value[..., :1, :])], axis=-2))


@question(points=4, answer="masked_attention")
class MaskedAttention:
    """Attention under a boolean mask, where True means: may attend."""

    read = "scaled-dot-product#attention-mask"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "masked rows": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first; only the part "masked rows" has queries that may attend to nothing."""
        value = _array([[0], [4], [8]])
        query, key = _array([[2, 0, 0, 0]]), _array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]])
        mask = np.array([[True, True, False]])
        yield Case((query, key, value, mask), note="one query that may attend to the first two of three keys")
        mask = np.array([[False, True], [True, True]])
        yield Case((*_problem(rng, 2, 2, 4, 1), mask), note="two queries, of which the first may not see the first key")
        yield Case((*_problem(rng, 3, 3, 4, 2), np.tri(3, dtype=bool)), note="a causal mask over three positions")
        yield Case(
            (*_problem(rng, 2, 3, 2, 2), _some_visible(rng, 2, 3)), note="a random mask, two queries, three keys"
        )
        yield Case(
            (*_problem(rng, 5, 4, 3, 6), _some_visible(rng, 5, 4)), note="a random mask, five queries, four keys"
        )

        everything = np.ones((2, 3), dtype=bool)
        yield Case((*_problem(rng, 2, 3, 4, 2), everything), part="shapes", note="a mask that hides nothing")
        batched = _problem(rng, 2, 3, 4, 1, batch=(2,))
        yield Case((*batched, _some_visible(rng, 2, 3)), part="shapes", note="one mask for a batch of two")
        yield Case((*batched, _some_visible(rng, 2, 2, 3)), part="shapes", note="a mask for each of a batch of two")
        padding = np.array([[[True, True, False]], [[True, False, False]]])
        yield Case(
            (*batched, padding), part="shapes", note="a padding mask of shape (2, 1, 3), the same for all queries"
        )
        heads = _problem(rng, 2, 4, 3, 2, batch=(2, 3))
        yield Case((*heads, _some_visible(rng, 2, 1, 2, 4)), part="shapes", note="one mask for three heads")
        nothing = np.ones((0, 3), dtype=bool)
        yield Case(
            (*_problem(rng, 0, 3, 2, 2), nothing), part="shapes", note="no queries at all, query of shape (0, 2)"
        )

        yield from self._masked_rows(rng)
        yield from self._extreme(rng)

    def _masked_rows(self, rng: np.random.Generator) -> Iterator[Case]:
        part = "masked rows"
        alone = (_array([[2, 0]]), _array([[1, 0], [0, 1]]), _array([[2], [4]]))
        yield Case((*alone, np.array([[False, False]])), part=part, note="a query that may attend to nothing")
        mask = np.array([[True, False, True], [False, False, False]])
        value = _draw(rng, 3, 2) + 4  # no zero on average, so that an average is not mistaken for a zero
        query, key, _ = _problem(rng, 2, 3, 4, 2)
        yield Case((query, key, value, mask), part=part, note="two queries, of which the second may attend to nothing")
        query, key, value = _problem(rng, 2, 3, 4, 2, batch=(2,))
        padding = np.array([[[True, True, False]], [[False, False, False]]])
        yield Case((query, key, value + 4, padding), part=part, note="a batch in which one sequence is only padding")

    def _extreme(self, rng: np.random.Generator) -> Iterator[Case]:
        query, key, value = _huge(rng)
        hides_best = np.array([[False, False, True], [True, True, False]])
        note = "a masked key whose score is 20000 above the visible one"
        yield Case((query, key, value, hides_best), part="extreme", note=note)
        hides_worst = np.array([[True, True, False], [False, True, True]])
        yield Case((query, key, value, hides_worst), part="extreme", note="scores of 10000 and -10000")
        one = np.array([[False, True, False], [True, False, False]])
        yield Case((-query, key, value, one), part="extreme", note="one visible key, and scores of 10000 and -10000")

    def reference(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """softmax over the visible keys only; a query that may attend to nothing gives 0."""
        return _masked_reference(query, key, value, mask)

    invariants = (
        Invariant(
            "a value is nan or inf",
            lambda got, query, key, value, mask: bool(np.isfinite(got).all()),
            "Every output is finite: a query that may attend to nothing gets zeros, the others an average of values.",
            "scaled-dot-product#attention-masked-row",
        ),
        Invariant(
            "a query that may attend to nothing does not get zeros",
            lambda got, query, key, value, mask: bool(
                np.allclose(np.where(mask.any(axis=-1, keepdims=True), 0, got), 0, atol=1e-5)
            ),
            "There is nothing to average, and the answer agreed on is 0.",
            "scaled-dot-product#attention-masked-row",
        ),
        Invariant(
            "an output lies outside the values",
            _outside_visible,
            "Each output is an average of the visible values, with weights that are positive and sum to 1.",
            "scaled-dot-product#attention-values",
        ),
    )

    mistakes = (
        Mistake(
            "the mask is read the wrong way round",
            _inverted,
            "Here True means may attend. Hide the keys where the mask is False: fill where ~mask.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "keys are hidden where the mask is True",
            _hidden_where_true(-np.inf),
            "Here True means may attend: put -inf where the mask is False (where ~mask). A query that may see "
            "everything now sees nothing, and its row is nan.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "keys are hidden where the mask is True, with a large negative number",
            _hidden_where_true(-1e9),
            "Here True means may attend: fill where the mask is False (where ~mask), and with -inf. A query that may "
            "see everything now takes the plain mean.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "the mask is not used",
            lambda q, k, v, mask: _attend(q, k, v),
            "A masked key must get a weight of exactly 0.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "the mask is added to the scores as 0 and 1",
            lambda q, k, v, mask: _softmax(_scores(q, k) + mask) @ v,
            "That makes visible keys e times as likely and hides none. A masked score must become -inf, so that its "
            "weight is exactly 0.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "masked scores become 0",
            _masked_values,
            "(Multiplying the scores by the mask does that.) exp(0) is 1, not 0: a masked key still gets a weight, and "
            "more than a visible key with a negative score. A masked score must become -inf.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "masked scores become large and positive",
            _filled(1e9),
            "Then only masked keys get any weight. The fill is -inf (or very negative): check its sign.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "-10000 is used to hide a key",
            _filled(-1e4),
            "A visible score may be as low as that, and then the masked key shares its weight. The weight of a masked "
            "key must be exactly 0 whatever the scores: use -inf, and give a query without visible keys zeros.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "a query that may attend to nothing averages all values",
            _filled(-1e9),
            "When all scores of a row are the same -1e9, their softmax is uniform, and the row looks exactly where it "
            "must not. Set the output of such a row to 0 (mask.any over the last axis tells which they are).",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "a query that may attend to nothing gives nan",
            _filled(-np.inf),
            "The maximum of such a row is -inf, and -inf - (-inf) is nan. Set the output of such a row to 0: mask.any "
            "over the last axis tells which they are.",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "the weights are masked after the softmax and not renormalised",
            _no_renormalising,
            "The visible weights of a row then sum to less than 1, since the masked keys took their share of the sum. "
            "Mask the scores, before the softmax.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "the weights are masked after the softmax and then renormalised",
            _late_renormalising,
            "On paper that is the same; in floating point a masked key with a huge score leaves 0 for all visible "
            "keys, and 0 / 0 is nan. Mask the scores, before the softmax.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "the softmax's maximum is taken over masked keys, too",
            _late_with_guard,
            "A masked key with a huge score then pushes the exponentials of all visible keys to 0, and a row that "
            "sees something gets nothing. Mask the scores first, then take the maximum.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "the mask is transposed",
            _transposed,
            "Rows of the mask are queries and columns are keys, just like the scores: mask[i, j] says whether query i "
            "may see key j.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "a causal mask of your own is used instead of the one given",
            _own_causal,
            "The mask may be any pattern: use the argument.",
            "scaled-dot-product#attention-causal",
        ),
        Mistake(
            "every query with a masked key gets zeros",
            _any_masked_is_zero,
            "Only a query with no visible key gets zeros: ask mask.any, not mask.all, over the last axis.",
            "scaled-dot-product#attention-masked-row",
        ),
        Mistake(
            "the softmax runs over the queries",
            _over_queries(-1e9),
            "Each query shares out a weight of 1 among the keys that it may see: the softmax runs over the last axis.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the softmax runs over the queries, and meets keys that are hidden from all of them",
            _over_queries(-np.inf),
            "The softmax runs over the last axis, the keys. Along the queries, a key that nobody may see is a column "
            "of -inf, and its softmax is nan.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the scores are not scaled",
            _unscaled_masked,
            "Divide QK^T by sqrt(d_k), as in the question before.",
            "scaled-dot-product#attention-scale",
        ),
    )
