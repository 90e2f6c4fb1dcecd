"""Positions: where am I, and how far away are you?

Five questions: the waves of 2017, rotary positions, a test that tells relative encodings from absolute ones, a bias by
distance (ALiBi or T5, drawn for each student), and the measurement of what lies beyond the trained length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Tolerance, question
from attnkit.lab.steps import Trial

# Whole libraries that hold the answers.
_READY_MADE = ("attnkit", "transformers", "torchtune", "rotary_embedding_torch")

# Sines of angles up to 1000, in single precision: the angle itself is right to 1e-4, its frequency to 1e-6 of itself.
ANGLES = Tolerance(rtol=1e-4, atol=2e-3)


def _draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Halves from -4 to 4 without 0, so that a wrong sign or a wrong pair always shows."""
    return (rng.integers(1, 9, size=shape) * rng.choice([-1, 1], size=shape) / 2).astype(np.float32)


def _at(*positions: int) -> np.ndarray:
    return np.array(positions, dtype=np.int64)


# --- sinusoidal -------------------------------------------------------------------------------------------------------


def _waves(positions, exponents, base=10000.0, cosine_first=False):
    """sin in even columns and cos in odd ones, of position * base ** -exponent, one exponent a column."""
    column = np.arange(len(exponents))
    angle = np.asarray(positions)[..., None] * float(base) ** -np.asarray(exponents, dtype=float)
    return np.where((column % 2 == 0) ^ cosine_first, np.sin(angle), np.cos(angle))


def _pairs(d_model):
    """The number of the pair that each column belongs to."""
    return np.arange(d_model) // 2


def _sinusoidal(positions, d_model):
    return _waves(positions, 2 * _pairs(d_model) / d_model)


def _halves(positions, d_model):
    table = _sinusoidal(positions, d_model)
    return np.concatenate([table[..., 0::2], table[..., 1::2]], axis=-1)


def _own_index(positions):
    return np.broadcast_to(np.arange(positions.shape[-1]), positions.shape)


def _last_column_zero(positions, d_model):
    table = _sinusoidal(positions, d_model)
    table[..., d_model - d_model % 2 :] = 0
    return table


