"""Decoding: from probabilities to text.

Five questions: greedy decoding, filters for drawing, the draw itself, beam search, and attention with a cache.
The first four take tables of numbers for a language model, so that an answer stands alone. Numbers are halves or
quarters: sums of them are exact in float32, so a tie is a tie in every framework.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Resource, Tolerance, question
from attnkit.lab.steps import Build, Call, Get

SINGLE_PRECISION = Tolerance(rtol=1e-3, atol=1e-5)

# Libraries that have the answers ready-made.
_NO_GENERATION = ("attnkit", "transformers.GenerationMixin", "transformers.generation", "transformers.pipeline")


def _halves(rng: np.random.Generator, *shape: int, low: int = -3, high: int = 3) -> np.ndarray:
    """Halves from `low` to `high`."""
    return (rng.integers(2 * low, 2 * high + 1, size=shape) / 2).astype(np.float32)


def _real(rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def _until(make: Callable[[], tuple[Any, ...]], tells: Callable[..., bool]) -> tuple[Any, ...]:
    """The first inputs of `make` for which `tells` holds, so that no draw lets a mistake pass by chance.

    On average it takes from 2 to 250 draws, so that the end of the loop is never met.
    """
    for _ in range(50_000):
        inputs = make()
        with np.errstate(all="ignore"):
            if tells(*inputs):
                return inputs
    raise AssertionError("no such inputs were drawn")


def _differs(got: Any, want: Any) -> bool:
    return np.shape(got) != np.shape(want) or not np.allclose(got, want, atol=1e-3)


# --- greedy ----------------------------------------------------------------------------------------------------------


def _greedy(
    table: np.ndarray,
    start: np.ndarray,
    end: int,
    max_new: int,
    *,
    best: Callable[[np.ndarray], np.ndarray] = lambda scores: scores.argmax(axis=-1),
    freezes: bool = True,
    moves: bool = True,
    feeds: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda table, last: table[last],
) -> np.ndarray:
    """`max_new` times the most likely token after the last one; a row that has ended gets `end` from then on."""
    last, ended, chosen = start, np.zeros(len(start), dtype=bool), []
    for _ in range(max_new):
        token = best(feeds(table, last))
        if freezes:
            token = np.where(ended, end, token)
        ended = ended | (token == end)
        chosen.append(token)
        last = token if moves else last
    return np.stack(chosen, axis=1)


def _last_of_equals(scores: np.ndarray) -> np.ndarray:
    return scores.shape[-1] - 1 - scores[..., ::-1].argmax(axis=-1)


def _stops_together(table, start, end, max_new):
    """The loop ends as soon as one row has ended; what is missing is filled up with `end`."""
    tokens = _greedy(table, start, end, max_new, freezes=False)
    if not tokens.size:
        return tokens
    stop = np.flatnonzero((tokens == end).any(axis=0))[:1]
    tokens[:, int(stop[0]) + 1 if stop.size else max_new :] = end
    return tokens


def _with_start(table, start, end, max_new):
    return np.concatenate([start[:, None], _greedy(table, start, end, max_new)], axis=1)[:, :max_new]


def _end_left_out(table, start, end, max_new):
    without = table.copy()
    without[:, end] = -np.inf
    return _greedy(without, start, end, max_new)


def _as_drawn_first(table, start, end, max_new):
    """Every row gets what the first one gets."""
    return np.broadcast_to(_greedy(table, start[:1], end, max_new), (len(start), max_new))


def _frozen_at_the_last(table, start, end, max_new):
    """What follows the end is 0, whatever `end` is."""
    tokens = _greedy(table, start, end, max_new)
    after = np.cumsum(tokens == end, axis=1) > 1
    return np.where(after, 0, tokens)


def _values_in_place_of_tokens(table, start, end, max_new):
    tokens = _greedy(table, start, end, max_new)
    return table[np.concatenate([start[:, None], tokens], axis=1)[:, :-1], tokens]


def _ends_at_different_steps(table: np.ndarray, start: np.ndarray, end: int, max_new: int) -> bool:
    """One row ends early, another later or never; after an end the table would go on to another token."""
    tokens = _greedy(table, start, end, max_new)
    lengths = (tokens != end).sum(axis=1)
    distinct = all(np.sort(row)[-1] > np.sort(row)[-2] for row in table)
    return bool(distinct and table[end].argmax() != end and len(set(lengths)) == len(start) and lengths.min() > 0)


@question(points=2, answer="greedy")
class Greedy:
    """The most likely next token, again and again, for a batch of texts."""

    read = "decoding#decoding-likely"
    forbidden = _NO_GENERATION
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        after = int(rng.integers(0, 2))  # 0 leads to 1 or to 2, and this one leads on to the end
        three = [[-3, -1, -2, -4], [-2, -4, -3, -1], [-4, -2, -3, -1], [-1, -2, -3, -4]]
        if after:
            three[0] = [-3, -2, -1, -4]
        yield Case((_real(three), np.array([0]), 3, 2), note="one text, two tokens")
        three[1 + after] = [-1, -4, -3, -2]
        yield Case((_real(three), np.array([0]), 3, 3), note="one text, three tokens, no end")
        batch = _until(lambda: self._problem(rng, 5, 2, 4), self._tells)
        yield Case(batch, note="two texts that end at different steps")
        batch = _until(lambda: self._problem(rng, 7, 3, 6), self._tells)
        yield Case(batch, note="three texts that end at different steps")

        tied = _halves(rng, 4, 4, low=-6, high=-4)
        tied[0, 1] = tied[0, 2] = -1
        tied[1, 0] = tied[1, 2] = tied[1, 1] = -2
        tied[2, 1] = -1
        yield Case((tied, np.array([0]), 3, 3), part="edges", note="tokens that are equally likely")
        sure = np.full((3, 3), -np.inf, np.float32)
        sure[0, 1] = sure[1, 2] = sure[2, 0] = 0
        yield Case((sure, np.array([0, 1]), 2, 3), part="edges", note="impossible tokens, log-probability -inf")
        free = _halves(rng, 4, 4, low=-9, high=-1)
        free[[0, 1, 2], rng.permutation(3)] = -0.5
        one = np.array([int(rng.integers(0, 3))])
        yield Case((free, one, 3, 1), part="edges", note="one token")
        yield Case((free, np.zeros(0, int), 3, 2), part="edges", note="no text, start of shape (0,)")

    @staticmethod
    def _problem(rng: np.random.Generator, vocab: int, texts: int, max_new: int) -> tuple[Any, ...]:
        end = int(rng.integers(1, vocab))
        others = np.delete(np.arange(vocab), end)
        return _halves(rng, vocab, vocab, low=-12, high=-1), rng.choice(others, texts, replace=False), end, max_new

    @staticmethod
    def _tells(table, start, end, max_new) -> bool:
        want = _greedy(table, start, end, max_new)
        wrong = (
            _greedy(table, start, end, max_new, feeds=lambda t, last: t.T[last]),
            _greedy(table, start, end, max_new, moves=False),
            _stops_together(table, start, end, max_new),
            _end_left_out(table, start, end, max_new),
        )
        return _ends_at_different_steps(table, start, end, max_new) and all(_differs(one, want) for one in wrong)

    def reference(self, table: np.ndarray, start: np.ndarray, end: int, max_new: int) -> np.ndarray:
        """(texts, max_new): the tokens that follow `start`; after `end` comes `end`."""
        return _greedy(table, start, end, max_new)

    invariants = (
        Invariant(
            "a text goes on after its end",
            lambda got, table, start, end, max_new: bool((got[:, 1:][got[:, :-1] == end] == end).all()),
            "Once a row has chosen `end`, each of its further tokens is `end`, while the other rows go on.",
            "decoding#decoding-likely",
        ),
        Invariant(
            "there is a token that the vocabulary does not have",
            lambda got, table, start, end, max_new: bool(np.isin(got, np.arange(len(table))).all()),
            "A token is a whole number from 0 to V - 1: the place in the row, and not the value that stands there.",
            "decoding#decoding-likely",
        ),
        Invariant(
            "a first token is not the most likely one",
            lambda got, table, start, end, max_new: bool(
                np.allclose(table[start, got[:, 0].astype(int)], table[start].max(axis=-1))
            ),
            "The first token of row i is the one for which table[start[i]] is largest.",
            "decoding#decoding-likely",
        ),
    )

    mistakes = (
        Mistake(
            "a text that has ended goes on",
            lambda t, s, e, n: _greedy(t, s, e, n, freezes=False),
            "After `end` the text is over: whatever the table says comes next is not part of it. Remember which rows "
            "have ended, and give them `end` from then on.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "all texts stop when the first one ends",
            _stops_together,
            "The rows of a batch end at different steps. Leave the loop early only when every row has ended.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the table is read by columns",
            lambda t, s, e, n: _greedy(t, s, e, n, feeds=lambda table, last: table.T[last]),
            "table[i, j] belongs to token j after token i: what may follow `last` stands in the row table[last].",
            "decoding#decoding-likely",
        ),
        Mistake(
            "every step looks at the first token again",
            lambda t, s, e, n: _greedy(t, s, e, n, moves=False),
            "The token that you have just chosen is the one that the next step starts from.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "you took the least likely token",
            lambda t, s, e, n: _greedy(t, s, e, n, best=lambda scores: scores.argmin(axis=-1)),
            "Log-probabilities are negative, and the most likely token has the one nearest to 0: the largest, argmax.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "you returned log-probabilities and not tokens",
            _values_in_place_of_tokens,
            "max gives the largest value, argmax the place where it stands, and that place is the token. (In torch, "
            "max(dim=-1) gives both: take its indices.)",
            "decoding#decoding-likely",
        ),
        Mistake(
            "of equally likely tokens you took the last",
            lambda t, s, e, n: _greedy(t, s, e, n, best=_last_of_equals),
            "The rule here: of equally likely tokens the one with the smallest id. That is what argmax does; a sort "
            "that is turned round does the opposite.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the start is among the tokens that you return",
            _with_start,
            "Return the new tokens only: max_new of them, of which the first is the one that follows `start`.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the end is never chosen",
            _end_left_out,
            "`end` is a token like any other until it is chosen. If it is the most likely one, it is chosen, and the "
            "text is over.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "all texts get the tokens of the first",
            _as_drawn_first,
            "Each row starts from its own token and goes its own way: take the argmax along the last axis, for every "
            "row, and index the table with all the last tokens at once.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "a text that has ended is filled up with 0",
            _frozen_at_the_last,
            "Zero is a token, too. What follows the end here is `end`, again and again.",
            "decoding#decoding-likely",
        ),
    )


# --- filters ---------------------------------------------------------------------------------------------------------


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    if x.size == 0:
        return x
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def _share(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=-1, keepdims=True)


def _before(probabilities: np.ndarray) -> np.ndarray:
    """What the tokens before each one sum to."""
    return np.concatenate([np.zeros_like(probabilities[..., :1]), probabilities[..., :-1].cumsum(axis=-1)], axis=-1)


def _ranked(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order from the most to the least likely, equals by their id, and the logits in it."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    return order, np.take_along_axis(logits, order, axis=-1)


def _put_back(values: np.ndarray, order: np.ndarray, like: np.ndarray) -> np.ndarray:
    out = np.zeros(like.shape, values.dtype)
    np.put_along_axis(out, order[..., : values.shape[-1]], values, axis=-1)
    return out


def _filtered(logits: np.ndarray, temperature: float, k: int, p: float) -> np.ndarray:
    order, ranked = _ranked(logits / temperature)
    best = _softmax(ranked[..., :k])
    nucleus = np.where(_before(best) < p, best, 0)
    return _put_back(_share(nucleus), order, logits)


def _kept(logits: np.ndarray, temperature: float, k: int, keep: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """As `_filtered`, with another rule: `keep` says, of the ranked probabilities of the k best, which ones stay."""
    order, ranked = _ranked(logits / temperature)
    best = _softmax(ranked[..., :k])
    return _put_back(_share(np.where(keep(best), best, 0)), order, logits)


def _crossing_dropped(best: np.ndarray, p: float) -> np.ndarray:
    keep = best.cumsum(axis=-1) <= p
    keep[..., :1] = True
    return keep


def _hot_afterwards(logits, temperature, k, p):
    kept = _filtered(logits, 1.0, k, p)
    return _share(np.where(kept > 0, np.exp(np.log(kept) / temperature), 0))


def _unnormalised(logits, temperature, k, p):
    order, ranked = _ranked(logits / temperature)
    best = _softmax(ranked[..., :k])
    return _put_back(np.where(_before(best) < p, best, 0), order, logits)


def _over_all(logits, temperature, k, p):
    """The nucleus counts the probability of the tokens that top-k has taken away."""
    order, ranked = _ranked(logits / temperature)
    everything = _softmax(ranked)
    kept = (_before(everything) < p) & (np.arange(logits.shape[-1]) < k)
    return _put_back(_share(np.where(kept, everything, 0)), order, logits)


def _in_order_of_ids(logits, temperature, k, p):
    order, ranked = _ranked(logits / temperature)
    best = _put_back(_softmax(ranked[..., :k]), order, logits)
    return _share(np.where(_before(best) < p, best, 0))


def _ascending(logits, temperature, k, p):
    order, ranked = _ranked(logits / temperature)
    best = _put_back(_softmax(ranked[..., :k]), order, logits)
    up = order[..., ::-1]
    rising = np.take_along_axis(best, up, axis=-1)
    return _put_back(_share(np.where(_before(rising) < p, rising, 0)), up, logits)


def _left_sorted(logits, temperature, k, p):
    return -np.sort(-_filtered(logits, temperature, k, p), axis=-1)


def _gathered(logits, temperature, k, p):
    order, _ = _ranked(logits / temperature)
    return np.take_along_axis(_left_sorted(logits, temperature, k, p), order, axis=-1)


def _all_that_tie(logits, temperature, k, p):
    kept = _filtered(logits, temperature, k, p)
    least = np.where(kept > 0, logits, np.inf).min(axis=-1, keepdims=True)
    return _softmax(np.where(logits >= least, logits / temperature, -np.inf))


def _no_shift(logits, temperature, k, p):
    order, ranked = _ranked(logits / temperature)
    best = _share(np.exp(ranked[..., :k]))
    return _put_back(_share(np.where(_before(best) < p, best, 0)), order, logits)


def _first_axis(logits, temperature, k, p):
    """Softmax along the first axis; the rest is as it should be."""
    return _filtered(np.log(_softmax(logits / temperature, axis=0)), 1.0, k, p)


@question(points=3, answer="filtered")
class Filtered:
    """Temperature, then top-k, then top-p with p = {p}: the distribution to draw the next token from.

    Your p is {p}. Divide the logits by the temperature, keep the k most likely tokens (all of them if there are fewer),
    and let their probabilities sum to 1. Of these keep the fewest, the most likely first, whose probabilities sum to
    {p} or more; let them sum to 1 again. Of equally likely tokens the one with the smaller id comes first.
    """

    read = "decoding#decoding-filters"
    forbidden = (*_NO_GENERATION, "transformers.TopPLogitsWarper", "transformers.TopKLogitsWarper")
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "edges": 1}
    p: float

    def variant(self, rng: np.random.Generator) -> dict[str, float]:
        """Each student's own p. None of them is a sum of equal shares that the cases have."""
        return {"p": float(rng.choice([0.6, 0.65, 0.7, 0.8, 0.85, 0.9]))}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        yield Case(self._told(rng, 4, 1.0, 4, self._nucleus_alone), note="four tokens, of which top-p takes some away")
        yield Case(self._told(rng, 5, 0.5, 5, self._heat_matters), note="five tokens, temperature 0.5")
        yield Case(self._told(rng, 5, 2.0, 5, self._heat_matters), note="five tokens, temperature 2")
        yield Case(self._told(rng, 8, 1.0, 4, self._both_cut), note="eight tokens, the 4 best, and top-p of these")
        yield Case(self._told(rng, 9, 1.5, 5, self._both_cut), note="nine tokens, temperature 1.5, and the 5 best")

        yield from self._shapes(rng)
        yield from self._edges(rng)

    def _shapes(self, rng: np.random.Generator) -> Iterator[Case]:
        rows = [self._told(rng, 6, 1.5, 5, self._both_cut)[0] for _ in range(6)]
        low = np.arange(6, dtype=np.float32)[:, None] * 2
        yield Case((np.stack(rows[:2]) - low[:2], 1.5, 5), part="shapes", note="two rows of six tokens")
        many = (np.stack(rows) - low).reshape(2, 3, 6)
        yield Case((many, 1.5, 5), part="shapes", note="an array with three axes")
        yield Case((_halves(rng, 2, 1), 1.0, 3), part="shapes", note="a vocabulary of one token")
        yield Case((_halves(rng, 0, 4), 1.0, 2), part="shapes", note="no rows at all, logits of shape (0, 4)")

    def _edges(self, rng: np.random.Generator) -> Iterator[Case]:
        part = "edges"
        beyond, _, _ = self._told(rng, 4, 1.0, 4, self._nucleus_alone)
        yield Case((beyond, 1.0, 50), part=part, note="a k that is larger than the vocabulary")
        yield Case(self._told(rng, 4, 1.0, 1, self._second_is_near), part=part, note="k = 1: one token stays")
        sure = np.roll(_real([6, 0, -1, 0.5]), int(rng.integers(0, 4)))
        yield Case((sure, 1.0, 4), part=part, note="one token that has more than p by itself")
        first = int(rng.integers(1, 3))
        tied = np.roll(_real([1, 0, 1, 1, -1]), first)
        yield Case((tied, 1.0, 2), part=part, note="three tokens that tie, of which k = 2 may stay")
        even = np.full(13, float(rng.integers(-2, 3)), np.float32)
        yield Case((even, 1.0, 13), part=part, note="thirteen tokens that are equally likely")
        banned, _, _ = self._told(rng, 4, 1.0, 4, self._nucleus_alone)
        yield Case((np.insert(banned, 1, -np.inf), 1.0, 5), part=part, note="a logit of -inf: a forbidden token")
        step = float(rng.integers(1, 3)) / 2
        far = _real([1000, 1000 - step, -1000, 1000 - 2 * step])
        yield Case((far, 1.0, 4), part=part, note="logits near 1000 and -1000")
        yield Case((self._told(rng, 4, 1.0, 4, self._nucleus_alone)[0], 0.01, 4), part=part, note="temperature 0.01")

    def _told(self, rng, vocab, temperature, k, tells) -> tuple[Any, ...]:
        """Logits whose nucleus is no matter of rounding, and by which `tells` sees what it is there for."""

        def clear(logits, temperature, k):
            sums = _softmax(_ranked(logits / temperature)[1][..., :k]).cumsum(axis=-1)
            values = len(np.unique(logits)) == vocab
            return values and np.abs(sums - self.p).min() > 0.01 and tells(logits, temperature, k)

        return _until(lambda: (_halves(rng, vocab, low=-4, high=4) / 2, temperature, k), clear)

    def _all_differ(self, logits, temperature, k, *wrong) -> bool:
        want = _filtered(logits, temperature, k, self.p)
        return all(_differs(f(logits, temperature, k, self.p), want) for f in wrong)

    def _nucleus_alone(self, logits, temperature, k) -> bool:
        count = int((_filtered(logits, temperature, k, self.p) > 0).sum())
        wrong = (_in_order_of_ids, _ascending, _left_sorted, _gathered)
        return 2 <= count < len(logits) and self._all_differ(logits, temperature, k, *wrong)

    def _second_is_near(self, logits, temperature, k) -> bool:
        """Of one token more it would be kept."""
        return bool((_filtered(logits, temperature, k + 1, self.p) > 0).sum() > k)

    def _heat_matters(self, logits, temperature, k) -> bool:
        count = int((_filtered(logits, temperature, k, self.p) > 0).sum())
        warm = _filtered(logits, 1.0, k, self.p) > 0
        changed = int(warm.sum()) != count
        return 2 <= count < len(logits) and changed and self._all_differ(logits, temperature, k, _hot_afterwards)

    def _both_cut(self, logits, temperature, k) -> bool:
        """Top-k cuts, top-p cuts more, and it matters which sum top-p goes by."""
        count = int((_filtered(logits, temperature, k, self.p) > 0).sum())
        whole = int((_over_all(logits, temperature, k, self.p) > 0).sum())
        alone = int((_filtered(logits, temperature, len(logits), self.p) > 0).sum())
        return 2 <= count < k and count not in (whole, alone)

    def reference(self, logits: np.ndarray, temperature: float, k: int) -> np.ndarray:
        """(..., V): probabilities of the tokens that may be drawn, 0 for the others."""
        return _filtered(logits, temperature, k, self.p)

    invariants = (
        Invariant(
            "a probability is nan or inf",
            lambda got, logits, temperature, k: bool(np.isfinite(got).all()),
            "nan comes from inf / inf or from 0 / 0: subtract the maximum before you exponentiate, and always keep "
            "at least one token.",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "a row does not sum to 1",
            lambda got, logits, temperature, k: bool(np.allclose(got.sum(axis=-1), 1, atol=1e-3)),
            "What is left is a distribution: divide by the sum of what you kept.",
            "decoding#decoding-filters",
        ),
        Invariant(
            "more than k tokens are left",
            lambda got, logits, temperature, k: bool(((got > 0).sum(axis=-1) <= k).all()),
            "Top-k leaves k tokens at most, and top-p takes away some of these.",
            "decoding#decoding-filters",
        ),
        Invariant(
            "the most likely token is not among those that are left",
            lambda got, logits, temperature, k: bool(
                (np.take_along_axis(got, logits.argmax(axis=-1)[..., None], axis=-1) > 0).all()
            ),
            "Filters take from the unlikely end. See that each probability is at the place of its own token again.",
            "decoding#decoding-filters",
        ),
    )

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """They need the student's p."""
        p, read = self.p, "decoding#decoding-filters"

        def kept(keep: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
            return lambda z, t, k: _kept(z, t, k, keep)

        def with_p(wrong: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
            return lambda z, t, k: wrong(z, t, k, p)

        return (
            Mistake(
                "the logits are multiplied by the temperature",
                lambda z, t, k: _filtered(z * t, 1.0, k, p),
                "A low temperature should make the likely more likely, so the differences between logits must grow: "
                "divide by it.",
                read,
            ),
            Mistake(
                "the temperature is not used",
                lambda z, t, k: _filtered(z, 1.0, k, p),
                "Divide the logits by the temperature first; at temperature 1 you cannot see that it is missing.",
                read,
            ),
            Mistake(
                "the temperature comes after the filters",
                with_p(_hot_afterwards),
                "Then a hot distribution is cut as if it were a cold one. Divide the logits first: which tokens make "
                "up p depends on the temperature.",
                read,
            ),
            Mistake(
                "the token that crosses p is dropped",
                kept(lambda best: _crossing_dropped(best, p)),
                "What you keep must sum to p or more, so the token with which the sum reaches p belongs to it. Keep a "
                "token when those *before* it sum to less than p.",
                read,
            ),
            Mistake(
                "the token that crosses p is dropped, even if it is the first",
                kept(lambda best: best.cumsum(axis=-1) <= p),
                "A token that has more than p by itself is then dropped, nothing is left, and 0 / 0 is nan. Keep a "
                "token when those *before* it sum to less than p: before the first there is nothing.",
                read,
            ),
            Mistake(
                "what is left is not made to sum to 1",
                with_p(_unnormalised),
                "After the last filter the probabilities sum to p or a little more. Divide them by their sum.",
                read,
            ),
            Mistake(
                "top-k does nothing",
                lambda z, t, k: _filtered(z, t, z.shape[-1], p),
                "Every token can still be drawn. Perhaps its result is thrown away: masked_fill returns a new tensor "
                "and leaves the old one as it was. With k = 1 exactly one token must be left.",
                "use#museum-top-k-discarded",
            ),
            Mistake(
                "top-p does nothing",
                lambda z, t, k: _filtered(z, t, k, 2.0),
                "Of the k best, those in the tail are still there. Keep the fewest that sum to p or more.",
                read,
            ),
            Mistake(
                "the nucleus counts tokens that top-k took away",
                with_p(_over_all),
                "After top-k the k best sum to 1 again, and p is a share of *that*. Take the softmax over the tokens "
                "that are left before you add up.",
                read,
            ),
            Mistake(
                "probabilities are added up in the order of the vocabulary",
                with_p(_in_order_of_ids),
                "The fewest tokens that reach p are the most likely ones: sort in descending order before you add up.",
                read,
            ),
            Mistake(
                "probabilities are added up from the least likely one",
                with_p(_ascending),
                "sort and argsort go upwards by themselves, and so you keep the worst tokens. The most likely one must "
                "come first.",
                read,
            ),
            Mistake(
                "the probabilities are still sorted",
                with_p(_left_sorted),
                "Entry j must belong to token j. Put each value back to the place that it came from.",
                read,
            ),
            Mistake(
                "the probabilities are put back by the wrong permutation",
                with_p(_gathered),
                "order[r] is the id of the token of rank r, so out[order[r]] = value[r]: scatter, or gather with the "
                "*inverse* order (argsort of order). Gathering with `order` itself shuffles a second time.",
                read,
            ),
            Mistake(
                "a token stays if it is at least p times as likely as the best",
                kept(lambda best: best >= p * best[..., :1]),
                "That filter exists, too; it is called min-p. Top-p goes by the sum of the probabilities, from the "
                "most likely token on.",
                read,
            ),
            Mistake(
                "1 - p stands where p should",
                lambda z, t, k: _filtered(z, t, k, 1 - p),
                "p is what you keep, and 1 - p what you drop. From the likely end, stop when the sum reaches p.",
                read,
            ),
            Mistake(
                "all tokens that tie with the last one stay",
                with_p(_all_that_tie),
                "(Some libraries do that.) The rule here: of equally likely tokens the one with the smaller id comes "
                "first, so top-k leaves exactly k. Go by the place in a stable sort, not by a smallest value.",
                read,
            ),
            Mistake(
                "one token more than k stays",
                lambda z, t, k: _filtered(z, t, k + 1, p),
                "Ranks begin at 0: rank < k, not rank <= k. With k = 1 exactly one token must be left.",
                read,
            ),
            Mistake(
                "the softmax does not subtract the maximum",
                with_p(_no_shift),
                "exp(1000) is inf, and so is the exponential of an ordinary logit that was divided by a temperature of "
                "0.01. Subtract the row's maximum first.",
                "softmax#softmax-max-shift",
            ),
            Mistake(
                "the softmax runs along the first axis",
                with_p(_first_axis),
                "Each row, along the last axis, is a distribution of its own.",
                "softmax#softmax-axis",
            ),
        )


# --- the draw --------------------------------------------------------------------------------------------------------


def _draw(weights: np.ndarray, u: np.ndarray) -> np.ndarray:
    heights = weights.cumsum(axis=-1)
    return (heights <= u[..., None] * heights[..., -1:]).sum(axis=-1)


def _unscaled(weights, u):
    heights = weights.cumsum(axis=-1)
    return np.minimum((heights <= u[..., None]).sum(axis=-1), weights.shape[-1] - 1)


def _from_the_left(weights, u):
    heights = weights.cumsum(axis=-1)
    return (heights < u[..., None] * heights[..., -1:]).sum(axis=-1)


def _nearest(weights, u):
    heights = weights.cumsum(axis=-1)
    return np.abs(heights - u[..., None] * heights[..., -1:]).argmin(axis=-1)


def _in_order_of_weight(weights, u, inverse: bool):
    order = np.argsort(-weights, axis=-1, kind="stable")
    rank = _draw(np.take_along_axis(weights, order, axis=-1), u)
    return np.take_along_axis(order, rank[..., None], axis=-1)[..., 0] if inverse else rank


def _one_sum_for_all(weights, u):
    heights = weights.cumsum().reshape(weights.shape)
    return np.minimum((heights <= u[..., None] * heights[..., -1:]).sum(axis=-1), weights.shape[-1] - 1)


def _one_number_for_all(weights, u):
    return _draw(weights, np.full(u.shape, u.reshape(-1)[0]) if u.size else u)


@question(points=2, answer="draw")
class Draw:
    """One token by chance: the one in whose share of the weights a given number from 0 to 1 falls."""

    read = "decoding#decoding-filters"
    forbidden = (
        *_NO_GENERATION,
        *("torch.multinomial", "torch.Tensor.multinomial", "torch.distributions.Categorical", "random.choices"),
        *("numpy.random.choice", "numpy.random.Generator.choice", "numpy.random.multinomial"),
    )
    parts: ClassVar = {"ordinary": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Weights are halves and u has few binary places, so a boundary is met exactly or not at all."""
        three = _real([2, 1, 1]) * int(rng.integers(1, 4))
        yield Case((three, _real(0.125)), note="three tokens, u = 0.125")
        yield Case((three, _real(0.625)), note="three tokens, u = 0.625")
        yield Case((three, _real(0.875)), note="three tokens, u = 0.875")
        rows = np.concatenate([rng.integers(1, 7, (4, 5)) / 2, np.full((4, 1), 0.5)], axis=1).astype(np.float32)
        yield Case((rows, _real([7, 23, 39, 57]) / 64), note="four rows of six tokens")
        rare = np.array([[1, 1, 6], [6, 1, 1]], np.float32) / 8
        yield Case((rare, _real([0.1875, 0.8125])), note="two rows of probabilities, eighths")

        part = "edges"
        yield Case((_real([1, 1, 2]), _real(0.5)), part=part, note="a number that falls on a boundary exactly")
        yield Case((_real([0, 0, 1, 1]), _real(0.0)), part=part, note="u = 0, and tokens of weight 0 in front")
        last = _real([1, float(rng.integers(1, 4)), 0, 0])
        yield Case((last, _real(1 - 2**-24)), part=part, note="the largest u below 1, and weights of 0 at the end")
        yield Case((_real([1, 0, 0, 1]), _real(0.5)), part=part, note="weights of 0 between others")
        many = rng.integers(1, 5, (2, 3, 4)).astype(np.float32)
        yield Case((many, _real((2 * rng.integers(0, 32, (2, 3)) + 1) / 64)), part=part, note="three axes")
        yield Case((_real([float(rng.integers(1, 9))]), _real(0.75)), part=part, note="a vocabulary of one token")
        yield Case((_halves(rng, 0, 3), _real([])), part=part, note="no rows at all, weights of shape (0, 3)")

    def reference(self, weights: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The first token at which the sum of the weights is more than u times the sum of all."""
        return _draw(weights, u)

    invariants = (
        Invariant(
            "there is a token that the vocabulary does not have",
            lambda got, weights, u: bool(np.isin(got, np.arange(weights.shape[-1])).all()),
            "The tokens are 0 to V - 1. Compare with u times the *sum* of the weights, and look at where you start to "
            "count.",
            "decoding#decoding-filters",
        ),
        Invariant(
            "a token of weight 0 is drawn",
            lambda got, weights, u: bool((np.take_along_axis(weights, got.astype(int)[..., None], axis=-1) > 0).all()),
            "Its share is empty, so no number can fall into it: the token is the first whose sum is *more* than u.",
            "decoding#decoding-filters",
        ),
    )

    mistakes = (
        Mistake(
            "a number on a boundary goes to the token below",
            _from_the_left,
            "The share of a token begins where the one before ends, and its end belongs to the next: the sum must be "
            "*more* than u (searchsorted with side='right', torch: right=True). Otherwise u = 0 draws a token of "
            "weight 0.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "the weights are taken to sum to 1",
            _unscaled,
            "They may sum to anything, and rounding alone moves the sum of a softmax away from 1. Compare with u times "
            "their sum.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "the largest weight always wins",
            lambda weights, u: weights.argmax(axis=-1),
            "That is greedy decoding. The number u decides: a token of weight w is to be drawn for a share w of all u.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "you count one too few",
            lambda weights, u: _draw(weights, u) - 1,
            "The number of sums that are not more than u *is* the token, as ids begin at 0. With a small u that is 0.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "you count one too many",
            lambda weights, u: np.minimum(_draw(weights, u) + 1, weights.shape[-1] - 1),
            "With a small u no sum is below it, and the token is 0: ids begin at 0.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "you took the nearest sum",
            _nearest,
            "A share begins at one sum and ends at the next, so both ends count. The token is the first whose sum is "
            "more than u.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "the weights are sorted, and you returned the rank",
            lambda weights, u: _in_order_of_weight(weights, u, inverse=False),
            "There is nothing to sort: the shares lie in the order of the vocabulary. A rank is no token.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "the shares lie in the order of their size",
            lambda weights, u: _in_order_of_weight(weights, u, inverse=True),
            "That is fair as well, but it is not what is asked: here the shares lie in the order of the vocabulary, so "
            "that everybody draws the same token for the same u.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "the shares are laid out from the other end",
            lambda weights, u: weights.shape[-1] - 1 - _draw(weights[..., ::-1], u),
            "A u near 0 must give the first token. Is it 1 - u, or a sum from the right?",
            "decoding#decoding-filters",
        ),
        Mistake(
            "sums go on from row to row",
            _one_sum_for_all,
            "Each row is a distribution of its own: cumsum over the last axis (axis=-1).",
            "decoding#decoding-filters",
        ),
        Mistake(
            "every row uses the first number",
            _one_number_for_all,
            "Each row has a number of its own. To compare them with sums of shape (..., V), give u one more axis at "
            "its end.",
            "decoding#decoding-filters",
        ),
        Mistake(
            "the weights went through a softmax",
            lambda weights, u: _draw(_softmax(weights), u),
            "They are weights already, not logits. A softmax would give a token of weight 0 a chance.",
            "decoding#decoding-filters",
        ),
    )


# --- beam search -----------------------------------------------------------------------------------------------------

Hypothesis = tuple[tuple[int, ...], float]  # its tokens, and the sum of their log-probabilities


class _Search:
    """Beam search; the mistakes change one method each."""

    def __init__(self, table, start, end, width, max_new, alpha) -> None:
        self.rows, self.start, self.end = np.asarray(table).tolist(), start, end
        self.width, self.max_new, self.alpha = width, max_new, alpha

    def run(self) -> tuple[np.ndarray, float]:
        running: list[Hypothesis] = [((), 0.0)]
        pool: list[Hypothesis] = []
        for _ in range(self.max_new):
            best = self.cut(self.extensions(running))
            pool += [one for one in best if self.ended(one)]
            running = [one for one in best if not self.ended(one)]
            if self.enough(running, pool):
                break
        chosen = self.choose(pool, running)
        return self.filled(chosen[0]), self.score(chosen)

    def extensions(self, running: list[Hypothesis]) -> list[Hypothesis]:
        """Each by every token: in the order of the beam, then of the vocabulary."""
        return [
            ((*tokens, token), self.added(total, gain))
            for tokens, total in running
            for token, gain in enumerate(self.rows[tokens[-1] if tokens else self.start])
        ]

    def added(self, total: float, gain: float) -> float:
        return total + gain

    def cut(self, extensions: list[Hypothesis]) -> list[Hypothesis]:
        """Stable: of equals those that come first."""
        return sorted(extensions, key=lambda one: -one[1])[: self.width]

    def ended(self, one: Hypothesis) -> bool:
        return one[0][-1] == self.end

    def enough(self, running: list[Hypothesis], pool: list[Hypothesis]) -> bool:
        return not running

    def choose(self, pool: list[Hypothesis], running: list[Hypothesis]) -> Hypothesis:
        """max gives the first of equals."""
        return max(pool + running, key=self.score)

    def score(self, one: Hypothesis) -> float:
        return one[1] / len(one[0]) ** self.alpha

    def filled(self, tokens: tuple[int, ...]) -> np.ndarray:
        return np.array([*tokens, *[self.end] * (self.max_new - len(tokens))])


class _OneWide(_Search):
    def cut(self, extensions):
        return super().cut(extensions)[:1]


class _EachItsBest(_Search):
    """The first step makes `width` beams; after that each goes on greedily by itself."""

    def cut(self, extensions):
        if len(extensions[0][0]) == 1:
            return super().cut(extensions)
        best: dict[tuple[int, ...], Hypothesis] = {}
        for one in extensions:
            if one[0][:-1] not in best or one[1] > best[one[0][:-1]][1]:
                best[one[0][:-1]] = one
        return sorted(best.values(), key=lambda one: -one[1])


class _AddsProbabilities(_Search):
    def added(self, total, gain):
        return total + float(np.exp(gain))


class _LastOnly(_Search):
    def added(self, total, gain):
        return gain


class _GoesOn(_Search):
    """The end is a token like others."""

    def ended(self, one):
        return False


class _FirstEnd(_Search):
    def enough(self, running, pool):
        return not running or bool(pool)

    def choose(self, pool, running):
        return max(pool or running, key=self.score)


class _EndedLost(_Search):
    """What ends is dropped from the beam and from the answer, unless nothing else is left."""

    def choose(self, pool, running):
        return max(running or pool, key=self.score)


class _RunningLost(_Search):
    def choose(self, pool, running):
        return max(pool or running, key=self.score)


class _FreePlaces(_Search):
    """`width` hypotheses run on besides those that end."""

    def cut(self, extensions):
        ranked = sorted(extensions, key=lambda one: -one[1])
        alive = [one for one in ranked if not self.ended(one)][: self.width]
        last = alive[-1] if alive else ranked[-1]
        return [one for one in ranked[: ranked.index(last) + 1] if self.ended(one) or one in alive]


class _Shrinks(_Search):
    """A place in the beam is lost for good with each hypothesis that ends."""

    places: int | None = None

    def cut(self, extensions):
        self.places = self.width if self.places is None else self.places
        best = sorted(extensions, key=lambda one: -one[1])[: self.places]
        self.places -= sum(self.ended(one) for one in best)
        return best


class _LastOfEquals(_Search):
    def cut(self, extensions):
        return sorted(extensions, key=lambda one: (-one[1], [-token for token in one[0]]))[: self.width]


class _NoPenalty(_Search):
    def score(self, one):
        return one[1]


class _Multiplies(_Search):
    def score(self, one):
        return one[1] * len(one[0]) ** self.alpha


class _TimesAlpha(_Search):
    """length * alpha where length ** alpha should be; with alpha = 0 there is nothing to divide by."""

    def score(self, one):
        return one[1] / (len(one[0]) * self.alpha if self.alpha else 1)


class _AlwaysMean(_Search):
    def score(self, one):
        return one[1] / len(one[0])


class _WithoutEnd(_Search):
    def score(self, one):
        return one[1] / max(1, len(one[0]) - self.ended(one)) ** self.alpha


class _WithStart(_Search):
    def score(self, one):
        return one[1] / (len(one[0]) + 1) ** self.alpha


class _ByLongest(_Search):
    def score(self, one):
        return one[1] / self.max_new**self.alpha


class _PlainScore(_Search):
    """Chosen by the score, and then the plain sum is returned."""

    def run(self):
        tokens, _ = super().run()
        length = int(np.append(tokens == self.end, True).argmax()) + 1
        spent = [self.start, *tokens[: min(length, self.max_new)].tolist()]
        return tokens, float(sum(self.rows[a][b] for a, b in itertools.pairwise(spent)))


class _ByColumns(_Search):
    def __init__(self, table, *others):
        super().__init__(np.transpose(table), *others)


class _OneStepLess(_Search):
    """The loop ends a step too early, as range(1, max_new) does."""

    def run(self):
        asked, self.max_new = self.max_new, max(1, self.max_new - 1)
        tokens, score = super().run()
        return np.append(tokens, [self.end] * (asked - len(tokens))).astype(int), score


def _searching(search: type[_Search]) -> Callable[..., Any]:
    return lambda table, start, end, width, max_new, alpha: search(table, start, end, width, max_new, alpha).run()


class _Clear(_Search):
    """Notes by how much the candidates differ that are kept or just not kept, and the best two of the pool."""

    gap = np.inf

    def cut(self, extensions):
        totals = sorted(-one[1] for one in extensions)[: self.width + 1]
        self.note(totals)
        return super().cut(extensions)

    def choose(self, pool, running):
        self.note(sorted(-self.score(one) for one in pool + running)[:2])
        return super().choose(pool, running)

    def note(self, rising: list[float]) -> None:
        self.gap = min([self.gap, *(b - a for a, b in itertools.pairwise(rising))])


@question(points=4, answer="beam_search")
class BeamSearch:
    """Beam search with a length penalty: the best of the texts that `width` hypotheses find side by side."""

    read = "decoding#decoding-likely"
    forbidden = _NO_GENERATION
    tolerance = Tolerance(rtol=1e-4, atol=1e-4)
    parts: ClassVar = {"ordinary": 2, "penalty": 1, "edges": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first, without a penalty; what ends early is met in most of them."""
        shift = float(rng.integers(0, 3))
        smallest = _real([[-9, -1, -2, -8], [-3, -3, -3, -3], [-9, -8, -9, -0.5], [-1, -1, -1, -1]]) - shift
        yield Case((smallest, 0, 3, 2, 2, 0.0), note="width 2 finds what width 1 walks past")
        for tells, vocab, width, max_new, note in (
            ((_OneWide, _EachItsBest), 4, 2, 3, "four tokens, width 2"),
            ((_AddsProbabilities, _LastOnly, _ByColumns, _OneStepLess), 5, 2, 3, "five tokens, width 2"),
            ((_FirstEnd, _GoesOn), 4, 2, 3, "a text that ends before a better one does"),
            ((_EndedLost, _GoesOn), 4, 2, 3, "a short text that is the best one"),
            ((_RunningLost,), 4, 3, 3, "a text that has not ended when max_new is reached"),
            ((_OneWide,), 6, 3, 4, "six tokens, width 3"),
        ):
            yield Case(self._told(rng, vocab, width, max_new, 0.0, tells), note=note)

        part = "penalty"
        for alpha, width, tells, note in (
            (1.0, 2, (_NoPenalty, _Multiplies, _WithoutEnd), "penalty 1: means per token"),
            (0.5, 2, (_AlwaysMean,), "penalty 0.5"),
            (2.0, 3, (_AlwaysMean, _ByLongest, _WithStart), "penalty 2"),
            (0.5, 2, (_RunningLost,), "penalty 0.5, and a text that has not ended"),
            (1.0, 2, (_FreePlaces,), "penalty 1, and an end that takes a place in the beam"),
            (2.0, 3, (_Shrinks,), "penalty 2, and a beam that is full again after an end"),
        ):
            yield Case(self._told(rng, 5, width, 4, alpha, tells), part=part, note=note)

        yield from self._edges(rng)

    def _edges(self, rng: np.random.Generator) -> Iterator[Case]:
        part = "edges"
        tied = _real([[-9, -1, -1, -1, -9], [-9, -9, -9, -1, -1], [-9, -9, -1, -9, -1], [-9, -1, -9, -9, -1]])
        tied = np.concatenate([tied, np.full((1, 5), -1, np.float32)]) - float(rng.integers(0, 3))
        yield Case((tied, 0, 4, 2, 3, 0.0), part=part, note="ties at every step")
        equal = _real([[-9, -1, -9, -2], [-9, -1, -1, -9], [-9, -9, -9, -9], [-9, -9, -9, -9]])
        equal *= float(rng.integers(1, 4)) / 2
        yield Case((equal, 0, 3, 2, 2, 0.0), part=part, note="two texts with equal scores, of which one ended earlier")
        one = self._told(rng, 5, 1, 4, 0.0, (_ByColumns, _OneStepLess))
        yield Case(one, part=part, note="width 1: greedy")
        wide = self._told(rng, 3, 9, 2, 1.0, (_OneWide,))
        yield Case(wide, part=part, note="a beam wider than the vocabulary")
        sure = np.full((4, 4), -np.inf, np.float32)
        sure[0, 1] = sure[1, 2] = sure[2, 3] = -float(rng.integers(1, 4)) / 2
        yield Case((sure, 0, 3, 3, 4, 0.0), part=part, note="impossible tokens, log-probability -inf")
        short = _halves(rng, 4, 4, low=-9, high=-4)
        short[0, 3] = -0.5
        yield Case((short, 0, 3, 2, 4, 0.0), part=part, note="a text that ends at once")
        yield Case(self._told(rng, 3, 2, 1, 1.0, ()), part=part, note="max_new = 1")

    @staticmethod
    def _told(rng, vocab, width, max_new, alpha, tells) -> tuple[Any, ...]:
        """A table without ties, for which each of `tells` goes wrong in its own way: some tokens near, others far."""

        def make():
            near = rng.random((vocab, vocab)) < 0.4
            quarters = np.where(near, rng.integers(-6, 0, near.shape), rng.integers(-24, -8, near.shape))
            return _real(quarters / 4), 0, vocab - 1, width, max_new, alpha

        def clear(*inputs):
            search = _Clear(*inputs)
            tokens, _ = search.run()
            if search.gap < 0.01:
                return False
            found = [wrong(*inputs).run() for wrong in tells]
            if not all((text != tokens).any() for text, _ in found):
                return False
            # Two mistakes that give the same text give it different scores.
            return all((a != b).any() or abs(x - y) > 0.01 for (a, x), (b, y) in itertools.combinations(found, 2))

        return _until(make, clear)

    def reference(
        self, table: np.ndarray, start: int, end: int, width: int, max_new: int, alpha: float
    ) -> tuple[np.ndarray, float]:
        """The best text's tokens, filled up with `end`, and its score."""
        return _Search(table, start, end, width, max_new, alpha).run()

    mistakes = (
        Mistake(
            "only one hypothesis is kept",
            _searching(_OneWide),
            "That is greedy decoding. Keep the `width` best extensions of each step, so that a text may win whose "
            "first token was only second best.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "each hypothesis goes on greedily by itself",
            _searching(_EachItsBest),
            "The extensions of all hypotheses compete with each other: two may come from the same parent, and none "
            "from another. Put them all in one list before you cut.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "probabilities are added instead of their logarithms",
            _searching(_AddsProbabilities),
            "Probabilities of successive tokens are multiplied, so their logarithms are added: no exp is needed.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "a hypothesis is ranked by its last token alone",
            _searching(_LastOnly),
            "Carry the sum along: the score of an extension is that of its hypothesis plus the log-probability of the "
            "new token.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "a hypothesis that has ended is extended",
            _searching(_GoesOn),
            "A text is over with `end`. Take it out of the beam, keep it in a pool, and do not ask the table what "
            "follows.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the search is over as soon as one hypothesis has ended",
            _searching(_FirstEnd),
            "One that still runs may end with a better score. Go on until nothing runs any more or max_new is reached.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "hypotheses that ended early are lost",
            _searching(_EndedLost),
            "They leave the beam and must not leave the competition: put them into a pool, and choose from the pool at "
            "the end.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "hypotheses that still run at the end are lost",
            _searching(_RunningLost),
            "When max_new is reached, those that have not ended compete with the pool as they are.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "a hypothesis that ends takes no place in the beam",
            _searching(_FreePlaces),
            "(Some libraries do that.) The rule here: of all extensions, those that end included, the `width` best are "
            "kept. Those of them that end go to the pool, the others run on.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the beam becomes narrower with each end",
            _searching(_Shrinks),
            "An end takes a place in its own step only. In the next step there are `width` places again, which the "
            "extensions of the others fill.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "of equally good extensions you took the last",
            _searching(_LastOfEquals),
            "The rule here: of equals those of the better hypothesis, and among these the smaller token. A stable "
            "sort in descending order does it; one that is turned round does not.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the length penalty is not used",
            _searching(_NoPenalty),
            "Divide the sum by length ** alpha when you compare texts of different length.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the sum is multiplied by the length",
            _searching(_Multiplies),
            "Sums are negative, so that punishes long texts once more. A length penalty above 0 favours them: divide.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "alpha is a factor and not an exponent",
            _searching(_TimesAlpha),
            "The sum is divided by length ** alpha: with 0 sums are compared, with 1 means.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the mean per token is taken whatever alpha is",
            _searching(_AlwaysMean),
            "That is right for alpha = 1 only. Divide by length ** alpha; with alpha = 0 plain sums are compared.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the length leaves out the end",
            _searching(_WithoutEnd),
            "Here the length counts all new tokens, `end` among them: its log-probability is part of the sum, too.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the length counts the start",
            _searching(_WithStart),
            "The start was given, nobody chose it: the length counts the new tokens.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "all sums are divided by the same length",
            _searching(_ByLongest),
            "Then the penalty changes nothing in the order. Each text has its own length: the tokens up to and with "
            "`end`, without those that fill it up.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the right text is returned with its plain sum",
            _searching(_PlainScore),
            "Return the score by which you chose, the sum divided by length ** alpha.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the table is read by columns",
            _searching(_ByColumns),
            "What may follow the token i stands in the row table[i].",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the search makes one step too few",
            _searching(_OneStepLess),
            "A text may have max_new tokens, and each step chooses one: max_new steps, the first of them from `start`.",
            "decoding#decoding-likely",
        ),
    )


# --- attention with a cache ------------------------------------------------------------------------------------------


class _Cached:
    """Attention that keeps its keys and values; the mistakes change one method each."""

    def __init__(self, w_query, w_key, w_value, positions, heads) -> None:
        self.w_query, self.w_key, self.w_value = w_query, w_key, w_value
        self.positions, self.heads = positions, heads
        self.d_head = w_query.shape[1] // heads
        self.kv_heads = w_key.shape[1] // self.d_head
        self.key = self.value = np.zeros((self.kv_heads, 0, self.d_head))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(new, d_model) gives (new, heads * d_head)."""
        x = x + self.rows(len(x))
        self.store(self.split(x @ self.w_key), self.split(x @ self.w_value))
        query = self.split(x @ self.w_query)  # (heads, new, d_head)
        scores = query @ np.swapaxes(self.shared(self.key), 1, 2) / self.scale()
        weights = _softmax(np.where(self.visible(len(x), self.key.shape[1]), scores, -np.inf))
        return self.merged(weights @ self.shared(self.value))

    def rows(self, new: int) -> np.ndarray:
        return self.positions[self.start() : self.start() + new]

    def start(self) -> int:
        return self.key.shape[1]

    def split(self, rows: np.ndarray) -> np.ndarray:
        return np.swapaxes(rows.reshape(len(rows), -1, self.d_head), 0, 1)

    def store(self, key: np.ndarray, value: np.ndarray) -> None:
        self.key = np.concatenate([self.key, key], axis=1)
        self.value = np.concatenate([self.value, value], axis=1)

    def shared(self, kept: np.ndarray) -> np.ndarray:
        """(kv_heads, length, d_head), each head as often as query heads share it."""
        return np.repeat(kept, self.heads // len(kept), axis=0)

    def scale(self) -> float:
        return sqrt(self.d_head)

    def visible(self, new: int, length: int) -> np.ndarray:
        """The new rows are the last ones: row i sees all that was there, and the new ones up to itself."""
        return np.tri(new, length, length - new, dtype=bool)

    def merged(self, out: np.ndarray) -> np.ndarray:
        return np.swapaxes(out, 0, 1).reshape(out.shape[1], -1)


class _Restarts(_Cached):
    def start(self):
        return 0


class _OneFurther(_Cached):
    """The position is that of the last row before, or 0."""

    def start(self):
        return max(0, super().start() - 1)


class _NoPositions(_Cached):
    def rows(self, new):
        return 0.0


class _SamePosition(_Cached):
    """All rows of a chunk get the position of its first one."""

    def rows(self, new):
        return self.positions[self.start()]


class _Overwrites(_Cached):
    """Positions go on, and keys and values are those of this call alone."""

    seen = 0

    def start(self):
        return self.seen

    def store(self, key, value):
        self.key, self.value, self.seen = key, value, self.seen + key.shape[1]


class _UpperLeft(_Cached):
    def visible(self, new, length):
        return np.tri(new, length, dtype=bool)


class _NoMask(_Cached):
    def visible(self, new, length):
        return np.ones((new, length), dtype=bool)


class _NotItself(_Cached):
    """A row sees what was before it, or if there is nothing, itself."""

    def visible(self, new, length):
        seen = np.tri(new, length, length - new - 1, dtype=bool)
        return seen | (~seen.any(axis=1, keepdims=True) & np.tri(new, length, length - new, dtype=bool))


class _OneTooFar(_Cached):
    def visible(self, new, length):
        return np.tri(new, length, length - new + 1, dtype=bool)


class _PastOnlyOfChunks(_Cached):
    """A chunk sees all of what was there, and of itself each row only itself."""

    def visible(self, new, length):
        return np.concatenate([np.ones((new, length - new), dtype=bool), np.eye(new, dtype=bool)], axis=1)


class _InFront(_Cached):
    """New rows are put before the old ones, and the mask does not know."""

    def store(self, key, value):
        self.key = np.concatenate([key, self.key], axis=1)
        self.value = np.concatenate([value, self.value], axis=1)


class _ChunkResets(_Cached):
    """More than one row is taken for a new prompt."""

    def __call__(self, x):
        if len(x) > 1:
            self.key = self.value = self.key[:, :0]
        return super().__call__(x)


class _ValuesAreKeys(_Cached):
    def store(self, key, value):
        super().store(key, key)


class _RootOfModel(_Cached):
    def scale(self):
        return sqrt(self.heads * self.d_head)


class _NoScale(_Cached):
    def scale(self):
        return 1.0


class _Tiled(_Cached):
    def shared(self, kept):
        return np.tile(kept, (self.heads // len(kept), 1, 1))


class _Repeated(_Cached):
    """Every output is right, and the cache is as large as without shared heads."""

    def __init__(self, *args):
        super().__init__(*args)
        self.key = self.value = np.zeros((self.heads, 0, self.d_head))

    def store(self, key, value):
        times = self.heads // self.kv_heads
        super().store(np.repeat(key, times, axis=0), np.repeat(value, times, axis=0))


class _NotMerged(_Cached):
    def merged(self, out):
        return out.reshape(out.shape[1], -1)


class _NotSplit(_Cached):
    """Rows reshaped to heads without moving the axis: tokens and heads are mixed up."""

    def split(self, rows):
        return rows.reshape(-1, len(rows), self.d_head)


class _KeepsInputs(_Cached):
    """Keys and values are those of the last call; the rows themselves are kept, and everything is computed again."""

    x = None

    def __call__(self, x):
        self.x = x if self.x is None else np.concatenate([self.x, x])
        self.key = self.value = np.zeros((self.kv_heads, 0, self.d_head))
        out = super().__call__(self.x)[len(self.x) - len(x) :]
        self.key, self.value = (kept[:, kept.shape[1] - len(x) :] for kept in (self.key, self.value))
        return out


class _SwappedOnReturn(_Cached):
    """The cache is right until it is asked for: both attributes hold the values."""

    def __call__(self, x):
        if self.key.shape[1]:
            self.key = self.true_key
        out = super().__call__(x)
        self.true_key, self.key = self.key, self.value
        return out


@question(points=5, answer="CachedAttention")
class CachedAttentionQuestion:
    """Causal attention that keeps keys and values: new rows go in, and the rows of the whole text come out."""

    read = "decoding#decoding-cache"
    reference = _Cached
    forbidden = ("attnkit", "transformers.DynamicCache", "transformers.StaticCache", "transformers.cache_utils")
    tolerance = Tolerance(rtol=1e-3, atol=1e-4)
    parts: ClassVar = {"ordinary": 2, "heads": 1, "cache": 1, "work": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first: one head, and texts of two to six rows in pieces of several sizes."""
        for pieces, note in (
            ((1, 1), "one row, then another"),
            ((2,), "two rows at once"),
            ((2, 1, 1), "two rows, then two more, one by one"),
            ((2, 2), "two rows, then two more at once"),
            ((1, 3), "one row, then three at once"),
            ((3, 1, 2), "three rows, then one, then two"),
        ):
            yield Case(steps=self._script(rng, pieces, d_model=2, heads=1, kv_heads=1, d_head=2), note=note)
        yield Case(steps=self._side_by_side(rng), note="two layers side by side, each with a cache of its own")

        for pieces, heads, kv_heads, d_head, note in (
            ((2, 1), 2, 2, 2, "two heads, each with keys of its own"),
            ((2, 1, 2), 4, 2, 1, "four heads that share two heads of keys"),
            ((3, 2), 3, 1, 2, "three heads that share one head of keys"),
        ):
            script = self._script(rng, pieces, d_model=3, heads=heads, kv_heads=kv_heads, d_head=d_head)
            yield Case(steps=script, part="heads", note=note)

        part = "cache"
        look = (Get("key"), Get("value"))
        script = self._script(rng, (2, 1), d_model=2, heads=1, kv_heads=1, d_head=2)
        yield Case(steps=(*script, *look), part=part, note="what is kept after two rows and one")
        script = self._script(rng, (2, 1), d_model=3, heads=4, kv_heads=2, d_head=1)
        yield Case(steps=(*script, *look), part=part, note="what is kept where four heads share two heads of keys")
        script = self._script(rng, (3,), d_model=2, heads=2, kv_heads=1, d_head=2)
        yield Case(steps=(*script, *look), part=part, note="what is kept after three rows at once")
        script = self._script(rng, (5, 5, 2), d_model=3, heads=2, kv_heads=1, d_head=2)
        yield Case(steps=script, part="work", note="twelve rows in pieces of five")

    @staticmethod
    def _weights(rng: np.random.Generator, d_model: int, heads: int, kv_heads: int, d_head: int, context: int) -> Build:
        shared = kv_heads * d_head
        sizes = ((d_model, heads * d_head), (d_model, shared), (d_model, shared), (context, d_model))
        return Build((*(_halves(rng, *size, low=-2, high=2) for size in sizes), heads))

    def _script(self, rng: np.random.Generator, pieces: tuple[int, ...], **sizes: int) -> tuple[Build | Call, ...]:
        """A layer, and a text that comes in `pieces`; there are more positions than rows."""
        while True:
            build = self._weights(rng, context=sum(pieces) + 2, **sizes)
            calls = [Call((_halves(rng, piece, sizes["d_model"], low=-2, high=2),)) for piece in pieces]
            if self._tells(build, calls):
                return (build, *calls)

    @staticmethod
    def _tells(build: Build, calls: list[Call]) -> bool:
        """Scores of a middling size, and outputs by which each mistake shows that could show: chance hides none."""
        pieces = [len(call.args[0]) for call in calls]
        outputs = []
        for kind in (_Cached, *_telling(pieces, int(build.args[0].shape[1]) // build.args[-1])):
            layer = kind(*build.args)
            outputs.append(np.concatenate([layer(call.args[0]) for call in calls]))
        largest = max(np.abs(call.args[0] @ build.args[0]).max(initial=0) for call in calls)
        return largest < 12 and all(np.abs(got - outputs[0]).max() > 0.02 for got in outputs[1:])

    def _side_by_side(self, rng: np.random.Generator) -> tuple[Build | Call, ...]:
        steps: list[Build | Call] = []
        texts = {}
        for name in ("one", "other"):
            build, *calls = self._script(rng, (2, 1), d_model=2, heads=1, kv_heads=1, d_head=2)
            steps.append(Build(build.args, name=name))
            texts[name] = [Call(call.args, on=name) for call in calls]
        return (*steps, texts["one"][0], texts["other"][0], texts["one"][1], texts["other"][1])

    @staticmethod
    def _long(length: int, rng: np.random.Generator) -> Case:
        """A prompt of `length` rows, and then the one that is timed."""
        d_model, d_head = 1024, 32
        weights = [rng.standard_normal((d_model, d_head), np.float32) / np.float32(sqrt(d_model)) for _ in range(3)]
        positions = rng.standard_normal((length + 1, d_model), np.float32)
        x = rng.standard_normal((length + 1, d_model), np.float32)
        prompt = Call((x[:-1],), keep="_")
        return Case(steps=(Build((*weights, positions, 1)), prompt, Call((x[-1:],))))

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The last row alone: 1024 multiplications for each number that need not be computed again."""
        return (
            Resource(
                "work",
                "time",
                lengths=(128, 512, 2048),
                case=self._long,
                growth=0.45,
                hint="Rows that were there before go through no matrix again: x holds the new rows only, so project "
                "only these, and put their keys and values behind those that you kept. No loop over single keys, "
                "either: one product for all of them.",
                read="decoding#decoding-cache",
            ),
        )

    mistakes = (
        Mistake(
            "positions start again at 0 with each call",
            _Restarts,
            "The first new row stands behind all that were there before. Its position is the length of the cache, as "
            "it was before you added to it.",
            "positions#museum-cache-restarts",
        ),
        Mistake(
            "positions lag one behind",
            _OneFurther,
            "With n rows in the cache, which have the positions 0 to n - 1, the next one has position n.",
            "positions#museum-cache-restarts",
        ),
        Mistake(
            "the positions are not added",
            _NoPositions,
            "Add positions[start : start + new] to x before the projections.",
            "where-am-i#where-add",
        ),
        Mistake(
            "all rows of a call get the same position",
            _SamePosition,
            "Row i of the call has the position start + i: take a slice of `new` rows and not one row.",
            "positions#museum-cache-restarts",
        ),
        Mistake(
            "the cache holds the rows of the last call only",
            _Overwrites,
            "Put new keys and values *behind* those that are there, along the axis of the length, and keep both.",
            "decoding#decoding-cache",
        ),
        Mistake(
            "the causal mask is aligned to the upper left corner",
            _UpperLeft,
            "With more keys than queries the new rows are the *last* ones: query i is row length - new + i of the "
            "text. np.tri(new, length, length - new), torch: tril(diagonal=length - new). SDPA's is_causal=True does "
            "the opposite.",
            "museum/masks#museum-causal-alignment",
        ),
        Mistake(
            "rows of one call see each other's future",
            _NoMask,
            "One row at a time needs no mask, since all that is kept lies before it. Several at once do: each sees "
            "what was kept, the rows of its call before it, and itself.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "a row does not see itself",
            _NotItself,
            "Add the new key and value to the cache *before* you compute the scores: each row attends to itself, too.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "a row sees one row too many",
            _OneTooFar,
            "Of `length` keys, query i of `new` sees those up to length - new + i, which is itself: the diagonal is "
            "length - new.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "rows of one call do not see the earlier rows of the same call",
            _PastOnlyOfChunks,
            "A row sees everything before it, whether that came in an earlier call or in this one. Store all new keys "
            "first, then take one causal mask over the whole length.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "new keys are put in front of the old ones",
            _InFront,
            "The order along the length is that of the text, and the mask relies on it: concatenate [kept, new].",
            "decoding#decoding-cache",
        ),
        Mistake(
            "a call with several rows empties the cache",
            _ChunkResets,
            "A prompt may come in pieces. Only a new object starts from nothing; each call goes on where the last one "
            "ended.",
            "decoding#decoding-cache",
        ),
        Mistake(
            "keys are kept in place of values",
            _ValuesAreKeys,
            "Two things are kept: x @ w_key and x @ w_value.",
            "heads#museum-value-by-key-weights",
        ),
        Mistake(
            "the scores are divided by the root of all heads together",
            _RootOfModel,
            "Each head takes dot products of d_head numbers: divide by sqrt(d_head).",
            "scores#museum-root-of-model",
        ),
        Mistake(
            "the scores are not scaled",
            _NoScale,
            "Divide by sqrt(d_head).",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "query heads take turns with the key heads",
            _Tiled,
            "Query heads that lie side by side share a key head: with 4 and 2, the heads 0 and 1 use key head 0, and 2 "
            "and 3 use key head 1. That is np.repeat (torch: repeat_interleave), not tile.",
            "many-heads#heads-share",
        ),
        Mistake(
            "keys and values are repeated before they are kept",
            _Repeated,
            "All outputs are right, and the saving is gone: each key is in memory once for every query head. Keep "
            "kv_heads of them, and repeat what you take out.",
            "heads#museum-repeated-cache",
        ),
        Mistake(
            "heads are merged without moving their axis back",
            _NotMerged,
            "(heads, new, d_head) must become (new, heads, d_head) before it is reshaped to (new, heads * d_head). "
            "Otherwise a row holds numbers of other rows.",
            "heads#museum-merge-without-permute",
        ),
        Mistake(
            "rows are reshaped to heads without moving the axis",
            _NotSplit,
            "(new, heads * d_head) becomes (new, heads, d_head) by reshape, and then (heads, new, d_head) by swapping "
            "axes. A reshape straight to the last form mixes rows and heads.",
            "heads#museum-reshape-without-transpose",
        ),
        Mistake(
            "the rows are kept in place of their keys and values",
            _KeepsInputs,
            "Every output is right, since everything is computed again in every call. What you keep should save that: "
            "the keys and values of all rows.",
            "decoding#decoding-cache",
        ),
        Mistake(
            "self.key and self.value are the same",
            _SwappedOnReturn,
            "One holds x @ w_key, the other x @ w_value, split into heads. Are both names set to one array?",
            "decoding#decoding-cache",
        ),
    )


def _telling(pieces: list[int], d_head: int) -> list[type[_Cached]]:
    """The mistakes that a text in these pieces can show."""
    kinds: list[type[_Cached]] = [_NotItself, _NoPositions, _ValuesAreKeys]
    if len(pieces) > 1:
        kinds += [_Restarts, _OneFurther, _Overwrites, _UpperLeft]
    if max(pieces) > 1:
        kinds += [_NoMask, _SamePosition, _PastOnlyOfChunks, _OneTooFar]
    if max(pieces[1:], default=0) > 1:
        kinds += [_InFront, _ChunkResets]
    return kinds + [_NoScale] * (d_head > 1)
