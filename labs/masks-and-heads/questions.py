"""Masks and heads.

Seven questions: three masks, the split into heads and the way back, grouped-query attention, and torch's own
multi-head attention. Everywhere True means "may attend", but for the two masks that torch's module takes.
Numbers are drawn as halves and quarters, so that a counter-example is easy to read and exact in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Tolerance, question
from attnkit.lab.steps import Build, Call, Gradient, Load

# An answer may compute in float32, whatever it was handed, and with logits of 10000: see the lab on attention.
SINGLE_PRECISION = Tolerance(rtol=1e-3, atol=1e-5)
# Gradients are sums of many products that partly cancel.
OF_A_MODULE = Tolerance(rtol=1e-3, atol=1e-4)

# Calls that would be the answer. A softmax is fair: it was the lab before.
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


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    if x.size == 0:
        return x
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def _swap(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def _truths(got: np.ndarray) -> bool:
    return bool(np.isin(got, (0, 1)).all())


# --- causal_mask ------------------------------------------------------------------------------------------------------


def _distance(q_len: int, k_len: int, shift: int) -> np.ndarray:
    """How far key j lies behind query i, whose own place among the keys is i + shift: (q_len, k_len)."""
    return np.arange(q_len)[:, None] + shift - np.arange(k_len)[None, :]


def _causal(q_len: int, k_len: int, align: str) -> np.ndarray:
    return _distance(q_len, k_len, k_len - q_len if align == "lower_right" else 0) >= 0


def _shifted(shift: Callable[[int, int], int]):
    """Right for upper_left; for lower_right query i stands at i + shift(q_len, k_len)."""
    return lambda q_len, k_len, align: (
        _distance(q_len, k_len, shift(q_len, k_len) if align == "lower_right" else 0) >= 0
    )


def _other_alignment(q_len, k_len, align):
    return _causal(q_len, k_len, "upper_left" if align == "lower_right" else "lower_right")


def _strictly_before(q_len, k_len, align):
    return _distance(q_len, k_len, k_len - q_len if align == "lower_right" else 0) > 0


def _itself_and_later(q_len, k_len, align):
    return _distance(q_len, k_len, k_len - q_len if align == "lower_right" else 0) <= 0


def _turned_round(q_len, k_len, align):
    seen = _causal(q_len, k_len, "upper_left")
    return seen[::-1, ::-1] if align == "lower_right" else seen


def _mirrored(q_len, k_len, align):
    seen = _causal(q_len, k_len, "upper_left")
    return seen[:, ::-1] if align == "lower_right" else seen


def _no_empty_row(q_len, k_len, align):
    seen = _causal(q_len, k_len, align)
    return seen | ~seen.any(axis=-1, keepdims=True)


@question(points=2, answer="causal_mask")
class CausalMask:
    """Which keys a query may see when nobody looks ahead, in either alignment.

    causal_mask(q_len, k_len, align) is a table of truths of shape (q_len, k_len): True where query i may see key j.
    With align "upper_left" query i stands at key i; with "lower_right" the last query stands at the last key.
    A query sees the key where it stands and all that come before.
    """

    read = "idea/masks#masks-alignment"
    forbidden = ("attnkit", "torch.nn.attention.bias.causal_lower_right", "torch.nn.attention.bias.causal_upper_left")
    parts: ClassVar = {"ordinary": 1, "shapes": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        more = int(rng.integers(2, 5))
        yield Case((3, 3, "upper_left"), note="three queries and three keys, upper left")
        yield Case((3, 3, "lower_right"), note="three queries and three keys, lower right")
        yield Case((2, 2 + more, "upper_left"), note="two queries and more keys, upper left")
        yield Case((2, 2 + more, "lower_right"), note="two queries and more keys, lower right")
        q_len, longer = int(rng.integers(3, 7)), int(rng.integers(2, 9))
        yield Case((q_len, q_len + longer, "upper_left"), note="a few queries and more keys, upper left")
        yield Case((q_len, q_len + longer, "lower_right"), note="a few queries and more keys, lower right")

        yield Case((1, 1 + more, "lower_right"), part="shapes", note="one new query, lower right")
        yield Case((1, 1 + more, "upper_left"), part="shapes", note="one query, upper left")
        yield Case((3 + more, 3, "lower_right"), part="shapes", note="more queries than keys, lower right")
        yield Case((3 + more, 3, "upper_left"), part="shapes", note="more queries than keys, upper left")
        yield Case((1, 1, "lower_right"), part="shapes", note="one query and one key")
        yield Case((0, more, "lower_right"), part="shapes", note="no queries at all")
        yield Case((more, 0, "upper_left"), part="shapes", note="no keys at all")

    def reference(self, q_len: int, k_len: int, align: str) -> np.ndarray:
        """Query i stands at key i + shift and sees the keys up to it."""
        return _causal(q_len, k_len, align)

    invariants = (
        Invariant(
            "a value is neither True nor False",
            lambda got, q_len, k_len, align: _truths(got),
            "A mask of truths says for each query and key whether the one may see the other.",
            "idea/masks#masks-formula",
        ),
        Invariant(
            "a query sees a key but not the one before it",
            lambda got, q_len, k_len, align: bool((np.diff(got.astype(int), axis=1) <= 0).all()),
            "Who may see a key may see all that come before it: each row is True up to some key and False after it.",
            "idea/masks#masks-alignment",
        ),
        Invariant(
            "a query sees less than the query above it",
            lambda got, q_len, k_len, align: bool((np.diff(got.astype(int), axis=0) >= 0).all()),
            "Each query stands one key further than the one above it, so it sees one key more, or as many.",
            "idea/masks#masks-alignment",
        ),
    )

    mistakes = (
        Mistake(
            "the triangle starts in the upper left corner, whatever `align` says",
            lambda q_len, k_len, align: _causal(q_len, k_len, "upper_left"),
            "np.tri and tril do that by default, and on a square both alignments are the same. With lower_right the "
            "last query stands at the last key: shift everything by k_len - q_len.",
            "museum/masks#museum-causal-alignment",
        ),
        Mistake(
            "the triangle ends in the lower right corner, whatever `align` says",
            lambda q_len, k_len, align: _causal(q_len, k_len, "lower_right"),
            "With upper_left the first query stands at the first key and sees that one only: no shift.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the two alignments are exchanged",
            _other_alignment,
            "upper_left: the first query stands at the first key. lower_right: the last query stands at the last key.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "True stands for hidden",
            lambda q_len, k_len, align: ~_causal(q_len, k_len, align),
            "Here True means: may attend. The last query of lower_right must see everything; turn it round with ~.",
            "idea/masks#masks-conventions",
        ),
        Mistake(
            "a query does not see its own key",
            _strictly_before,
            "The query stands *at* a key and sees that one, too: <=, not <. Otherwise the first query sees nothing.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "a query sees its own key and the later ones",
            _itself_and_later,
            "(triu does that, and so does exchanging rows and columns in the comparison.) Rows are queries, columns "
            "are keys, and the keys *before* a query are visible: key <= query.",
            "idea/masks#masks-formula",
        ),
        Mistake(
            "rows are keys and columns are queries",
            lambda q_len, k_len, align: _causal(q_len, k_len, align).T,
            "The table has a row for each query and a column for each key, like the scores: (q_len, k_len).",
            "idea/masks#masks-formula",
        ),
        Mistake(
            "the shift of lower_right has the wrong sign",
            _shifted(lambda q_len, k_len: q_len - k_len),
            "Query i stands at key i + k_len - q_len: for the last query, i = q_len - 1, that is the last key.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "in lower_right every query sees one key too many",
            _shifted(lambda q_len, k_len: k_len - q_len + 1),
            "With as many queries as keys nobody may see a later key. Check the last but one query: it sees all keys "
            "but the last.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "in lower_right every query sees one key too few",
            _shifted(lambda q_len, k_len: k_len - q_len - 1),
            "The last query stands at the last key, so it sees all of them. Check your shift for i = q_len - 1.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the shift of lower_right is never negative",
            _shifted(lambda q_len, k_len: max(k_len - q_len, 0)),
            "With more queries than keys the last query still stands at the last key, and the first ones stand before "
            "all keys: their rows see nothing, and that is right.",
            "idea/masks#masks-empty",
        ),
        Mistake(
            "a row that sees nothing is let see everything",
            _no_empty_row,
            "A query that stands before all keys may see none of them. What to do with such a row is a matter for the "
            "attention; a mask says the truth.",
            "idea/masks#masks-empty",
        ),
        Mistake(
            "lower_right is the triangle turned by half a turn",
            _turned_round,
            "Then query i sees the keys from its own place to the end, the future. The triangle keeps its direction "
            "and moves to the right.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "lower_right is the triangle mirrored from left to right",
            _mirrored,
            "Then the first query sees the last key only. The triangle keeps its direction and moves to the right.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the table holds 0 and -inf",
            lambda q_len, k_len, align: np.where(_causal(q_len, k_len, align), 0.0, -np.inf),
            "That is the number to add to a score. Here the table itself is asked: True where a key may be seen.",
            "idea/masks#masks-formula",
        ),
    )


# --- window_mask ------------------------------------------------------------------------------------------------------


def _behind(q_len: int, k_len: int) -> np.ndarray:
    return _distance(q_len, k_len, k_len - q_len)


def _blocks(q_len, k_len, width):
    behind = _behind(q_len, k_len)
    own = np.arange(k_len)[None, :] + behind  # the place of the query
    return (own // width == np.arange(k_len)[None, :] // width) & (behind >= 0)


def _last_keys(q_len, k_len, width):
    return _causal(q_len, k_len, "lower_right") & (np.arange(k_len) >= k_len - width)


@question(points=2, answer="window_mask")
class WindowMask:
    """A causal sliding window: each query sees {window} keys, its own included and none after it.

    window_mask(q_len, k_len) is a table of truths of shape (q_len, k_len). The last query stands at the last key
    (lower right). A query near the left edge sees the keys that there are.
    """

    read = "idea/masks#masks-window"
    forbidden = ("attnkit",)
    parts: ClassVar = {"ordinary": 1, "shapes": 1}

    def variant(self, rng: np.random.Generator) -> dict[str, Any]:
        """Each student's own window."""
        return {"window": int(rng.integers(3, 7))}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first; sizes follow the window."""
        width, more = self.window, int(rng.integers(2, 6))
        yield Case((width + 2, width + 2), note="as many queries as keys, two more than the window")
        yield Case((2, width + 2), note="two queries, and two keys more than the window")
        yield Case((3, 2 * width + more), note="three queries and more than two windows of keys")
        yield Case((2 * width + more, 2 * width + more), note="more than two windows of queries and of keys")

        yield Case((1, width + more), part="shapes", note="one new query")
        yield Case((1, 1), part="shapes", note="one query and one key")
        yield Case((width - 1, width - 1), part="shapes", note="a window that is wider than the text")
        yield Case((width + more, width), part="shapes", note="more queries than keys")
        yield Case((0, more), part="shapes", note="no queries at all")

    def reference(self, q_len: int, k_len: int) -> np.ndarray:
        """0 <= how far behind the key lies < window."""
        behind = _behind(q_len, k_len)
        return (behind >= 0) & (behind < self.window)

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        """A property, since they know the student's window."""
        width = self.window
        return (
            Invariant(
                "a value is neither True nor False",
                lambda got, q_len, k_len: _truths(got),
                "A mask of truths says for each query and key whether the one may see the other.",
                "idea/masks#masks-formula",
            ),
            Invariant(
                f"a query sees more than {width} keys",
                lambda got, q_len, k_len: bool((got.sum(axis=-1) <= width).all()),
                "The window counts the query's own key: a cache of so many keys must hold all that a query sees.",
                "museum/masks#museum-window-off-by-one",
            ),
            Invariant(
                "a query sees a key after its own",
                lambda got, q_len, k_len: not got[_behind(q_len, k_len) < 0].any(),
                "The window lies behind the query: a key after the query's own place is the future.",
                "idea/masks#masks-window",
            ),
            Invariant(
                "a query does not see its own key",
                lambda got, q_len, k_len: bool(got[_behind(q_len, k_len) == 0].all()),
                "The window ends with the query's own key. The last query's own key is the last one.",
                "idea/masks#masks-window",
            ),
        )

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """A property, since the wrong answers know the student's window."""
        width = self.window

        def between(low: int, high: int, shift: Callable[[int, int], int] = lambda q_len, k_len: k_len - q_len):
            """Keys that lie from `low` to `high` places behind the query are seen."""

            def wrong(q_len, k_len):
                behind = _distance(q_len, k_len, shift(q_len, k_len))
                return (behind >= low) & (behind <= high)

            return wrong

        far = 1_000_000
        return (
            Mistake(
                "the window has one key too many",
                between(0, width),
                f"A distance of 0 to {width} makes {width + 1} keys. The window counts the query's own key, so the "
                f"farthest lies {width - 1} back: distance < window. A cache of {width} keys has dropped the other.",
                "museum/masks#museum-window-off-by-one",
            ),
            Mistake(
                "the window has one key too few",
                between(0, width - 2),
                f"Your rows hold {width - 1} keys. Own key and {width - 1} before it: distance < window.",
                "museum/masks#museum-window-off-by-one",
            ),
            Mistake(
                "the window starts in the upper left corner",
                between(0, width - 1, lambda q_len, k_len: 0),
                "With more keys than queries the queries are the *newest* tokens: query i stands at key "
                "i + k_len - q_len. On a square the two are the same.",
                "idea/masks#masks-alignment",
            ),
            Mistake(
                "the window looks ahead as far as it looks back",
                between(1 - width, width - 1),
                "The absolute distance forgets the direction. A later key is the future: the distance must not be "
                "negative.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "the window looks ahead instead of back",
                between(1 - width, 0),
                "Query minus key is how far the key lies *behind*; you have it the other way round.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "the window is centred on the query",
                between(-(width // 2), width // 2),
                "Half of it lies in the future then. All of a causal window lies behind: the own key and those before.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "old keys are hidden, and later ones are not",
                between(-far, width - 1),
                "A window has two edges: distance < window on the left, and distance >= 0 on the right.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "later keys are hidden, and old ones are not",
                between(0, far),
                "That is the causal mask. A window has two edges: the distance must also be less than the window.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "a query does not see its own key",
                between(1, width),
                f"Your window holds the {width} keys before the query. It counts the own key: distance >= 0.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "True stands for hidden",
                lambda q_len, k_len: ~between(0, width - 1)(q_len, k_len),
                "Here True means: may attend. Turn the table round with ~.",
                "idea/masks#masks-conventions",
            ),
            Mistake(
                "the keys are cut into blocks instead of sliding with the query",
                lambda q_len, k_len: _blocks(q_len, k_len, width),
                "The first query of a block then sees one key only. Compare places with each other, not the numbers of "
                "their blocks: each query has a window of its own.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "every query gets the window of the last one",
                lambda q_len, k_len: _last_keys(q_len, k_len, width),
                "The window slides: each query counts back from its own place, i + k_len - q_len.",
                "idea/masks#masks-window",
            ),
            Mistake(
                "rows are keys and columns are queries",
                lambda q_len, k_len: between(0, width - 1)(q_len, k_len).T,
                "The table has a row for each query and a column for each key, like the scores: (q_len, k_len).",
                "idea/masks#masks-formula",
            ),
        )


# --- visible ----------------------------------------------------------------------------------------------------------


def _rules(q_len: int, padding: np.ndarray, documents: np.ndarray, start: int | None = None):
    """real, causal, own document, shared document: each broadcasts to (batch, q_len, k_len)."""
    k_len = documents.shape[1]
    start = k_len - q_len if start is None else start
    causal = _distance(q_len, k_len, start)[None] >= 0
    own = documents[:, start : start + q_len, None] == documents[:, None, :]
    return ~padding[:, None, :], causal, own, documents[:, None, :] == 0


def _together(real, causal, own, shared):
    return real & causal & (own | shared)


def _visible(q_len, padding, documents):
    return _together(*_rules(q_len, padding, documents))


def _combined(combine: Callable[..., np.ndarray]):
    """The four rules, put together by `combine`; broadcast to the whole shape."""

    def wrong(q_len, padding, documents):
        seen = combine(*_rules(q_len, padding, documents))
        return np.broadcast_to(seen, (documents.shape[0], q_len, documents.shape[1]))

    return wrong


def _first_queries(q_len, padding, documents):
    return _together(*_rules(q_len, padding, documents, start=0))


def _documents_of_the_first(q_len, padding, documents):
    real, causal, _, shared = _rules(q_len, padding, documents)
    return _together(real, causal, _rules(q_len, padding, documents, start=0)[2], shared)


def _triangle_of_the_first(q_len, padding, documents):
    real, _, own, shared = _rules(q_len, padding, documents)
    return _together(real, _rules(q_len, padding, documents, start=0)[1], own, shared)


def _padded_queries_too(q_len, padding, documents):
    real_queries = ~padding[:, documents.shape[1] - q_len :, None]
    return _visible(q_len, padding, documents) & real_queries


def _padded_queries_only(q_len, padding, documents):
    _, causal, own, shared = _rules(q_len, padding, documents)
    return _together(~padding[:, documents.shape[1] - q_len :, None], causal, own, shared)


def _seeing_for_all(q_len, padding, documents):
    """Document 0 looks at everybody, instead of being looked at."""
    real, causal, own, _ = _rules(q_len, padding, documents)
    return _together(real, causal, own, documents[:, documents.shape[1] - q_len :, None] == 0)


def _up_to_the_own(q_len, padding, documents):
    real, causal, _, _ = _rules(q_len, padding, documents)
    return real & causal & (documents[:, None, :] <= documents[:, documents.shape[1] - q_len :, None])


def _always_oneself(q_len, padding, documents):
    itself = _behind(q_len, documents.shape[1])[None] == 0
    return _visible(q_len, padding, documents) | itself


def _rows(*rows: str) -> tuple[np.ndarray, np.ndarray]:
    """(padding, documents) of rows such as "0 0 1 1 2 *2": a token is filler where a star stands before its number."""
    table = [row.split() for row in rows]
    padding = np.array([[token.startswith("*") for token in row] for row in table])
    return padding, np.array([[int(token.strip("*")) for token in row] for row in table])


def _packed(rng: np.random.Generator, *lengths: int) -> str:
    """A row of documents 0, 1, 2, ... of these lengths, the last of them filler that bears any number."""
    *texts, filler = lengths
    tokens = [str(number) for number, length in enumerate(texts) for _ in range(length)]
    return " ".join([*tokens, *(f"*{rng.integers(0, len(texts))}" for _ in range(filler))])


@question(points=3, answer="visible")
class Visible:
    """Several texts in one row, with filler and a preamble that all of them share: who may see whom?

    visible(q_len, padding, documents) is a table of truths of shape (batch, q_len, k_len).
    padding: truths (batch, k_len), True where a token is filler. documents: whole numbers (batch, k_len), the text
    to which each token belongs; what they say of filler means nothing. The q_len queries are the last tokens of the
    row. A query may see a key that is no filler and not later than itself, if the two belong to the same text or the
    key belongs to text 0, the preamble. Only keys are hidden for being filler: a filler query has a row like others.
    """

    read = "idea/masks#masks-compose"
    forbidden = ("attnkit",)
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "filler": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        one, two, three = (int(n) for n in rng.integers(1, 4, size=3))
        yield Case((4, *_rows("0 1 2 2")), note="a preamble and two texts")
        yield Case((5, *_rows("0 1 1 2 *0")), note="a preamble, two texts and a filler token")
        yield Case((2, *_rows("0 1 1 2 2 *1")), note="the last two tokens of six")
        yield Case((5, *_rows("1 2 0 2 1")), note="a preamble that stands in the middle")
        yield Case((4, *_rows("0 0 0 1 2 *0", "0 1 1 1 1 1")), note="two rows, the last four tokens of six")
        row = _packed(rng, 2, 1 + one, 2, 1 + two, three)
        yield Case((len(row.split()), *_rows(row)), note="a preamble, three texts and filler")
        yield Case((three + 2, *_rows(row)), note="the last tokens of such a row")

        yield Case((1, *_rows("0 1 2 1")), part="shapes", note="one new token")
        yield Case((1, *_rows("3")), part="shapes", note="a row of one token")
        yield Case((3, *_rows("2 2 1", "1 2 2", "0 0 1")), part="shapes", note="three rows of three tokens")
        yield Case((0, *_rows("0 1 1")), part="shapes", note="no queries at all")

        left = " ".join(["*0"] * three)
        yield Case((2 + three, *_rows(f"{left} 1 1")), part="filler", note="filler on the left")
        yield Case((3, *_rows("*0 *1 *1", "0 1 1")), part="filler", note="a row of nothing but filler, and one without")
        yield Case((3, *_rows("0 1 1 *1 *1 *1")), part="filler", note="queries that are all filler")

    def reference(self, q_len: int, padding: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """One pair after the other, as the text has it."""
        batch, k_len = documents.shape
        seen = np.zeros((batch, q_len, k_len), dtype=bool)
        for b, i, key in np.ndindex(seen.shape):
            query = k_len - q_len + i
            same_text = documents[b, query] == documents[b, key] or documents[b, key] == 0
            seen[b, i, key] = not padding[b, key] and key <= query and same_text
        return seen

    invariants = (
        Invariant(
            "a value is neither True nor False",
            lambda got, q_len, padding, documents: _truths(got),
            "A mask of truths says for each query and key whether the one may see the other.",
            "idea/masks#masks-formula",
        ),
        Invariant(
            "a filler key is seen",
            lambda got, q_len, padding, documents: not (got * padding[:, None, :]).any(),
            "Whatever the other rules say: what is filler, nobody may see. Put that rule last, with `and`.",
            "idea/masks#masks-padding",
        ),
        Invariant(
            "a key is seen that comes after its query",
            lambda got, q_len, padding, documents: not (got * (_behind(q_len, padding.shape[1]) < 0)).any(),
            "Whatever the other rules say: nobody looks ahead. Query i stands at key i + k_len - q_len.",
            "idea/masks#masks-alignment",
        ),
        Invariant(
            "a query cannot see itself, though it is no filler",
            lambda got, q_len, padding, documents: bool(
                (got + padding[:, None, :])[:, _behind(q_len, padding.shape[1]) == 0].all()
            ),
            "A token belongs to the same text as itself and is not later than itself.",
            "idea/masks#masks-documents",
        ),
    )

    mistakes = (
        Mistake(
            "`or` was applied last: the preamble is seen even by those before it, and even where it is filler",
            _combined(lambda real, causal, own, shared: real & causal & own | shared),
            "& binds more strongly than |, so `real & causal & own | shared` is `(real & causal & own) | shared`. Put "
            "the two rules about texts in brackets: `real & causal & (own | shared)`.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "filler in the preamble is seen",
            _combined(lambda real, causal, own, shared: causal & (real & own | shared)),
            "Filler is hidden whatever text it claims to belong to. `and` the padding with all the rest.",
            "idea/masks#masks-padding",
        ),
        Mistake(
            "a preamble that comes later is seen",
            _combined(lambda real, causal, own, shared: real & (causal & own | shared)),
            "Nobody looks ahead, at the preamble neither. `and` the causal rule with all the rest.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "`padding` is taken for the tokens that are real",
            _combined(lambda real, causal, own, shared: _together(~real, causal, own, shared)),
            "padding is True where a token is *filler*, and a mask is True where a key may be seen: turn it round "
            "with ~ before you combine.",
            "idea/masks#masks-conventions",
        ),
        Mistake(
            "filler is not hidden",
            _combined(lambda real, causal, own, shared: causal & (own | shared)),
            "A filler token may bear the number of a real text. Hide the keys where padding is True.",
            "idea/masks#masks-padding",
        ),
        Mistake(
            "a query may look ahead",
            _combined(lambda real, causal, own, shared: real & (own | shared)),
            "A key must not come later than the query, in its own text neither.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "all texts see each other",
            _combined(lambda real, causal, own, shared: real & causal),
            "The numbers in documents are not used. A query sees its own text and the preamble.",
            "idea/masks#masks-documents",
        ),
        Mistake(
            "the preamble is seen by itself only",
            _combined(lambda real, causal, own, shared: real & causal & own),
            "Each text may also see the keys of text 0. That is one more rule, joined with `or`.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "a text sees the preamble and not itself",
            _combined(lambda real, causal, own, shared: real & causal & shared),
            "A query may see a key of its own text *or* of the preamble.",
            "idea/masks#masks-documents",
        ),
        Mistake(
            "the two rules about texts are joined by `and`",
            _combined(lambda real, causal, own, shared: real & causal & own & shared),
            "A key belongs to the query's text or to text 0; only tokens of text 0 itself are in both. Join the two "
            "rules with `|`.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "any rule that allows a key is enough",
            _combined(lambda real, causal, own, shared: real | causal | own | shared),
            "A key must be no filler *and* not later *and* of the right text. Only the last of these is an `or`.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "the queries are the first tokens of the row",
            _first_queries,
            "They are the last ones: query i stands at key i + k_len - q_len, and its text is the text of that key.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the queries' texts are read at the beginning of the row",
            _documents_of_the_first,
            "The queries are the last tokens, so their texts are the last q_len of documents: documents[:, -q_len:].",
            "idea/masks#masks-documents",
        ),
        Mistake(
            "the triangle starts in the upper left corner",
            _triangle_of_the_first,
            "The last query stands at the last key: lower right.",
            "idea/masks#masks-alignment",
        ),
        Mistake(
            "the rows of filler queries are emptied, too",
            _padded_queries_too,
            "The mask hides filler *keys*. What a filler query gives means nothing and is left out of the loss; an "
            "empty row would be one more special case.",
            "idea/masks#masks-padding",
        ),
        Mistake(
            "filler hides queries instead of keys",
            _padded_queries_only,
            "Keys are the last axis: padding goes to (batch, 1, k_len), not (batch, k_len, 1).",
            "idea/masks#masks-padding",
        ),
        Mistake(
            "the preamble sees everybody, instead of being seen",
            _seeing_for_all,
            "What counts is the text of the *key*: documents[:, None, :] == 0.",
            "idea/masks#masks-documents",
        ),
        Mistake(
            "a text sees all texts with a smaller number",
            _up_to_the_own,
            "Text 2 must not see text 1. Ask for the same number, or for 0.",
            "idea/masks#masks-documents",
        ),
        Mistake(
            "every query may see itself, filler or not",
            _always_oneself,
            "To keep every row from being empty, perhaps. But then filler is seen. A row that sees nothing is the "
            "business of the attention, which gives it zeros.",
            "idea/masks#masks-empty",
        ),
        Mistake(
            "True stands for hidden",
            lambda q_len, padding, documents: ~_visible(q_len, padding, documents),
            "Here True means: may attend. Turn the table round with ~.",
            "idea/masks#masks-conventions",
        ),
    )


# --- split_heads and merge_heads --------------------------------------------------------------------------------------


def _places(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A different number at each place, in order: where one comes from can be read off."""
    start = float(rng.integers(0, 3))
    return (start + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


def _split(x: np.ndarray, heads: int) -> np.ndarray:
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).swapaxes(1, 2)


def _merge(x: np.ndarray) -> np.ndarray:
    batch, heads, length, d = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, heads * d)


def _split_by(*order: int, cut: Callable[..., tuple[int, ...]]):
    """Reshape (batch, length, width) by `cut` of batch, length, heads and d_head, then order the axes anew."""

    def wrong(x, heads):
        batch, length, width = x.shape
        return x.reshape(cut(batch, length, heads, width // heads)).transpose(order)

    return wrong


def _transposed_too_early(x, heads):
    batch, length, width = x.shape
    return x.swapaxes(1, 2).reshape(batch, heads, length, width // heads)


def _same_multiset(got: np.ndarray, x: np.ndarray) -> bool:
    return np.array_equal(np.sort(got, axis=None), np.sort(x, axis=None))


@question(points=2, answer="split_heads")
class SplitHeads:
    """From one wide row a token to one narrow row a token and head.

    split_heads(x, heads): x has shape (batch, length, width); the result has shape
    (batch, heads, length, width / heads). Head h holds features h * d_head to (h + 1) * d_head - 1 of every token.
    """

    read = "many-heads#heads-reshape"
    forbidden = ("attnkit",)
    parts: ClassVar = {"ordinary": 1, "shapes": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first. No two sizes are equal where an axis could be mistaken for another, but in one case."""
        yield Case((_places(rng, 1, 2, 4), 2), note="two tokens of four features, two heads")
        yield Case((_places(rng, 1, 3, 4), 2), note="three tokens of four features, two heads")
        yield Case((_places(rng, 1, 2, 6), 3), note="two tokens of six features, three heads")
        yield Case((_draw(rng, 2, 5, 12), 3), note="a batch of two, five tokens of twelve features, three heads")
        yield Case((_draw(rng, 4, 6, 10), 2), note="a batch of four, six tokens of ten features, two heads")

        yield Case((_places(rng, 1, 3, 4), 1), part="shapes", note="a single head")
        yield Case((_places(rng, 1, 3, 4), 4), part="shapes", note="heads of a single feature")
        yield Case((_draw(rng, 3, 1, 8), 2), part="shapes", note="a single token")

    def reference(self, x: np.ndarray, heads: int) -> np.ndarray:
        """Head by head: a slice of the features."""
        d = x.shape[-1] // heads
        return np.stack([x[:, :, h * d : (h + 1) * d] for h in range(heads)], axis=1)

    invariants = (
        Invariant(
            "a number is lost or doubled",
            lambda got, x, heads: _same_multiset(got, x),
            "Splitting moves numbers and changes none: each number of x appears once in the result.",
            "many-heads#heads-reshape",
        ),
        Invariant(
            "row t of a head holds numbers that are not of token t",
            lambda got, x, heads: np.array_equal(
                np.sort(got.swapaxes(1, 2).reshape(x.shape), axis=-1), np.sort(x, axis=-1)
            ),
            "Cut the features, never the sequence: row t of every head comes from token t.",
            "museum/heads#museum-reshape-without-transpose",
        ),
    )

    mistakes = (
        Mistake(
            "x is reshaped into heads without a transpose",
            _split_by(0, 1, 2, 3, cut=lambda batch, length, heads, d: (batch, heads, length, d)),
            "A reshape moves no number. This one cuts the *sequence* into pieces and calls them heads: head 0 gets the "
            "first tokens, whole. Reshape to (batch, length, heads, d_head), then exchange the middle axes.",
            "museum/heads#museum-reshape-without-transpose",
        ),
        Mistake(
            "the heads stand behind the length",
            _split_by(0, 1, 2, 3, cut=lambda batch, length, heads, d: (batch, length, heads, d)),
            "(batch, length, heads, d_head) is half of the way. Attention works on the last two axes, and there heads "
            "would attend to heads: exchange axes 1 and 2.",
            "museum/heads#museum-heads-meet-heads",
        ),
        Mistake(
            "the features are dealt out to the heads in turn, instead of in blocks",
            _split_by(0, 3, 1, 2, cut=lambda batch, length, heads, d: (batch, length, d, heads)),
            "Your own model would learn around it, but weights that others trained would not fit: head h owns the "
            "neighbours h * d_head to (h + 1) * d_head - 1. Reshape to (..., heads, d_head), in this order.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the number of heads and their width are exchanged",
            _split_by(0, 2, 1, 3, cut=lambda batch, length, heads, d: (batch, length, d, heads)),
            "You made d_head heads that are `heads` wide. Reshape to (batch, length, heads, d_head).",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the last two axes are exchanged",
            _split_by(0, 2, 3, 1, cut=lambda batch, length, heads, d: (batch, length, heads, d)),
            "(batch, heads, d_head, length) is what keys look like *inside* QK^T. A head is a table with a row for "
            "each token: (batch, heads, length, d_head).",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the axes were exchanged before the features were cut",
            _transposed_too_early,
            "The reshape then runs through tokens where it should run through features. First cut the last axis in "
            "two, then exchange axes 1 and 2.",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the heads stand before the batch",
            _split_by(2, 0, 1, 3, cut=lambda batch, length, heads, d: (batch, length, heads, d)),
            "The batch comes first, then the heads: (batch, heads, length, d_head).",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the heads are folded into the batch",
            lambda x, heads: _split(x, heads).reshape(x.shape[0] * heads, x.shape[1], -1),
            "That is a way to do it, but then every mask must be repeated for each head. Keep an axis for the heads: "
            "(batch, heads, length, d_head).",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "every head gets all features",
            lambda x, heads: np.repeat(x[:, None], heads, axis=1),
            "Heads share out the width: each has width / heads features of its own, so that more heads cost no more.",
            "many-heads#heads-parameters",
        ),
    )


def _merge_by(*order: int, onto: Callable[..., tuple[int, ...]]):
    """Order the axes of (batch, heads, length, d_head) anew, then reshape to `onto` of these four sizes."""
    return lambda x: x.transpose(order).reshape(onto(*x.shape))


def _right_shape(batch: int, heads: int, length: int, d: int) -> tuple[int, int, int]:
    return batch, length, heads * d


@question(points=1, answer="merge_heads")
class MergeHeads:
    """The way back: the heads' rows side by side, token by token.

    merge_heads(x): x has shape (batch, heads, length, d_head); the result has shape (batch, length, heads * d_head).
    The row of a token is what head 0 has for it, then what head 1 has, and so on.
    """

    read = "many-heads#heads-reshape"
    forbidden = ("attnkit",)

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        yield Case((_places(rng, 1, 2, 2, 2),), note="two heads, two tokens, two features")
        yield Case((_places(rng, 1, 2, 3, 2),), note="two heads, three tokens, two features")
        yield Case((_places(rng, 1, 3, 2, 1),), note="three heads, two tokens, a single feature")
        yield Case((_draw(rng, 2, 3, 5, 4),), note="a batch of two, three heads, five tokens, four features")
        yield Case((_draw(rng, 3, 1, 4, 2),), note="a single head")
        yield Case((_draw(rng, 3, 4, 1, 2),), note="a single token")

    def reference(self, x: np.ndarray) -> np.ndarray:
        """Side by side, along the features."""
        return np.concatenate([x[:, h] for h in range(x.shape[1])], axis=-1)

    invariants = (
        Invariant(
            "a number is lost or doubled",
            lambda got, x: _same_multiset(got, x),
            "Merging moves numbers and changes none: each number of x appears once in the result.",
            "many-heads#heads-reshape",
        ),
        Invariant(
            "the row of a token holds numbers of another token",
            lambda got, x: np.array_equal(np.sort(got, axis=-1), np.sort(_merge(x), axis=-1)),
            "Exchange heads and length first, then join heads and features: row t is made of row t of every head.",
            "museum/heads#museum-merge-without-permute",
        ),
    )

    mistakes = (
        Mistake(
            "x is reshaped without a transpose",
            _merge_by(0, 1, 2, 3, onto=_right_shape),
            "The shape is right, and a token's row is put together from several tokens of one head. Exchange the axes "
            "of heads and length first.",
            "museum/heads#museum-merge-without-permute",
        ),
        Mistake(
            "the heads take turns, feature by feature",
            _merge_by(0, 2, 3, 1, onto=_right_shape),
            "First all features of head 0, then all of head 1: the order before the reshape is (batch, length, heads, "
            "d_head).",
            "many-heads#heads-formula",
        ),
        Mistake(
            "length and features were exchanged instead of heads and length",
            _merge_by(0, 1, 3, 2, onto=_right_shape),
            "swapaxes(-1, -2), or .mT, exchanges the last two axes. It is axes 1 and 2 that must change places.",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the order of the axes is wrong: heads and features changed places",
            _merge_by(0, 3, 2, 1, onto=_right_shape),
            "The order before the reshape is (batch, length, heads, d_head): only axes 1 and 2 change places.",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the heads are laid one behind the other along the length",
            _merge_by(0, 1, 2, 3, onto=lambda batch, heads, length, d: (batch, heads * length, d)),
            "There are as many tokens as before. The heads stand side by side, in the features.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the heads are added up",
            lambda x: x.sum(axis=1),
            "The sum comes later, when the output projection gives each head a matrix of its own. Here the heads are "
            "laid side by side, and nothing is lost.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the heads are averaged",
            lambda x: x.mean(axis=1),
            "Heads look at different things, and an average would blur them. They are laid side by side.",
            "many-heads#heads-why",
        ),
        Mistake(
            "only the first head is left",
            lambda x: x[:, 0],
            "Every head's row goes into the result: its width is heads * d_head.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the result has a row for each feature instead of each token",
            lambda x: _swap(_merge(x)),
            "The result has shape (batch, length, heads * d_head): a row for each token.",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the axes changed places and were not joined",
            lambda x: x.swapaxes(1, 2),
            "(batch, length, heads, d_head) is half of the way. Join the last two axes.",
            "many-heads#heads-reshape",
        ),
        Mistake(
            "the last head comes first",
            lambda x: _merge(x[:, ::-1]),
            "Head 0 stands on the left. The output projection knows each head by its place.",
            "many-heads#heads-formula",
        ),
    )


# --- grouped-query attention ------------------------------------------------------------------------------------------


def _weights(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The softmax over visible keys; a row without any gets zeros."""
    if scores.size == 0:
        return scores
    top = np.where(mask, scores, -np.inf).max(axis=-1, keepdims=True)
    weights = np.where(mask, np.exp(np.where(mask, scores - np.where(np.isfinite(top), top, 0), 0)), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def _blocks_of(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The key head of each query head: 0 0 1 1 for four query heads on two key heads."""
    return np.arange(query.shape[1]) // (query.shape[1] // key.shape[1])


def _in_turn(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """0 1 0 1 for four query heads on two key heads."""
    return np.arange(query.shape[1]) % key.shape[1]


def _grouped(
    query, key, value, mask, *, key_of=_blocks_of, value_of=_blocks_of, divide=None, weights=_weights, lay=None
):
    """Right with the defaults; a mistake changes one of them."""
    divide = sqrt(query.shape[-1]) if divide is None else divide(query, key, value)
    scores = query @ _swap(key[:, key_of(query, key)]) / divide
    seen = mask[:, None] if lay is None else lay(mask)
    return weights(scores, np.broadcast_to(seen, scores.shape)) @ value[:, value_of(query, value)]


def _with(**changed: Any):
    return lambda query, key, value, mask: _grouped(query, key, value, mask, **changed)


def _filled(fill: float):
    return lambda scores, mask: _softmax(np.where(mask, scores, np.float32(fill)))


def _no_maximum(scores, mask):
    weights = np.exp(np.where(mask, scores, np.float32(-1e30)))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def _over_queries(scores, mask):
    return _swap(_weights(_swap(scores), _swap(mask)))


def _over_heads(scores, mask):
    return np.moveaxis(_weights(np.moveaxis(scores, 1, -1), np.moveaxis(mask, 1, -1)), -1, 1)


def _late(scores, mask):
    return _softmax(scores) * mask


def _head_averages(query, key, value, mask):
    """One output a key head: the mean over its query heads."""
    batch, heads, q_len, _ = query.shape
    out = _grouped(query, key, value, mask)
    return out.reshape(batch, key.shape[1], heads // key.shape[1], q_len, -1).mean(axis=2)


def _queries_averaged(query, key, value, mask):
    """The query heads of a group are averaged before they ask."""
    batch, heads, q_len, d = query.shape
    groups = key.shape[1]
    mean = query.reshape(batch, groups, heads // groups, q_len, d).mean(axis=2)
    return _grouped(np.repeat(mean, heads // groups, axis=1), key, value, mask)


def _keys_averaged(query, key, value, mask):
    return _grouped(query, key.mean(axis=1, keepdims=True), value.mean(axis=1, keepdims=True), mask)


def _stored_in_turn(query, key, value, mask):
    """Right, but for the order of the heads that are returned: all first members of the groups, then all second."""
    out, groups = _grouped(query, key, value, mask), key.shape[1]
    order = np.arange(query.shape[1]).reshape(groups, -1).T.reshape(-1)
    return out[:, order]


def _first_of(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    return np.zeros(query.shape[1], dtype=int)


def _problem(rng: np.random.Generator, batch: int, heads: tuple[int, int], *sizes: int) -> tuple[np.ndarray, ...]:
    """query, key, value and a mask for (query heads, key heads) and the sizes q_len, k_len, d, d_v."""
    q_len, k_len, d, d_v = sizes
    query, key = _draw(rng, batch, heads[0], q_len, d), _draw(rng, batch, heads[1], k_len, d)
    return query, key, _draw(rng, batch, heads[1], k_len, d_v), _some(rng, batch, q_len, k_len)


def _some(rng: np.random.Generator, batch: int, q_len: int, k_len: int) -> np.ndarray:
    """A mask that hides some key from some query; every query may see some."""
    mask = rng.random((batch, q_len, k_len)) < 0.6
    for b, i in np.ndindex(batch, q_len):
        seen, hidden = rng.permutation(k_len)[:2] if k_len > 1 else (0, 0)
        mask[b, i, hidden] = False
        mask[b, i, seen] = True
    return mask


def _all_seen(problem: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return *problem[:3], np.ones_like(problem[3])


def _huge(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Scores of 10000 and -10000, exact in float32 since d = 4; the highest score of a row is hidden."""
    step = float(rng.integers(1, 4))
    query = _array([[[[100, 2, 0, 0]], [[-100, 0, 2, 0]]]])
    key = _array([[[[200, 0, 0, 0], [200, -step, step, 0], [-200, 0, 0, 0], [-200, step, step, 0]]]])
    return query, key, _draw(rng, 1, 1, 4, 2)


def _within_values(got: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> bool:
    if got.size == 0:
        return True
    own = value[:, _blocks_of(query, value)]
    low, high = own.min(axis=-2, keepdims=True), own.max(axis=-2, keepdims=True)
    inside = (got >= np.minimum(low, 0) - 1e-4) & (got <= np.maximum(high, 0) + 1e-4)
    strictly = (got >= low - 1e-4) & (got <= high + 1e-4)
    return bool(np.where(mask.any(axis=-1)[:, None, :, None], strictly, inside).all())


@question(points=4, answer="grouped_query_attention")
class GroupedQueryAttention:
    """Masked attention in heads, where neighbouring query heads share a key head and its value head.

    query: (batch, Hq, q_len, d), key: (batch, Hkv, k_len, d), value: (batch, Hkv, k_len, d_v); Hq is a multiple of
    Hkv. mask: truths (batch, q_len, k_len), the same for every head; True = may attend.
    Returns (batch, Hq, q_len, d_v). Query head h reads key head h // (Hq / Hkv). A query that may attend to nothing
    gets zeros.
    """

    read = "many-heads#heads-share"
    forbidden = _NO_ATTENTION
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 2, "shapes": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        value = _array([[[[0], [4]]]])
        query = _array([[[[2, 0, 0]], [[0, 2, 0]]]])
        key, seen = _array([[[[1, 0, 0], [0, 1, 0]]]]), np.ones((1, 1, 2), bool)
        yield Case((query, key, value, seen), note="two query heads that share a key head, and nothing hidden")
        heads = _all_seen(_problem(rng, 1, (4, 2), 1, 2, 2, 1))
        yield Case(heads, note="four query heads on two key heads, and nothing hidden")
        yield Case(_problem(rng, 1, (4, 2), 2, 3, 2, 1), note="four query heads on two key heads, some keys hidden")
        yield Case(_problem(rng, 1, (2, 2), 2, 3, 4, 2), note="two query heads on two key heads")
        yield Case(_problem(rng, 2, (6, 3), 4, 5, 3, 2), note="a batch of two, six query heads on three key heads")
        yield Case(_problem(rng, 4, (4, 2), 3, 3, 2, 5), note="as many heads as the batch has rows, each with its mask")
        square = _problem(rng, 3, (6, 2), 5, 5, 4, 3)
        yield Case(square, note="a batch of three, six query heads on two key heads, as many queries as keys")

        yield Case(_problem(rng, 2, (3, 1), 2, 4, 2, 3), part="shapes", note="one key head for three query heads")
        yield Case(_problem(rng, 2, (3, 3), 3, 4, 2, 1), part="shapes", note="a key head for each query head")
        yield Case(_problem(rng, 1, (1, 1), 2, 3, 3, 2), part="shapes", note="a single head")
        yield Case(_all_seen(_problem(rng, 2, (4, 2), 3, 1, 2, 2)), part="shapes", note="a single key")
        yield Case(_problem(rng, 2, (4, 2), 1, 6, 3, 2), part="shapes", note="one new query")

        *three, mask = _problem(rng, 1, (2, 1), 2, 3, 2, 1)
        mask[0, 0] = False
        yield Case((*three, mask), part="extreme", note="a query that may see nothing")
        *three, mask = _problem(rng, 2, (4, 2), 3, 4, 2, 2)
        mask[1] = False
        yield Case((*three, mask), part="extreme", note="a row of the batch whose queries may all see nothing")
        yield Case((*_huge(rng), np.ones((1, 1, 4), bool)), part="extreme", note="scores of 10000 and -10000")
        low = np.array([[[False, True, False, True]]])
        yield Case((*_huge(rng), low), part="extreme", note="scores of 10000 and -10000, half of them hidden")
        edge = np.array([[[False, False, True, True]]])
        yield Case((*_huge(rng), edge), part="extreme", note="scores of 10000 that are hidden, and -10000 that are not")

    def reference(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Head by head, each with the key head of its group."""
        batch, heads, q_len, d = query.shape
        group = heads // key.shape[1]
        out = np.zeros((batch, heads, q_len, value.shape[-1]))
        for b, h in np.ndindex(batch, heads):
            scores = query[b, h] @ key[b, h // group].T / sqrt(d)
            out[b, h] = _weights(scores, mask[b]) @ value[b, h // group]
        return out

    invariants = (
        Invariant(
            "a value is nan or inf",
            lambda got, query, key, value, mask: bool(np.isfinite(got).all()),
            "An average of finite values is finite. nan comes from inf - inf or 0 / 0: think of a row that may see "
            "nothing, and of a softmax that does not subtract the maximum.",
            "idea/masks#masks-empty",
        ),
        Invariant(
            "a query that may see nothing got something",
            lambda got, query, key, value, mask: not got.swapaxes(1, 2)[~mask.any(axis=-1)].any(),
            "Who may see nothing gets zeros, in every head.",
            "idea/masks#masks-empty",
        ),
        Invariant(
            "an output lies outside the values that its head reads",
            _within_values,
            "Each output is an average of the values of *its* value head, number h // (Hq / Hkv), with weights that "
            "sum to 1.",
            "many-heads#heads-share",
        ),
    )

    mistakes = (
        Mistake(
            "query heads read the key heads in turn",
            _with(key_of=_in_turn, value_of=_in_turn),
            "(repeat and tile do that: 0 1 0 1.) Neighbours share: query heads 0 and 1 read key head 0, the next two "
            "key head 1. torch.repeat_interleave, or np.repeat along axis 1, gives 0 0 1 1.",
            "many-heads#heads-share",
        ),
        Mistake(
            "the keys are shared by neighbours and the values in turn",
            _with(value_of=_in_turn),
            "A query head must get the values that belong to the keys it asked: repeat both in the same way.",
            "many-heads#heads-share",
        ),
        Mistake(
            "the values are shared by neighbours and the keys in turn",
            _with(key_of=_in_turn),
            "A query head must ask the keys whose values it gets: repeat both by blocks, 0 0 1 1.",
            "many-heads#heads-share",
        ),
        Mistake(
            "every query head reads the first key head",
            _with(key_of=_first_of, value_of=_first_of),
            "That would be right with a single key head. Query head h reads key head h // (Hq / Hkv).",
            "many-heads#heads-share",
        ),
        Mistake(
            "keys and values are averaged over their heads",
            _keys_averaged,
            "Every query head reads one key head as it is; nothing is averaged over heads.",
            "many-heads#heads-share",
        ),
        Mistake(
            "the query heads of a group are averaged before they ask",
            _queries_averaged,
            "Query heads share keys and values and nothing else: each asks its own question.",
            "many-heads#heads-share",
        ),
        Mistake(
            "the outputs of a group are averaged",
            _head_averages,
            "There is an output for each *query* head: (batch, Hq, q_len, d_v).",
            "many-heads#heads-share",
        ),
        Mistake(
            "the heads that you return are in another order",
            _stored_in_turn,
            "Each output is right, and stands in the wrong place: output h belongs to query head h. If you made an "
            "axis for the groups, the groups come first: (batch, Hkv, Hq / Hkv, ...).",
            "many-heads#heads-share",
        ),
        Mistake(
            "the scores are divided by the square root of the width of all heads",
            _with(divide=lambda query, key, value: sqrt(query.shape[1] * query.shape[-1])),
            "A score is a sum of d products, d being the width of *one* head: divide by sqrt(d), d = query.shape[-1].",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are divided by the square root of the number of heads",
            _with(divide=lambda query, key, value: sqrt(query.shape[1])),
            "What counts is how many products a score sums, the width of a head: query.shape[-1], not shape[1].",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are not scaled",
            _with(divide=lambda query, key, value: 1),
            "Divide them by sqrt(d), where d is the width of a head.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "each head has got the mask of another row of the batch",
            _with(lay=lambda mask: mask[None]),
            "A mask (batch, q_len, k_len) beside scores (batch, heads, q_len, k_len) is broadcast from the right: its "
            "batch meets the *heads*. With one row, or as many heads as rows, nothing raises. Give it an axis for the "
            "heads: mask[:, None].",
            "idea/masks#masks-formula",
        ),
        Mistake(
            "the mask is not used",
            _with(lay=lambda mask: np.ones_like(mask[:, None])),
            "A hidden key must get a weight of exactly 0.",
            "museum/masks#museum-mask-ignored",
        ),
        Mistake(
            "True is taken for hidden",
            _with(lay=lambda mask: ~mask[:, None]),
            "Here True means: may attend. masked_fill fills where its mask is *True*, so give it ~mask.",
            "museum/masks#museum-mask-inverted",
        ),
        Mistake(
            "the mask is applied after the softmax, and the weights are not renormalised",
            _with(weights=_late),
            "The visible weights of a row then sum to less than 1. Mask the scores, before the softmax.",
            "museum/masks#museum-mask-after-softmax",
        ),
        Mistake(
            "the softmax runs over the queries",
            _with(weights=_over_queries),
            "Each query shares out a weight of 1 among the keys that it may see: the softmax runs over the last axis.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the softmax runs over the heads",
            _with(weights=_over_heads),
            "Axis 1 is the axis of the heads now. Count from the end: the softmax runs over the keys, axis -1.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "a query that may attend to nothing gives nan",
            _with(weights=_filled(-np.inf)),
            "The softmax of a row of -inf is 0 / 0. Find these rows with mask.any over the last axis, keep them away "
            "from the softmax, and set their output to 0.",
            "museum/masks#museum-masked-row-nan",
        ),
        Mistake(
            "a query that may attend to nothing averages all values",
            _with(weights=_filled(-1e9)),
            "All scores of such a row are the same -1e9, so the softmax is uniform, and the row looks exactly where it "
            "must not. Set its output to 0.",
            "museum/masks#museum-masked-row-average",
        ),
        Mistake(
            "-10000 is used to hide a key",
            _with(weights=_filled(-1e4)),
            "A visible score may be as low as that. The weight of a hidden key must be exactly 0: use -inf, and give "
            "a query that sees nothing zeros.",
            "museum/masks#museum-finite-sentinel",
        ),
        Mistake(
            "the softmax does not subtract the row's maximum",
            _with(weights=_no_maximum),
            "exp overflows once a score is large. torch.softmax does it for you; by hand, subtract the row's maximum.",
            "softmax#softmax-max-shift",
        ),
    )


# --- multi-head attention ---------------------------------------------------------------------------------------------


class _Module:
    """Multi-head attention with the weights of torch.nn.MultiheadAttention; each mistake changes one method."""

    def __init__(self, d_model: int, heads: int) -> None:
        self.d_model, self.heads, self.weights = d_model, heads, {}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = {**self.weights, **weights}

    def __call__(self, query, key, value, key_padding_mask=None, attn_mask=None):
        seen = self.seen((query.shape[0], query.shape[1], key.shape[1]), key_padding_mask, attn_mask)
        q, k, v = (self.split(x) for x in self.project(*self.sources(query, key, value)))
        return self.output(self.merge(self.attend(q, k, v, seen)))

    def sources(self, query, key, value):
        return query, key, value

    def packed(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The weight and bias of query, key and value: three blocks of rows, in this order."""
        weights, biases = (np.split(self.weights[name], 3) for name in ("in_proj_weight", "in_proj_bias"))
        return list(zip(weights, biases, strict=True))

    def project(self, *sources: np.ndarray) -> list[np.ndarray]:
        return [x @ weight.T + bias for x, (weight, bias) in zip(sources, self.packed(), strict=True)]

    def split(self, x: np.ndarray) -> np.ndarray:
        return _split(x, self.heads)

    def merge(self, x: np.ndarray) -> np.ndarray:
        return _merge(x)

    def seen(self, shape, key_padding_mask, attn_mask):
        """Truths of `shape`; True = may attend. Both masks say what is hidden."""
        return self.kept(shape, key_padding_mask) & self.allowed(shape, attn_mask)

    def kept(self, shape, key_padding_mask):
        return np.ones(shape, bool) if key_padding_mask is None else np.broadcast_to(~key_padding_mask[:, None], shape)

    def allowed(self, shape, attn_mask):
        return np.ones(shape, bool) if attn_mask is None else np.broadcast_to(~attn_mask, shape)

    def attend(self, q, k, v, seen):
        scores = q @ _swap(k) / self.divide(q)
        return self.share(scores, np.broadcast_to(seen[:, None], scores.shape)) @ v

    def divide(self, q):
        return sqrt(q.shape[-1])

    def share(self, scores, seen):
        return _weights(scores, seen)

    def output(self, x):
        return x @ self.weights["out_proj.weight"].T + self.weights["out_proj.bias"]


def _changed(**methods: Callable[..., Any]) -> type[_Module]:
    """A module that differs from the right one in these methods."""
    return type("Changed", (_Module,), methods)


def _project_by(order: tuple[int, int, int]):
    """Query, key and value are projected by the blocks `order` of the packed weight."""
    return _changed(packed=lambda self: [_Module.packed(self)[place] for place in order])


def _packed_by_heads(self):
    """The rows of each head together: its query, its key, its value."""
    rows = np.arange(3 * self.d_model).reshape(self.heads, 3, -1)
    weight, bias = self.weights["in_proj_weight"], self.weights["in_proj_bias"]
    return [(weight[rows[:, part].reshape(-1)], bias[rows[:, part].reshape(-1)]) for part in range(3)]


def _packed_in_turn(self):
    return [(self.weights["in_proj_weight"][part::3], self.weights["in_proj_bias"][part::3]) for part in range(3)]


def _in_columns(self, *sources):
    return [x @ weight + bias for x, (weight, bias) in zip(sources, self.packed(), strict=True)]


def _no_bias_in(self, *sources):
    return [x @ weight.T for x, (weight, _) in zip(sources, self.packed(), strict=True)]


def _no_bias_out(self, x):
    return x @ self.weights["out_proj.weight"].T


def _output_in_columns(self, x):
    return x @ self.weights["out_proj.weight"] + self.weights["out_proj.bias"]


def _either(self, shape, key_padding_mask, attn_mask):
    """Hidden where both masks hide: De Morgan the wrong way round."""
    if key_padding_mask is None or attn_mask is None:
        return _Module.seen(self, shape, key_padding_mask, attn_mask)
    return self.kept(shape, key_padding_mask) | self.allowed(shape, attn_mask)


def _kept_where_true(self, shape, key_padding_mask):
    return ~_Module.kept(self, shape, key_padding_mask) | (key_padding_mask is None)


def _allowed_where_true(self, shape, attn_mask):
    return ~_Module.allowed(self, shape, attn_mask) | (attn_mask is None)


def _rows_hidden(self, shape, key_padding_mask):
    return np.ones(shape, bool) if key_padding_mask is None else np.broadcast_to(~key_padding_mask[..., None], shape)


def _heads_meet_heads(self, q, k, v, seen):
    """Each token's heads attend to each other; the mask has no say."""
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    return (_softmax(q @ _swap(k) / sqrt(q.shape[-1])) @ v).swapaxes(1, 2)


def _quarters(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Quarters from -3/4 to 3/4: scores of a few units, where a wrong scale shows."""
    return (rng.integers(-3, 4, size=shape) / 4).astype(np.float32)


_NAMES = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


def _made(rng: np.random.Generator, d_model: int, heads: int) -> tuple[Build, Load]:
    """A module with weights; no bias is 0, since a bias of 0 hides mistakes."""
    shapes = ((3 * d_model, d_model), (3 * d_model,), (d_model, d_model), (d_model,))
    weights = {name: _quarters(rng, *shape) for name, shape in zip(_NAMES, shapes, strict=True)}
    for name in ("in_proj_bias", "out_proj.bias"):
        weights[name] = np.where(weights[name] == 0, np.float32(0.5), weights[name])
    return Build((d_model, heads)), Load(weights)


def _inputs(rng: np.random.Generator, batch: int, q_len: int, k_len: int, d: int) -> tuple[np.ndarray, ...]:
    """query, key and value, each another array, in halves from -2 to 2."""
    return tuple((rng.integers(-4, 5, size=(batch, n, d)) / 2).astype(np.float32) for n in (q_len, k_len, k_len))


def _filler(*lengths: int, width: int) -> np.ndarray:
    """key_padding_mask of sequences of these lengths: True where hidden."""
    return np.arange(width) >= np.array(lengths)[:, None]


@question(points=6, answer="MultiHeadAttention")
class MultiHeadAttentionQuestion:
    """A torch module that computes what torch.nn.MultiheadAttention does, from weights of the same names.

    MultiHeadAttention(d_model, heads) has the parameters in_proj_weight (3 * d_model, d_model), in_proj_bias
    (3 * d_model,), out_proj.weight (d_model, d_model) and out_proj.bias (d_model,).
    Calling it with query (batch, q_len, d_model), key and value (batch, k_len, d_model) returns the output,
    (batch, q_len, d_model). Two masks may be given, and both say what is *hidden*: key_padding_mask, truths
    (batch, k_len), and attn_mask, truths (q_len, k_len). For a query that may see nothing the heads find zeros.
    """

    read = "many-heads#heads-parity"
    forbidden = _NO_ATTENTION
    frameworks = ("torch",)
    tolerance = OF_A_MODULE
    parts: ClassVar = {"ordinary": 2, "masks": 2, "empty rows": 1, "gradients": 1}
    reference = _Module

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Small ones first."""
        yield Case(steps=(*_made(rng, 2, 2), Call(_inputs(rng, 1, 1, 2, 2))), note="two heads of width 1, one query")
        yield Case(steps=(*_made(rng, 4, 2), Call(_inputs(rng, 1, 2, 3, 4))), note="two heads of width 2, two queries")
        x, *_ = _inputs(rng, 2, 4, 4, 6)
        yield Case(steps=(*_made(rng, 6, 3), Call((x, x, x))), note="self-attention with three heads of width 2")
        wide = (*_made(rng, 6, 2), Call(_inputs(rng, 3, 4, 5, 6)))
        yield Case(steps=wide, note="a batch of three, where query, key and value are three different things")
        square = (*_made(rng, 8, 2), Call(_inputs(rng, 2, 5, 5, 8)))
        yield Case(steps=square, note="two heads of width 4, as many queries as keys")
        yield Case(steps=(*_made(rng, 4, 1), Call(_inputs(rng, 2, 3, 2, 4))), note="a single head")

        yield from self._masked(rng)
        yield from self._empty(rng)
        names = ("query", "key", "value")
        flows = Gradient(_inputs(rng, 1, 2, 3, 2), {}, names, _NAMES, _draw(rng, 1, 2, 2))
        yield Case(steps=(*_made(rng, 2, 2), flows), part="gradients", note="gradients of a small module")
        blind = {"attn_mask": np.array([[True, True, True], [False, False, True]])}
        flows = Gradient(_inputs(rng, 1, 2, 3, 2), blind, names, _NAMES[:1], _draw(rng, 1, 2, 2))
        yield Case(steps=(*_made(rng, 2, 1), flows), part="gradients", note="gradients when a query may see nothing")

    def _masked(self, rng: np.random.Generator) -> Iterator[Case]:
        later = ~np.tri(3, 3, dtype=bool)
        small = (*_made(rng, 2, 1), Call(_inputs(rng, 1, 1, 3, 2), {"key_padding_mask": _filler(2, width=3)}))
        yield Case(steps=small, part="masks", note="one query and three keys, of which the last is padding")
        causal = (*_made(rng, 4, 2), Call(_inputs(rng, 1, 3, 3, 4), {"attn_mask": later}))
        yield Case(steps=causal, part="masks", note="a causal attn_mask of three queries and three keys")
        padded = (*_made(rng, 4, 2), Call(_inputs(rng, 2, 3, 3, 4), {"key_padding_mask": _filler(1, 2, width=3)}))
        yield Case(steps=padded, part="masks", note="padding, and as many queries as keys")
        both = {"key_padding_mask": _filler(3, 4, 5, width=5), "attn_mask": ~np.tri(4, 5, 1, dtype=bool)}
        two = (*_made(rng, 6, 3), Call(_inputs(rng, 3, 4, 5, 6), both))
        yield Case(steps=two, part="masks", note="both masks at once")
        yield Case(
            steps=(
                *_made(rng, 6, 2),
                Call((*_inputs(rng, 2, 4, 5, 6), _filler(3, 5, width=5), ~np.tri(4, 5, dtype=bool))),
            ),
            part="masks",
            note="both masks, handed over by their places",
        )

    def _empty(self, rng: np.random.Generator) -> Iterator[Case]:
        blind = np.array([[True, True, True], [False, True, False]])
        one = (*_made(rng, 4, 2), Call(_inputs(rng, 1, 2, 3, 4), {"attn_mask": blind}))
        yield Case(steps=one, part="empty rows", note="a query that may see nothing")
        nothing = (*_made(rng, 4, 2), Call(_inputs(rng, 2, 3, 4, 4), {"key_padding_mask": _filler(2, 0, width=4)}))
        yield Case(steps=nothing, part="empty rows", note="a sequence that is nothing but padding")
        left = {"key_padding_mask": np.array([[True, False, False]]), "attn_mask": ~np.tri(3, 3, dtype=bool)}
        yield Case(
            steps=(*_made(rng, 4, 2), Call(_inputs(rng, 1, 3, 3, 4), left)),
            part="empty rows",
            note="padding on the left, under a causal mask",
        )

    mistakes = (
        Mistake(
            "the scores are divided by sqrt(d_model) instead of sqrt(d_head)",
            _changed(divide=lambda self, q: sqrt(self.d_model)),
            "A head's score sums d_head = d_model / heads products: divide by the square root of that. With one head "
            "the two are the same.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "the scores are not scaled",
            _changed(divide=lambda self, q: 1),
            "Divide them by sqrt(d_head), where d_head = d_model / heads.",
            "scaled-dot-product#attention-scale",
        ),
        Mistake(
            "there is one head of full width",
            _changed(split=lambda self, x: x[:, None], merge=lambda self, x: x[:, 0]),
            "The number of heads is not used: split query, key and value after projecting them.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the heads are split by a reshape, without a transpose",
            _changed(split=lambda self, x: x.reshape(x.shape[0], self.heads, x.shape[1], -1)),
            "A reshape moves no number: it cuts the sequence into pieces. Reshape to (batch, length, heads, d_head), "
            "then exchange the middle axes.",
            "museum/heads#museum-reshape-without-transpose",
        ),
        Mistake(
            "the heads are merged by a reshape, without a transpose",
            _changed(merge=lambda self, x: x.reshape(x.shape[0], x.shape[2], -1)),
            "A token's row is then put together from several tokens. Exchange heads and length first, then reshape.",
            "museum/heads#museum-merge-without-permute",
        ),
        Mistake(
            "heads are split and merged without a transpose, both ways",
            _changed(
                split=lambda self, x: x.reshape(x.shape[0], self.heads, x.shape[1], -1),
                merge=lambda self, x: x.reshape(x.shape[0], x.shape[2], -1),
            ),
            "The round trip is right, and what happens in between is not: each head held a piece of the sequence, and "
            "tokens of different pieces never met.",
            "museum/heads#museum-reshape-without-transpose",
        ),
        Mistake(
            "the features are dealt out to the heads in turn, instead of in blocks",
            _changed(
                split=lambda self, x: x.reshape(*x.shape[:2], -1, self.heads).transpose(0, 3, 1, 2),
                merge=lambda self, x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1),
            ),
            "In trained weights the rows of a head are neighbours: reshape to (..., heads, d_head), in this order.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "heads attend to heads",
            _changed(attend=_heads_meet_heads),
            "Each token mixes its own heads, and no token hears of another. The last two axes of query and key must be "
            "length and d_head: exchange axes 1 and 2 after the split.",
            "museum/heads#museum-heads-meet-heads",
        ),
        Mistake(
            "the packed weight is read by columns",
            _changed(project=_in_columns),
            "torch keeps a linear map's weight as (out, in) and computes x @ weight.T + bias. A square block fits both "
            "ways, so nothing raises. (F.linear does it right.)",
            "many-heads#heads-parity",
        ),
        Mistake(
            "the packed weight is cut in the order query, value, key",
            _project_by((0, 2, 1)),
            "Its rows are the query's, then the key's, then the value's.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "the packed weight is cut in the order key, query, value",
            _project_by((1, 0, 2)),
            "Its rows are the query's, then the key's, then the value's. The query's come first.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "the packed weight is cut head by head",
            _changed(packed=_packed_by_heads),
            "Some models pack theirs like that. torch's has all rows of the query first, for all heads, then all of "
            "the key, then all of the value: chunk(3).",
            "many-heads#heads-parity",
        ),
        Mistake(
            "query, key and value take the rows of the packed weight in turn",
            _changed(packed=_packed_in_turn),
            "Rows 0 to d_model - 1 are the query's, the next d_model the key's, the last the value's: chunk(3) cuts "
            "them so.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "values are projected by the keys' weights",
            _project_by((0, 1, 1)),
            "The last third of the packed weight is never used. Look at its gradient: it would be 0.",
            "museum/heads#museum-value-by-key-weights",
        ),
        Mistake(
            "values are made from `key`",
            _changed(sources=lambda self, query, key, value: (query, key, key)),
            "In most models key and value are the same thing, so it goes unnoticed. Project `value`.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "keys and values are swapped",
            _changed(sources=lambda self, query, key, value: (query, value, key)),
            "Keys decide where a query looks, values what it gets. The second argument is the key.",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the biases of query, key and value are forgotten",
            _changed(project=_no_bias_in),
            "A new module's biases are 0, so nothing shows until it is trained: add in_proj_bias, a third to each.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "the bias of the output projection is forgotten",
            _changed(output=_no_bias_out),
            "out_proj is a linear map with a bias: calling it adds both.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "the output projection is forgotten",
            _changed(output=lambda self, x: x),
            "Without it head 0 could write only into the first features, head 1 into the next. Return "
            "out_proj(merged).",
            "many-heads#heads-formula",
        ),
        Mistake(
            "the output projection is read by columns",
            _changed(output=_output_in_columns),
            "torch keeps a linear map's weight as (out, in) and computes x @ weight.T + bias.",
            "many-heads#heads-parity",
        ),
        Mistake(
            "the softmax runs over the heads",
            _changed(share=lambda self, scores, seen: _over_heads(scores, seen)),
            "Axis 1 is the axis of the heads. The softmax runs over the keys, axis -1.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the softmax runs over the queries",
            _changed(share=lambda self, scores, seen: _over_queries(scores, seen)),
            "Each query shares out a weight of 1 among the keys: the softmax runs over the last axis.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "both masks are read the wrong way round",
            _changed(kept=_kept_where_true, allowed=_allowed_where_true),
            "torch's module calls True what is *hidden*, in both of its masks; your grouped_query_attention calls True "
            "what may be seen. Turn them round with ~.",
            "idea/masks#masks-conventions",
        ),
        Mistake(
            "key_padding_mask is read the wrong way round",
            _changed(kept=_kept_where_true),
            "In key_padding_mask True means filler: hide these keys, and keep the others.",
            "idea/masks#masks-conventions",
        ),
        Mistake(
            "attn_mask is read the wrong way round",
            _changed(allowed=_allowed_where_true),
            "In this module's attn_mask True means hidden, unlike in scaled_dot_product_attention.",
            "idea/masks#masks-conventions",
        ),
        Mistake(
            "key_padding_mask is not used",
            _changed(kept=lambda self, shape, key_padding_mask: np.ones(shape, bool)),
            "Hide the keys where it is True, from every query and in every head.",
            "museum/masks#museum-mask-ignored",
        ),
        Mistake(
            "attn_mask is not used",
            _changed(allowed=lambda self, shape, attn_mask: np.ones(shape, bool)),
            "Hide the pairs where it is True, in every row of the batch and in every head.",
            "museum/masks#museum-mask-ignored",
        ),
        Mistake(
            "a key is hidden only where both masks hide it",
            _changed(seen=_either),
            "Either mask may hide. Hidden is `padding | mask`; turned round, visible is `~padding & ~mask`.",
            "idea/masks#masks-compose",
        ),
        Mistake(
            "key_padding_mask hides queries instead of keys",
            _changed(kept=_rows_hidden),
            "Keys are the last axis of the scores: key_padding_mask[:, None, :], not [:, :, None].",
            "idea/masks#masks-padding",
        ),
        Mistake(
            "a query that may see nothing gives nan",
            _changed(share=lambda self, scores, seen: _filled(-np.inf)(scores, seen)),
            "(torch's module does that, too.) The heads should find zeros there, so the output is out_proj's bias.",
            "museum/masks#museum-masked-row-nan",
        ),
        Mistake(
            "a query that may see nothing averages all values",
            _changed(share=lambda self, scores, seen: _filled(-1e9)(scores, seen)),
            "All scores of such a row are the same large negative number, so the softmax is uniform. The heads should "
            "find zeros there.",
            "museum/masks#museum-masked-row-average",
        ),
        Mistake(
            "the mask is applied after the softmax, and the weights are not renormalised",
            _changed(share=lambda self, scores, seen: _late(scores, seen)),
            "The visible weights of a row then sum to less than 1. Mask the scores, before the softmax.",
            "museum/masks#museum-mask-after-softmax",
        ),
    )