@question(points=3, answer="sinusoidal")
class SinusoidalTable:
    """The sinusoidal encoding of given positions: sine and cosine side by side, one frequency a pair."""

    read = "where-am-i#where-sinusoid"
    forbidden = _READY_MADE
    tolerance = ANGLES
    parts: ClassVar = {"ordinary": 1, "positions": 1, "odd widths": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first; in the part "positions" they do not count 0, 1, 2, ..."""
        yield Case((_at(0, 1), 4), note="positions 0 and 1, four columns")
        yield Case((_at(0, 1, 2), 6), note="positions 0 to 2, six columns")
        yield Case((np.arange(5), 2 * int(rng.integers(4, 9))), note="positions 0 to 4, a wider table")
        yield Case((_at(int(rng.integers(2, 30))), 2), part="positions", note="one position that is not 0")
        yield Case((rng.integers(3, 40, size=3), 4), part="positions", note="three positions in no order")
        yield Case((rng.integers(300, 1000, size=2), 8), part="positions", note="far positions")
        yield Case((rng.integers(3, 40, size=(2, 3)), 4), part="positions", note="positions of shape (2, 3)")
        yield Case((_at(0, 1, 2), 3), part="odd widths", note="three columns: the last sine has no cosine")
        yield Case((_at(0, 3), 1), part="odd widths", note="a single column")
        yield Case((rng.integers(3, 40, size=3), 7), part="odd widths", note="seven columns, three positions")

    def reference(self, positions: np.ndarray, d_model: int) -> np.ndarray:
        """Vaswani et al. 2017, section 3.5, column by column."""
        table = np.zeros((*positions.shape, d_model))
        for column in range(d_model):
            angle = positions / 10000.0 ** ((column - column % 2) / d_model)
            table[..., column] = np.cos(angle) if column % 2 else np.sin(angle)
        return table

    invariants = (
        Invariant(
            "a value lies outside -1 and 1",
            lambda got, positions, d_model: bool((np.abs(got) <= 1 + 1e-3).all()),
            "Every entry is a sine or a cosine.",
            "where-am-i#where-sinusoid",
        ),
        Invariant(
            "sine² + cosine² of a pair is not 1",
            lambda got, positions, d_model: bool(
                np.allclose(got[..., : d_model - 1 : 2] ** 2 + got[..., 1::2] ** 2, 1, atol=5e-3)
            ),
            "Columns 2c and 2c + 1 hold the sine and the cosine of one and the same angle.",
            "where-am-i#where-rotation",
        ),
    )

    mistakes = (
        Mistake(
            "all sines come first, then all cosines",
            _halves,
            "Some libraries lay their table out so. Here, as in the paper, a sine and its cosine are neighbours: "
            "column 2c is a sine and column 2c + 1 the cosine of the same angle.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "cosines stand where sines should",
            lambda positions, d_model: _waves(positions, 2 * _pairs(d_model) / d_model, cosine_first=True),
            "Even columns are sines, odd ones cosines: at position 0 a row reads 0, 1, 0, 1.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "every column has a frequency of its own",
            lambda positions, d_model: _waves(positions, np.arange(d_model) / d_model),
            "Then sine and cosine of a pair are not of the same angle, and a step along the text is no rotation any "
            "more. Columns 2c and 2c + 1 share the frequency 10000^(-2c/d_model).",
            "where-am-i#where-rotation",
        ),
        Mistake(
            "the exponent is c/d_model",
            lambda positions, d_model: _waves(positions, _pairs(d_model) / d_model),
            "c counts pairs, so the exponent is 2c/d_model: the last pair turns nearly 10000 times slower than the "
            "first, and yours only 100 times.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "the exponent is 4c/d_model",
            lambda positions, d_model: _waves(positions, 4 * _pairs(d_model) / d_model),
            "2c is divided by d_model, the number of columns, and not by the number of pairs.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "the exponent is 2c/(d_model - 2)",
            lambda positions, d_model: _waves(positions, 2 * _pairs(d_model) / max(d_model - 2, 1)),
            "Then the last pair has the frequency 1/10000 exactly, as in some libraries. The paper divides by d_model.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "the frequencies grow from pair to pair",
            lambda positions, d_model: _waves(positions, -2 * _pairs(d_model) / d_model),
            "The position is divided by 10000^(2c/d_model), not multiplied: each hand is slower than the one before.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "all pairs have the same frequency",
            lambda positions, d_model: _waves(positions, 0 * _pairs(d_model)),
            "Then the whole row repeats after six positions. Pair c turns by 10000^(-2c/d_model).",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "every column is a sine",
            lambda positions, d_model: np.sin(
                np.asarray(positions)[..., None] / 1e4 ** (2 * _pairs(d_model) / d_model)
            ),
            "The odd columns are cosines. From a sine alone you cannot tell whether the hand is rising or falling.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "positions count from 1",
            lambda positions, d_model: _sinusoidal(positions + 1, d_model),
            "Take the positions as they are given: the row of position 0 reads 0, 1, 0, 1.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "rows are counted instead of using the positions",
            lambda positions, d_model: _sinusoidal(_own_index(positions), d_model),
            "Row r belongs to position positions[r], whatever r is. In decoding a single row may stand at position 57.",
            "relative-position#relative-cache",
        ),
        Mistake(
            "the last column of an odd width stays zero",
            _last_column_zero,
            "d_model columns hold (d_model + 1) // 2 sines and d_model // 2 cosines: the last sine has no cosine.",
            "where-am-i#where-sinusoid",
        ),
        Mistake(
            "an odd width gets the frequencies of the next even one",
            lambda positions, d_model: _waves(positions, 2 * _pairs(d_model) / (d_model + d_model % 2)),
            "Making a table that is one column wider and cutting it off changes every frequency but the first. Divide "
            "by the d_model that was asked for.",
            "where-am-i#where-sinusoid",
        ),
    )


# --- rotate -----------------------------------------------------------------------------------------------------------


def _frequencies(d, base, power=2.0):
    return float(base) ** (-power * np.arange(d // 2) / d)


def _angles(x, positions, base, power=2.0):
    return np.asarray(positions)[..., None] * _frequencies(x.shape[-1], base, power)


def _turned(even, odd, angle):
    return even * np.cos(angle) - odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle)


def _laid(even, odd):
    """Two members of each pair, side by side."""
    return np.stack([even, odd], axis=-1).reshape(*even.shape[:-1], -1)


def _interleaved(x, angle):
    return _laid(*_turned(x[..., 0::2], x[..., 1::2], angle))


def _half(x, angle):
    return np.concatenate(_turned(*np.split(x, 2, axis=-1), angle), axis=-1)


def _read_neighbours_write_halves(x, angle):
    return np.concatenate(_turned(x[..., 0::2], x[..., 1::2], angle), axis=-1)


def _overwritten(x, angle):
    """The first entry of each pair is written back before the second one has read it."""
    even = x[..., 0::2] * np.cos(angle) - x[..., 1::2] * np.sin(angle)
    return _laid(even, even * np.sin(angle) + x[..., 1::2] * np.cos(angle))


def _mirrored(x, angle):
    even, odd = x[..., 0::2], x[..., 1::2]
    return _laid(even * np.cos(angle) + odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle))


def _own_frequency_each(x, positions, base):
    """Entry n of a vector has the angle position * base ** (-n / d), even within a pair."""
    angle = np.asarray(positions)[..., None] * float(base) ** (-np.arange(x.shape[-1]) / x.shape[-1])
    partner = _laid(-x[..., 1::2], x[..., 0::2])
    return x * np.cos(angle) + partner * np.sin(angle)


def _kept_norms(got, x, positions) -> bool:
    return bool(np.allclose(np.linalg.norm(got, axis=-1), np.linalg.norm(x, axis=-1), atol=2e-2, rtol=1e-3))


def _nothing_at_zero(got, x, positions) -> bool:
    still = np.broadcast_to((positions == 0)[..., None], x.shape)
    return bool(np.allclose(got[still], x[still], atol=1e-3))


@question(points=4, answer="rotate")
class Rotate:
    """Rotary positions with the base {base:g}: each pair of neighbours is turned by its position.

    Entries 2c and 2c + 1 of a vector of width d at position p are turned by the angle p * {base:g} ** (-2c / d).
    """

    read = "relative-position#relative-rope"
    forbidden = _READY_MADE
    tolerance = ANGLES
    parts: ClassVar = {"ordinary": 2, "positions": 1, "shapes": 1}

    def variant(self, rng: np.random.Generator) -> dict[str, Any]:
        """A base of one's own, and never 10000, so that a copied base shows."""
        return {"base": float(rng.choice([100, 400, 900, 2500, 40000, 160000]))}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first; in the part "positions" they do not count 0, 1, 2, ..."""
        yield Case((_draw(rng, 1, 2), _at(1)), note="one vector with one pair, at position 1")
        yield Case((_draw(rng, 2, 4), _at(0, 1)), note="two vectors with two pairs, at positions 0 and 1")
        yield Case((_draw(rng, 3, 6), _at(0, 1, 2)), note="three vectors with three pairs")
        yield Case((_draw(rng, 6, 8), np.arange(6)), note="six vectors with four pairs")
        one = int(rng.integers(4, 30))
        yield Case((_draw(rng, 1, 4), _at(one)), part="positions", note="one new token, as in decoding with a cache")
        yield Case((_draw(rng, 3, 4), rng.integers(3, 40, size=3)), part="positions", note="positions in no order")
        yield Case((_draw(rng, 2, 4), rng.integers(300, 1000, size=2)), part="positions", note="far positions")
        yield Case((_draw(rng, 2, 3, 4), np.arange(3)), part="shapes", note="two heads, the same positions")
        apart = np.stack([np.arange(3), np.arange(3) + int(rng.integers(2, 9))])[:, None]
        yield Case(
            (_draw(rng, 2, 2, 3, 4), apart),
            part="shapes",
            note="two texts with positions of their own, of shape (2, 1, 3)",
        )
        yield Case((_draw(rng, 1, 1, 2, 6), _at(5, 2)), part="shapes", note="a batch of one text and one head")

    def reference(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Each pair is a complex number, multiplied by e^(i angle)."""
        pairs = x[..., 0::2] + 1j * x[..., 1::2]
        turned = pairs * np.exp(1j * _angles(x, positions, self.base))
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)

    invariants = (
        Invariant(
            "a vector changes its length",
            _kept_norms,
            "A turn keeps lengths: cos² + sin² = 1, with a minus in front of one of the two sines.",
            "relative-position#relative-rope",
        ),
        Invariant(
            "a vector at position 0 is changed",
            _nothing_at_zero,
            "At position 0 every angle is 0, so nothing turns and nothing changes places.",
            "relative-position#relative-layout",
        ),
    )

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """A property, since the angles are those of the student's base."""
        base = self.base

        def by(turn: Callable[..., Any], **angles: Any) -> Callable[..., Any]:
            return lambda x, positions: turn(x, _angles(x, positions, **{"base": base, **angles}))

        return (
            Mistake(
                "entries c and c + d/2 are taken as a pair",
                by(_half),
                'That is the "half" layout of many published models, and no worse; but it is another one. Here '
                "neighbours are a pair: x[..., 0::2] holds the first entries and x[..., 1::2] the second.",
                "relative-position#relative-layout",
            ),
            Mistake(
                "pairs are read as neighbours and written back as halves",
                by(_read_neighbours_write_halves),
                "At position 0 nothing turns, so nothing may change places. Interleave the two parts again: stack them "
                "along a new last axis, then flatten it.",
                "relative-position#relative-layout",
            ),
            Mistake(
                "the pairs are turned backwards",
                by(lambda x, angle: _interleaved(x, -angle)),
                "(1, 0) turns towards (0, 1): the first entry is x cos - y sin, the second x sin + y cos. Scores would "
                "not notice, but a checkpoint would.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "the second entry of a pair is computed from the first one's new value",
                by(_overwritten),
                "Both new entries need both old ones. Compute them from x, and write into a new array.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "neither sine has a minus sign",
                by(_mirrored),
                "That is no turn: it stretches. The first entry is x cos - y sin.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "the base is 10000 and not yours",
                by(_interleaved, base=10000.0),
                f"Your base is {base:g}. Use the variable `base`.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "vectors are counted instead of using the positions",
                lambda x, positions: _interleaved(x, _angles(x, np.arange(x.shape[-2]), base)),
                "With a cache each step brings one vector, and it does not stand at position 0. Use the argument.",
                "relative-position#relative-cache",
            ),
            Mistake(
                "all pairs turn equally fast",
                by(_interleaved, power=0.0),
                "Pair c turns by base^(-2c/d) a position. With one speed for all, distances 6 and 0 look nearly alike.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "the exponent is -c/d",
                by(_interleaved, power=1.0),
                "c counts pairs, and there are d/2 of them: the exponent is -2c/d.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "the frequencies grow from pair to pair",
                by(_interleaved, power=-2.0),
                "The exponent is negative: each pair turns more slowly than the one before.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "the two entries of a pair have different angles",
                lambda x, positions: _own_frequency_each(x, positions, base),
                "A pair turns as a whole: there are d/2 angles, and each serves two entries.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "positions count from 1",
                lambda x, positions: _interleaved(x, _angles(x, positions + 1, base)),
                "Scores would not notice, since only distances count. But at position 0 nothing should turn: take the "
                "positions as they are given.",
                "relative-position#relative-rope",
            ),
            Mistake(
                "the waves are added to x",
                lambda x, positions: x + _laid(np.sin(a := _angles(x, positions, base)), np.cos(a)),
                "That was the question before. Rotary positions add nothing: they turn what is there.",
                "relative-position#relative-where",
            ),
        )


# --- a test for relative encodings ------------------------------------------------------------------------------------

Scores = Callable[..., np.ndarray]


def _single(function: Scores) -> Scores:
    """As most implementations compute: in single precision."""

    def scores(query, key, query_positions, key_positions):
        query, key = np.asarray(query, np.float32), np.asarray(key, np.float32)
        return np.asarray(function(query, key, query_positions, key_positions), np.float32)

    return scores


def _angles32(x, positions, base):
    frequencies = _frequencies(x.shape[-1], base).astype(np.float32)
    return np.asarray(positions, np.float32)[..., None] * frequencies


def _rope(turn=_interleaved, base=10000.0, where=lambda positions, length: positions, keys=True, sign=1) -> Scores:
    """Scores of turned queries and keys; `where` changes the positions first, as a wrong implementation might."""

    @_single
    def scores(query, key, query_positions, key_positions):
        length = max(len(query), len(key))
        turned_query = turn(query, _angles32(query, where(query_positions, length), base))
        angle = sign * _angles32(key, where(key_positions, length), base)
        return turned_query @ (turn(key, angle) if keys else key).T

    return scores


def _from_a_table(query, key, query_positions, key_positions):
    """Turned by positions as seen from the first key, sines of four decimals: relative, with a rounding of its own."""
    first = np.asarray(key_positions)[0]

    def turned(x, positions):
        hands = np.round(np.exp(1j * _angles(x, np.asarray(positions) - first, 10000.0)), 4)
        pairs = (x[:, 0::2] + 1j * x[:, 1::2]) * hands
        return _laid(pairs.real, pairs.imag)

    return turned(query, query_positions) @ turned(key, key_positions).T


def _partly(query, key, query_positions, key_positions):
    """Only the first half of the entries is turned, as in GPT-J."""
    part = query.shape[-1] // 4 * 2
    turned = _rope()(query[:, :part], key[:, :part], query_positions, key_positions)
    return turned + query[:, part:] @ key[:, part:].T


def _own_angles(query, key, query_positions, key_positions, rates):
    pairs = query.shape[-1] // 2
    angle = np.resize(np.float32(rates), pairs)
    sides = ((query, query_positions), (key, key_positions))
    q, k = (_interleaved(x, np.asarray(at, np.float32)[:, None] * angle) for x, at in sides)
    return q @ k.T


def _distances(query_positions, key_positions):
    return np.asarray(query_positions)[:, None] - np.asarray(key_positions)


def _with_bias(query, key, query_positions, key_positions, slope):
    lowered = slope * np.abs(_distances(query_positions, key_positions))
    return query @ key.T / np.sqrt(query.shape[-1]) - lowered


def _bucketed(query, key, query_positions, key_positions, table):
    distance = np.clip(_distances(query_positions, key_positions), -4, 4)
    return query @ key.T + np.asarray(table)[distance + 4]


def _added(query, key, query_positions, key_positions):
    """The sinusoidal table, added to queries and keys."""
    return (query + _sinusoidal(query_positions, query.shape[-1])) @ (key + _sinusoidal(key_positions, key.shape[-1])).T


def _growing(query, key, query_positions, key_positions, rate):
    scale = 1 + rate * np.asarray(query_positions, np.float32)[:, None]
    return scale * _rope()(query, key, query_positions, key_positions)


def _one_pair_absolute(query, key, query_positions, key_positions):
    """All pairs turn as they should; to the last one a wave is added as well."""
    wave = np.zeros(query.shape, np.float32)
    wave[:, -2:] = _sinusoidal(query_positions, 2)
    return _rope()(query, key, query_positions, key_positions) + wave @ key.T


def _eight_bits(positions, length):
    """Positions as bfloat16 holds them: with eight significant bits."""
    positions = np.asarray(positions, np.float64)
    unit = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(positions, 1))) - 7, 0)
    return np.round(positions / unit) * unit


def _vectors(rows=5, d=8):
    """The same numbers on any machine, and no pattern in them."""
    n = np.arange(2 * rows * d, dtype=float).reshape(2, rows, d)
    return np.sin(1 + n**2).astype(np.float32)


_NEAR = 0.02


def _differ(one, other, atol=_NEAR) -> bool:
    return not np.allclose(one, other, rtol=0, atol=atol)


def _try_shifts(scores, at, shifts=(1, 7, 100, 997), atol=_NEAR, both=True, only=Ellipsis):
    """All positions moved alike: no score may change."""
    query, key = _vectors(len(at))
    for shift in shifts:
        moved = scores(query, key, at + shift, at + shift * both)
        assert not _differ(scores(query, key, at, at)[only], moved[only], atol), "the scores changed"


def _try_alone(scores, at):
    """One query and one key by themselves: the score that they had among others."""
    query, key = _vectors(len(at))
    together = scores(query, key, at, at)
    for i, j in np.ndindex(together.shape):
        alone = scores(query[i : i + 1], key[j : j + 1], at[i : i + 1], at[j : j + 1])
        assert not _differ(together[i, j], alone[0, 0]), "the score depends on who else is there"


_WIDE = _at(0, 3, 40, 301, 900)


def _relative_test(scores):
    _try_shifts(scores, _WIDE)
    _try_alone(scores, _WIDE)


def _own_rope_only(scores):
    """Compares with one rotary encoding, instead of asking what makes an encoding relative."""
    query, key = _vectors(len(_WIDE))
    assert not _differ(scores(query, key, _WIDE, _WIDE), _rope()(query, key, _WIDE, _WIDE))


def _raises_for_relative(scores):
    try:
        _relative_test(scores)
    except AssertionError:
        return
    raise AssertionError("the scores did not change")


def _try_mirror(scores):
    """Asks that i to j scores as j to i: no relative encoding promises that."""
    query, _ = _vectors(len(_WIDE))
    found = scores(query, query[::-1].copy(), _WIDE, _WIDE)
    assert not _differ(found, found.T)


@question(points=4, answer="test_relative")
class RelativeTest:
    """A test that raises AssertionError for scores that depend on anything but query, key and distance.

    It is called with an implementation, scores(query, key, query_positions, key_positions), which takes arrays of shape
    (L_q, d), (L_k, d), (L_q,) and (L_k,) and returns the scores, (L_q, L_k). Any even d and positions from 0 to 2000
    must do. A right implementation may round: for vectors with entries around 1, a change of 0.01 means nothing.
    """

    read = "relative-position#relative-knows"
    parts: ClassVar = {"ordinary": 2, "subtle": 2}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """One implementation each: right ones, which must pass, and broken ones, which must not."""
        base = float(rng.choice([500, 1000, 5000, 20000, 50000]))
        slope = float(rng.choice([0.25, 0.5, 1.0]))

        def tried(subject: Scores, broken: bool, note: str, part: str = "ordinary") -> Case:
            kind = "a broken implementation" if broken else "a right implementation"
            return Case(steps=(Trial(subject, broken=broken),), part=part, note=f"{kind}: {note}")

        subtle = partial(tried, part="subtle")
        yield tried(_rope(), False, "rotary, neighbours are a pair, base 10000")
        yield tried(_rope(_half, base), False, f"rotary, halves are a pair, base {base:g}")
        yield tried(_single(_added), True, "waves are added to queries and keys")
        yield tried(_rope(keys=False), True, "only the queries are turned")
        yield tried(_rope(sign=-1), True, "the keys are turned the other way")
        squared = _rope(where=lambda positions, length: np.asarray(positions) ** 2 / 10)
        yield tried(squared, True, "the angle grows with the square of the position")
        growing = _single(partial(_growing, rate=slope / 5))
        yield tried(growing, True, f"queries grow with their position, by {slope / 5:g} a step")

        yield subtle(_single(partial(_with_bias, slope=slope)), False, f"ALiBi with the slope {slope:g}")
        table = tuple(float(x) for x in _draw(rng, 9))
        yield subtle(_single(partial(_bucketed, table=table)), False, "a number by distance, the farthest share theirs")
        yield subtle(_single(_partly), False, "rotary, only half of the entries are turned")
        yield subtle(_single(_from_a_table), False, "rotary, seen from the first key, with sines of four decimals")
        rates = tuple(float(x) for x in rng.choice([0.05, 0.1, 0.3, 0.7, 1.1], size=3, replace=False))
        yield subtle(_single(partial(_own_angles, rates=rates)), False, f"rotary, the angles {rates} in turn")
        counted = _rope(where=lambda positions, length: np.arange(len(positions)))
        yield subtle(counted, True, "rows are counted, and the positions are not used")
        by_length = _rope(where=lambda positions, length: 8 * np.asarray(positions) / length)
        yield subtle(by_length, True, "the angle is divided by the length of the text")
        clipped = _rope(where=lambda positions, length: np.minimum(positions, 512))
        yield subtle(clipped, True, "the table ends at 512, and all that is farther counts as 512")
        wrapped = _rope(where=lambda positions, length: np.asarray(positions) % 64)
        yield subtle(wrapped, True, "positions start again after 64")
        yield subtle(_rope(where=_eight_bits), True, "positions are held in bfloat16, with eight significant bits")
        yield subtle(_single(_one_pair_absolute), True, "a wave is added to one pair of the queries")

    def reference(self, scores: Scores) -> None:
        """Move all positions; take each pair by itself."""
        _relative_test(scores)

    mistakes = (
        Mistake(
            "your test never raises AssertionError",
            lambda scores: None,
            "To return False is not enough: whoever runs a test looks for an exception. Write "
            "`assert np.allclose(before, after, atol=0.01)`.",
            "relative-position#relative-knows",
        ),
        Mistake(
            "your test raises when the scores agree",
            _raises_for_relative,
            "It is right that they agree. Raise when they do not: `assert` states what must be true.",
            "relative-position#relative-knows",
        ),
        Mistake(
            "your test wants equality to the last digit",
            lambda scores: _try_shifts(scores, _WIDE, atol=0.0),
            "In single precision an angle of 1000 is right to about 1e-4, so right implementations differ a little. "
            "Allow 0.01.",
            "relative-position#relative-knows",
        ),
        Mistake(
            "your test moves the queries and leaves the keys",
            lambda scores: _try_shifts(scores, _WIDE, both=False),
            "Then the distance changes, and of course the score does. Move both by the same number.",
            "relative-position#relative-knows",
        ),
        Mistake(
            "your test moves positions by a few steps only",
            lambda scores: (_try_shifts(scores, np.arange(5), shifts=(1, 2)), _try_alone(scores, np.arange(5)), None)[
                2
            ],
            "Some faults show far out only: a table that ends, positions that start again, rounding. Move by 1 and by "
            "1000, and let the positions themselves lie far apart.",
            "where-am-i#where-buffer",
        ),
        Mistake(
            "your test only moves positions",
            lambda scores: _try_shifts(scores, _WIDE),
            "An implementation that never reads the positions does not change when they move. Ask for one query and "
            "one key by themselves, too: the score must be the one that they have among others.",
            "relative-position#relative-cache",
        ),
        Mistake(
            "your test never moves the positions",
            lambda scores: _try_alone(scores, _WIDE),
            "The score of a query at 5 and a key at 3 must be that of the same two at 105 and 103. Move all positions "
            "by the same number and compare.",
            "relative-position#relative-knows",
        ),
        Mistake(
            "your test looks at one score, of a query and a key at the same position",
            lambda scores: _try_shifts(scores, _WIDE, only=(0, 0)),
            "At distance 0 many faults cancel: the same wrong angle is added on both sides. Compare the whole matrix.",
            "relative-position#relative-layout",
        ),
        Mistake(
            "your test compares with one rotary encoding",
            _own_rope_only,
            "Other pairs, other bases and a bias by distance are relative as well. Do not ask for certain numbers: ask "
            "whether the numbers change when all positions move.",
            "relative-position#relative-where",
        ),
        Mistake(
            "your test asks that i to j scores as j to i",
            _try_mirror,
            "A relative encoding may tell before from after: distance 3 and distance -3 are two distances. Compare "
            "with the same distance elsewhere.",
            "relative-position#relative-knows",
        ),
    )


# --- a bias by distance -----------------------------------------------------------------------------------------------

_ALIBI = """ALiBi. The bias of head h = 1, ..., heads is -slope * distance, where
  slope = 2 ** (-8 * h / heads); heads is a power of two.
  distance = {distance}
`table` is None."""
_T5 = """T5. The bias of a head is table[bucket, head], a number that was learned.
  distance = {distance}
{buckets}
A distance below exact = n // 2 is its own bucket. From there on it is
  exact + floor(log(distance / exact) / log(max_distance / exact) * (n - exact))
and n - 1 at most. max_distance is {max_distance}."""
_PAST = "query position - key position; 0 for keys in the future, which a causal mask will hide"
_BOTH = "|query position - key position|"
_PAST_BUCKETS = "All n = buckets rows of the table serve it, the first one distance 0."
_BOTH_BUCKETS = """The first n = buckets // 2 rows of the table serve keys at the query and before it, the other n rows
keys in the future: add n to their bucket."""


def _slopes(heads):
    return 2.0 ** (-8 * np.arange(1, heads + 1) / heads)


def _fall(slopes, distance):
    return -np.asarray(slopes)[:, None, None] * distance


def _bucket(distance, n, far, exact=None, rounding=np.floor, start=None, span=None):
    """The bucket of each distance >= 0, of n; the keywords are what people get wrong."""
    exact = n // 2 if exact is None else exact
    start = exact if start is None else start
    span = np.log(far / exact) if span is None else span
    ratio = np.log(np.maximum(distance, exact) / start) / span
    far_away = np.clip(exact + rounding(ratio * (n - exact)).astype(int), 0, n - 1)
    return np.where(distance < exact, distance, far_away)


def _by_distance(got, query_positions, key_positions, heads, table=None) -> bool:
    offset = _distances(query_positions, key_positions)
    return all(np.allclose(got[:, offset == one], got[:, offset == one][:, :1], atol=1e-4) for one in np.unique(offset))


@question(points=4, answer="relative_bias")
class RelativeBias:
    """A bias by distance, added to the scores: {kind}'s.

    relative_bias(query_positions, key_positions, heads, table) has the shape (heads, L_q, L_k).

    {rule}
    """

    read = "relative-position#relative-where"
    forbidden = _READY_MADE
    tolerance = Tolerance(rtol=1e-4, atol=1e-5)
    parts: ClassVar = {"ordinary": 2, "positions": 1, "far": 1}

    def variant(self, rng: np.random.Generator) -> dict[str, Any]:
        """ALiBi or T5, for keys on both sides or in the past only.

        The greatest distance is one for which no whole distance falls on the edge of two buckets, so that rounding
        decides nothing.
        """
        kind, both_ways = str(rng.choice(["ALiBi", "T5"])), bool(rng.integers(2))
        max_distance = int(rng.choice([20, 24, 30, 40]))
        buckets = _BOTH_BUCKETS if both_ways else _PAST_BUCKETS
        text = _ALIBI if kind == "ALiBi" else _T5
        rule = text.format(distance=_BOTH if both_ways else _PAST, buckets=buckets, max_distance=max_distance)
        return {"kind": kind, "both_ways": both_ways, "max_distance": max_distance, "rule": rule}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first; in the part "positions" queries and keys do not stand at 0, 1, 2, ..."""
        yield self._case(rng, _at(0), _at(0, 1), 2, note="one query at 0, keys at 0 and 1")
        yield self._case(rng, _at(2), np.arange(3), 2, note="one query at 2, keys at 0 to 2")
        yield self._case(rng, np.arange(6), np.arange(6), 4, note="six queries, six keys, four heads")
        yield self._case(rng, np.arange(9), np.arange(9), 1, 16, note="nine queries, nine keys, one head")
        new, start = int(rng.integers(4, 7)), int(rng.integers(50, 300))
        at = start + np.arange(5)
        yield self._case(rng, _at(new), np.arange(new + 1), 2, part="positions", note="one new query and a cache")
        yield self._case(rng, at[-2:], at, 2, part="positions", note=f"two queries, five keys, from position {start}")
        yield self._case(rng, np.arange(4), _at(3, 0, 7), 2, part="positions", note="four queries, keys in no order")
        yield self._case(rng, _at(1, 5), _at(), 2, part="positions", note="no keys at all")
        far = np.sort(rng.choice(np.arange(4, 59), size=9, replace=False))
        yield self._case(rng, _at(60), far, 8, part="far", note="distances up to 56, eight heads")
        yield self._case(rng, _at(0, 30), 4 * np.arange(16), 2, 16, part="far", note="far keys on both sides")
        yield self._case(rng, _at(500), _at(0, 200, 460, 490), 2, 32, part="far", note="distances up to 500")

    def _case(self, rng, query_positions, key_positions, heads, buckets=8, **more) -> Case:
        """All numbers of a table differ, so that a wrong bucket shows."""
        args = (query_positions, key_positions, heads)
        if self.kind == "ALiBi":
            rng.integers(2)  # the other kind draws, too
            shift = int(rng.integers(0, 5))  # the distances stay, the places are new
            return Case((args[0] + shift, args[1] + shift, heads), **more)
        table = rng.permutation(buckets * heads).reshape(buckets, heads) / 2
        return Case((*args, table.astype(np.float32)), **more)

    def reference(self, query_positions, key_positions, heads, table=None) -> np.ndarray:
        """One entry at a time."""
        bias = np.zeros((heads, len(query_positions), len(key_positions)))
        for (i, query), (j, key) in ((a, b) for a in enumerate(query_positions) for b in enumerate(key_positions)):
            offset = int(query) - int(key)
            distance = abs(offset) if self.both_ways else max(offset, 0)
            if self.kind == "ALiBi":
                bias[:, i, j] = [-(2 ** (-8 * h / heads)) * distance for h in range(1, heads + 1)]
            else:
                n = len(table) // 2 if self.both_ways else len(table)
                row = int(_bucket(np.array(distance), n, self.max_distance))
                bias[:, i, j] = table[row + n if self.both_ways and offset < 0 else row]
        return bias

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        """Those of both kinds, and ALiBi's own."""
        same_everywhere = Invariant(
            "two pairs at the same distance have a different bias",
            _by_distance,
            "The bias of a head depends on query position - key position and on nothing else.",
            "relative-position#relative-where",
        )
        if self.kind == "T5":
            held = Invariant(
                "a bias is no number of the table",
                lambda got, query_positions, key_positions, heads, table: bool(np.isin(got, table).all()),
                "Nothing is computed with the table's numbers: they are looked up.",
                "relative-position#relative-t5",
            )
            return (same_everywhere, held)
        lowered = Invariant(
            "a bias is above 0",
            lambda got, query_positions, key_positions, heads, table=None: bool((got <= 0).all()),
            "A bias may only lower a score: the farther the key, the lower.",
            "relative-position#relative-alibi",
        )
        return (lowered, same_everywhere)

    def _distance(self, query_positions, key_positions):
        offset = _distances(query_positions, key_positions)
        return np.abs(offset) if self.both_ways else np.maximum(offset, 0)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """A property, since they depend on the student's kind."""
        return self._alibi_mistakes() if self.kind == "ALiBi" else self._t5_mistakes()

    def _alibi_mistakes(self) -> tuple[Mistake, ...]:
        read = "relative-position#relative-alibi"

        def falls(slopes=_slopes, distance=self._distance):
            return lambda q, k, heads, table=None: _fall(slopes(heads), distance(q, k))

        def squeezed(q, k, heads, table=None):
            return _fall(_slopes(heads), self._distance(q, k)).mean(axis=0)

        def last(q, k, heads, table=None):
            return np.moveaxis(_fall(_slopes(heads), self._distance(q, k)), 0, -1)

        other_way = (
            (lambda q, k: np.maximum(_distances(q, k), 0))
            if self.both_ways
            else (lambda q, k: np.abs(_distances(q, k)))
        )
        other_name = "keys in the future keep their score" if self.both_ways else "keys in the future are lowered, too"
        other_hint = (
            "Yours is a bias for both directions: the distance is |i - j|."
            if self.both_ways
            else "Yours is a bias for a causal model: a key in the future, which the mask hides, has the distance 0."
        )
        return (
            Mistake(
                "far keys are raised and not lowered",
                falls(distance=lambda q, k: -self._distance(q, k)),
                "The sign: the bias is -slope * distance. As it is, the farthest key wins.",
                read,
            ),
            Mistake(
                "the bias counts upwards with the key's position",
                falls(distance=lambda q, k: -np.broadcast_to(k, (len(q), len(k)))),
                "A softmax over the past cannot tell this from -slope * distance, until numbers get large: in half "
                "precision the nearest keys then tie. Count from the query: 0 for the key where it stands.",
                "positions#museum-alibi-sign",
            ),
            Mistake(
                "keys in the future are raised",
                falls(distance=_distances),
                "query position - key position is negative there, and minus slope times that is a rise. "
                + ("Take its absolute value." if self.both_ways else "Take 0 for them."),
                read,
            ),
            Mistake(other_name, falls(distance=other_way), other_hint, read),
            Mistake(
                "the slopes begin with 1",
                falls(slopes=lambda heads: 2.0 ** (-8 * np.arange(heads) / heads)),
                "h counts from 1, so the first slope is 2 ** (-8 / heads), and the last one 2 ** -8.",
                read,
            ),
            Mistake(
                "the slopes are those of eight heads",
                falls(slopes=lambda heads: 2.0 ** -np.arange(1.0, heads + 1)),
                "1/2, 1/4, 1/8, ... is right for eight heads. In general head h has 2 ** (-8 * h / heads).",
                read,
            ),
            Mistake(
                "all heads have the same slope",
                falls(slopes=lambda heads: np.full(heads, _slopes(heads)[0])),
                "Heads differ so that some look near and others far: head h has 2 ** (-8 * h / heads).",
                read,
            ),
            Mistake(
                "the slopes are in the opposite order",
                falls(slopes=lambda heads: _slopes(heads)[::-1]),
                "The first head has the steepest slope.",
                read,
            ),
            Mistake(
                "the slopes are not powers but shares of 8",
                falls(slopes=lambda heads: 8 * np.arange(1, heads + 1) / heads),
                "-8 * h / heads is the exponent: the slope is 2 to that power.",
                read,
            ),
            Mistake(
                "rows are counted instead of using the positions",
                falls(distance=lambda q, k: self._distance(np.arange(len(q)), np.arange(len(k)))),
                "In decoding one query stands at the end of a long cache. Use the positions that are given.",
                "relative-position#relative-cache",
            ),
            Mistake(
                "queries and keys have changed places",
                lambda q, k, heads, table=None: np.swapaxes(_fall(_slopes(heads), self._distance(q, k)), 1, 2),
                "A row for each query and a column for each key, like the scores.",
                read,
            ),
            Mistake(
                "the heads stand in the last axis", last, "The shape is (heads, L_q, L_k), like that of scores.", read
            ),
            Mistake(
                "there is one bias for all heads",
                squeezed,
                "Every head has a bias of its own: (heads, L_q, L_k).",
                read,
            ),
        )

    def _t5_mistakes(self) -> tuple[Mistake, ...]:
        read = "relative-position#relative-t5"

        def looks_up(towards=_distances, bucket=_bucket, far=self.max_distance, past=0, future=1, both=self.both_ways):
            def wrong(q, k, heads, table):
                offset = towards(q, k)
                n = len(table) // 2 if both else len(table)
                row = bucket(np.abs(offset) if both else np.maximum(offset, 0), n, far)
                row = row + n * np.where(offset < 0, future, past) if both else row
                return np.moveaxis(table[np.minimum(row, len(table) - 1)], -1, 0)

            return wrong

        right = looks_up()

        def as_if_causal(q, k, heads, table):
            return np.moveaxis(table[_bucket(np.maximum(_distances(q, k), 0), len(table), self.max_distance)], -1, 0)

        def sideless(q, k, heads, table):
            n = len(table) // 2 if self.both_ways else len(table)
            return np.moveaxis(table[_bucket(np.abs(_distances(q, k)), n, self.max_distance)], -1, 0)

        common = (
            Mistake(
                "the past is taken for the future",
                looks_up(towards=lambda q, k: -_distances(q, k)),
                "T5's own code has key position - query position, and changes its sign later. A key before the query "
                "is in the past: query position - key position is above 0.",
                read,
            ),
            Mistake(
                "far distances are not put into ranges",
                looks_up(bucket=lambda distance, n, far: np.minimum(distance, n - 1)),
                "Below exact = n // 2 each distance has its bucket; above, buckets grow by the logarithm.",
                read,
            ),
            Mistake(
                "buckets are rounded to the nearest",
                looks_up(bucket=partial(_bucket, rounding=np.round)),
                "Round down: bucket b begins at its distance and ends where b + 1 begins.",
                read,
            ),
            Mistake(
                "buckets are rounded up",
                looks_up(bucket=partial(_bucket, rounding=np.ceil)),
                "Round down (floor, or a conversion to int).",
                read,
            ),
            Mistake(
                "max_distance is 128 and not yours",
                looks_up(far=128),
                f"128 is T5's. Yours is {self.max_distance}: use the variable `max_distance`.",
                read,
            ),
            Mistake(
                "the first logarithm is that of the distance itself",
                looks_up(bucket=lambda distance, n, far: _bucket(distance, n, far, start=1)),
                "Divide by exact first: the logarithm must be 0 where the ranges begin, log(m / exact).",
                read,
            ),
            Mistake(
                "the second logarithm is that of max_distance itself",
                looks_up(bucket=lambda distance, n, far: _bucket(distance, n, far, span=np.log(far))),
                "The ranges go from exact to max_distance, so divide by log(max_distance / exact).",
                read,
            ),
            Mistake(
                "a quarter of the buckets is exact and not half",
                looks_up(bucket=lambda distance, n, far: _bucket(distance, n, far, exact=n // 4)),
                "exact is half of the n buckets of one direction.",
                read,
            ),
            Mistake(
                "rows are counted instead of using the positions",
                looks_up(towards=lambda q, k: _distances(np.arange(len(q)), np.arange(len(k)))),
                "In decoding one query stands at the end of a long cache. Use the positions that are given.",
                "relative-position#relative-cache",
            ),
            Mistake(
                "queries and keys have changed places",
                lambda q, k, heads, table: np.swapaxes(right(q, k, heads, table), 1, 2),
                "A row for each query and a column for each key, like the scores.",
                read,
            ),
            Mistake(
                "the heads stand in the last axis",
                lambda q, k, heads, table: np.moveaxis(right(q, k, heads, table), 0, -1),
                "table[bucket] has the shape (L_q, L_k, heads). Scores have their heads in front: move that axis.",
                read,
            ),
        )
        if self.both_ways:
            return (
                *common,
                Mistake(
                    "past and future have each other's half of the table",
                    looks_up(past=1, future=0),
                    "The second half is that of keys in the future: add n where the key stands after the query.",
                    read,
                ),
                Mistake(
                    "keys in the future have no buckets of their own",
                    sideless,
                    "Both directions share your first half. Add n = buckets // 2 for keys in the future.",
                    read,
                ),
                Mistake(
                    "the whole table serves the past",
                    as_if_causal,
                    "That is how T5's decoder does it. Yours is a bias for both directions: half of the table each.",
                    read,
                ),
            )
        return (
            *common,
            Mistake(
                "keys in the future are put into buckets by their distance",
                sideless,
                "Yours is a bias for a causal model: a key in the future, which the mask hides, has the distance 0.",
                read,
            ),
            Mistake(
                "half of the table is kept for the future",
                looks_up(both=True),
                "That is how T5's encoder does it. Yours is a bias for a causal model: all rows serve the past.",
                read,
            ),
        )


# --- what lies beyond the trained length ------------------------------------------------------------------------------


def _softmax(scores, axis=-1, stable=True):
    exponentials = np.exp(scores - scores.max(axis=axis, keepdims=True) if stable else scores)
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def _causal(scores, diagonal=0):
    visible = np.tri(len(scores), k=diagonal, dtype=bool)
    return np.where(visible, scores, -np.inf)


def _weights(scores, tokens, n, whole=False):
    if whole:
        return _softmax(_causal(scores))[:n, :n]
    return _softmax(_causal(scores[:n, :n]))


def _last_quarter(n, back):
    return np.arange(n - n // 4, n)


def _same_symbol(tokens, queries, n, back):
    """Which keys hold the symbol that is asked for: (texts, queries, n)."""
    return tokens[:, None, :n] == tokens[:, queries - back, None]


def _perplexity(right):
    return np.exp(-np.log(right).mean())


def _measured(weigh=_weights, whom=_last_quarter, matches=_same_symbol, summed=_perplexity):
    """The measurement, with the parts that people get wrong as arguments."""

    def measure(scores, tokens, back, lengths):
        found = []
        for n in map(int, lengths):
            queries = whom(n, back)
            right = (weigh(scores, tokens, n)[queries] * matches(tokens, queries, n, back)).sum(axis=-1)
            found.append(summed(right))
        return np.array(found)

    return measure


def _the_key_alone(tokens, queries, n, back):
    return np.broadcast_to(np.arange(n) == queries[:, None] - back, (len(tokens), len(queries), n))


@question(points=4, answer="extrapolation")
class Extrapolation:
    """The perplexity of a head that should say which symbol stood `back` tokens ago, for each length of text.

    extrapolation(scores, tokens, back, lengths): scores (L, L), tokens (texts, L) and lengths are arrays.
    """

    read = "relative-position#relative-train"
    forbidden = _READY_MADE
    tolerance = Tolerance(rtol=1e-3, atol=1e-4)
    parts: ClassVar = {"ordinary": 2, "lengths": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first; scores of 1000 only in the part "extreme"."""
        yield self._case(rng, 1, 4, 1, (4,), note="one text of four tokens, one token back")
        yield self._case(rng, 2, 8, 1, (8,), note="two texts of eight tokens, one token back")
        yield self._case(rng, 3, 8, 3, (8,), symbols=3, note="three texts of eight tokens, three tokens back")
        yield self._case(rng, 2, 9, 2, (9,), note="texts of nine tokens: the last quarter is two")
        yield self._case(rng, 2, 8, 1, (4, 8), part="lengths", note="lengths 4 and 8")
        yield self._case(rng, 3, 17, 3, (5, 8, 16), symbols=4, part="lengths", note="lengths 5, 8 and 16 out of 17")
        yield self._case(rng, 2, 8, 0, (4, 8), part="lengths", note="zero tokens back: the symbol itself")
        yield self._case(rng, 2, 8, 1, (4, 8), size=1000, part="extreme", note="scores around 1000")
        yield self._case(rng, 1, 6, 2, (6,), size=-1000, part="extreme", note="scores around -1000")

    @staticmethod
    def _case(rng, texts, length, back, lengths, symbols=3, size=0, **more) -> Case:
        """No score is above that of the right key by much, so that no probability is lost in single precision."""
        tokens = rng.integers(0, symbols, size=(texts, length))
        tokens[0, : min(length, 4)] = np.arange(min(length, 4)) % symbols  # not all alike
        scores = _draw(rng, length, length) / 2 + size
        return Case((scores.astype(np.float32), tokens, back, np.array(lengths)), **more)

    def reference(self, scores, tokens, back, lengths) -> np.ndarray:
        """One query of one text at a time."""
        found = []
        for n in lengths:
            losses = []
            for i in range(n - n // 4, n):
                row = np.exp(scores[i, : i + 1] - scores[i, : i + 1].max())
                for text in tokens:
                    right = row[text[: i + 1] == text[i - back]].sum() / row.sum()
                    losses.append(-np.log(right))
            found.append(np.exp(np.mean(losses)))
        return np.array(found)

    invariants = (
        Invariant(
            "a perplexity is below 1",
            lambda got, scores, tokens, back, lengths: bool((got >= 1 - 1e-4).all()),
            "A probability is 1 at most, its logarithm 0 at most: the perplexity of a head that is always sure and "
            "always right is 1.",
            "relative-position#relative-train",
        ),
        Invariant(
            "a perplexity is nan or inf",
            lambda got, scores, tokens, back, lengths: bool(np.isfinite(got).all()),
            "The right symbol always has some weight, since the key that holds it is visible. Is a mask too strict, or "
            "does exp overflow?",
            "softmax#softmax-max-shift",
        ),
    )

    mistakes = (
        Mistake(
            "there is no causal mask",
            _measured(weigh=lambda scores, tokens, n: _softmax(scores[:n, :n])),
            "Query i may see the keys 0 to i. Set the scores of later keys to -inf before the softmax.",
            "scaled-dot-product#attention-causal",
        ),
        Mistake(
            "later keys are hidden after the softmax",
            _measured(weigh=lambda scores, tokens, n: np.tril(_softmax(scores[:n, :n]))),
            "They have had their share of the sum by then, and the rest no longer sums to 1. Hide scores, not weights.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "the whole score matrix is normalised and then cut",
            _measured(weigh=lambda scores, tokens, n: _softmax(scores)[:n, :n]),
            "A text of n tokens has n keys: cut the scores to scores[:n, :n] first, and let no later key take part.",
            "scaled-dot-product#attention-mask",
        ),
        Mistake(
            "a query may not see its own token",
            _measured(weigh=lambda scores, tokens, n: np.nan_to_num(_softmax(_causal(scores[:n, :n], -1)))),
            "Query i may see the keys 0 to i, and i itself is one of them.",
            "scaled-dot-product#attention-causal",
        ),
        Mistake(
            "the softmax runs over the queries",
            _measured(weigh=lambda scores, tokens, n: _softmax(_causal(scores[:n, :n]), axis=0)),
            "Each query shares out a weight of 1 among its keys: along the last axis.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the softmax does not subtract the row's maximum",
            _measured(weigh=lambda scores, tokens, n: _softmax(_causal(scores[:n, :n]), stable=False)),
            "exp overflows for a score of 1000, and inf / inf is nan.",
            "softmax#softmax-max-shift",
        ),
        Mistake(
            "the end of the score matrix is taken and not its beginning",
            _measured(weigh=lambda scores, tokens, n: _softmax(_causal(scores[-n:, -n:]))),
            "A text of n tokens stands at positions 0 to n - 1: scores[:n, :n].",
            "relative-position#relative-train",
        ),
        Mistake(
            "all queries are judged",
            _measured(whom=lambda n, back: np.arange(back, n)),
            "The first queries of a long text have a short past, and hide what happens far out. Judge the last "
            "quarter: n - n // 4 to n - 1.",
            "relative-position#relative-train",
        ),
        Mistake(
            "the last query alone is judged",
            _measured(whom=lambda n, back: np.arange(n - 1, n)),
            "Judge the last n // 4 queries.",
            "relative-position#relative-train",
        ),
        Mistake(
            "only the weight of the one key counts",
            _measured(matches=_the_key_alone),
            "Any key that holds the right symbol speaks for it: the head hands out symbols, and nobody sees which key "
            "they came from. Sum over all keys j with tokens[j] == tokens[i - back].",
            "relative-position#relative-train",
        ),
        Mistake(
            "the head should say its own symbol",
            _measured(matches=lambda tokens, queries, n, back: _same_symbol(tokens, queries, n, 0)),
            "For query i the right symbol is tokens[i - back].",
            "relative-position#relative-train",
        ),
        Mistake(
            "the target is one token too far back",
            _measured(matches=lambda tokens, queries, n, back: _same_symbol(tokens, queries, n, back + 1)),
            "Token i - back: for back = 1 it is the neighbour.",
            "relative-position#relative-train",
        ),
        Mistake(
            "probabilities are averaged, and the logarithm comes later",
            _measured(summed=lambda right: 1 / right.mean()),
            "Perplexity is exp(mean(-log p)). Averaging p first forgives a head that is now and then surely wrong.",
            "relative-position#relative-train",
        ),
        Mistake(
            "the perplexities of the texts are averaged",
            _measured(summed=lambda right: np.exp(-np.log(right).mean(axis=-1)).mean()),
            "The mean is taken of all -log p, over texts and queries; exp comes last.",
            "relative-position#relative-train",
        ),
        Mistake(
            "you returned the loss",
            _measured(summed=lambda right: -np.log(right).mean()),
            "That is its logarithm: take exp of it.",
            "relative-position#relative-train",
        ),
        Mistake(
            "two is raised to the natural loss",
            _measured(summed=lambda right: 2 ** -np.log(right).mean()),
            "exp belongs to log, and 2 ** to log2.",
            "relative-position#relative-train",
        ),
        Mistake(
            "you returned the probability",
            _measured(summed=lambda right: np.exp(np.log(right).mean())),
            "A sign: perplexity is exp(mean(-log p)), 1 at best and large when the head is surprised.",
            "relative-position#relative-train",
        ),
    )
