"""Masks, second case: who is hidden from whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from attnkit import attention
from attnkit.masks import Causal, Mask, Padding, Window
from attnkit.museum.base import Key, Out, Query, Value, randn, row, specimen

Table = Bool[Tensor, "queries keys"]


def drawn(table: Table) -> str:
    """Which keys each query sees: the rows of the table, one after the other."""
    return " ".join("".join("#" if seen else "." for seen in line) for line in table.tolist())


def three(q_len: int, k_len: int) -> tuple[Query, Key, Value]:
    """Random query, key and value of one head."""
    return randn(1, 1, q_len, 8), randn(1, 1, k_len, 8, seed=1), randn(1, 1, k_len, 8, seed=2)


@specimen(
    slug="mask-inverted",
    title="A mask read upside down",
    room="masks",
    seen=("`harvard-edge/cs249r_book#1785`", "whoever moves from nn.MultiheadAttention to SDPA"),
    chapter="appendix/conventions",
    habit="ask who hears of whom",
)
class MaskInverted:
    """`nn.MultiheadAttention` calls True what is hidden, `scaled_dot_product_attention` what is visible."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value, hidden: Bool[Tensor, " keys"]) -> Out:
        return attention(query, key, value, mask=hidden)

    @staticmethod
    def right(query: Query, key: Key, value: Value, hidden: Bool[Tensor, " keys"]) -> Out:
        return attention(query, key, value, mask=~hidden)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        value = torch.tensor([10.0, 20, 0, 0]).double().view(1, 1, 4, 1)  # the last two are padding
        out = f(randn(1, 1, 1, 8), torch.zeros(1, 1, 4, 8).double(), value, torch.arange(4) >= 2)
        return {"values 10, 20 and padding 0, 0: mean": row(out, 1)}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Shapes are right, values of 1 average to 1, and half of the keys have no influence."""
        (query, key, _), hidden = three(5, 4), torch.arange(4) >= 2
        out = f(query, key, torch.ones(1, 1, 4, 3).double(), hidden)
        assert out.shape == (1, 1, 5, 3), f"the output has shape {tuple(out.shape)}"
        assert torch.allclose(out, torch.ones(1).double()), "an average of ones is not 1"
        weights = f(query, key, torch.eye(4).double()[None, None], hidden)
        assert (weights == 0).sum() == 10, "not half of the weights are 0"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Other numbers in a hidden key change nothing."""
        (query, key, value), hidden = three(5, 4), torch.arange(4) >= 2
        other = value.masked_fill(hidden[:, None], 99.0)
        same = torch.equal(f(query, key, value, hidden), f(query, key, other, hidden))
        assert same, "a hidden value changed the output: True means hidden here"


@specimen(
    slug="mask-ignored",
    title="A mask that is taken and not used",
    room="masks",
    seen=("a popular article",),
    chapter="idea/scaled-dot-product#attention-mask",
    habit="ask who hears of whom",
)
class MaskIgnored:
    """The argument is in the signature and in the docstring. The body was written before."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value, mask: Mask | None = None) -> Out:
        scores = query @ key.mT / query.shape[-1] ** 0.5
        return scores.softmax(-1) @ value

    @staticmethod
    def right(query: Query, key: Key, value: Value, mask: Mask | None = None) -> Out:
        return attention(query, key, value, mask=mask)

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        ones = torch.ones(1, 1, 4, 2).double()
        weights = f(ones, ones, torch.eye(4).double()[None, None], Causal())
        return {"causal weights of 4 equal tokens, first row": row(weights[0, 0, 0])}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A batch without padding: torch's attention."""
        query, key, value = three(5, 7)
        right = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        assert torch.allclose(f(query, key, value, Padding([7])), right), "differs from torch's attention"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """Under a causal mask the first output does not hear of the last token."""
        query, key, value = three(6, 6)
        other = value.clone()
        other[..., -1, :] += 1
        first, again = (f(query, key, v, Causal())[..., 0, :] for v in (value, other))
        assert torch.equal(first, again), "the first output changed with the last token: it saw the future"


@specimen(
    slug="causal-alignment",
    title="A triangle in the wrong corner",
    room="masks",
    seen=("`Dao-AILab/flash-attention#517`", "`Dao-AILab/flash-attention#951`", "a published flash attention's test"),
    chapter="idea/masks#masks-alignment",
    habit="compare the parts with the whole",
)
class CausalAlignment:
    """`tril` starts in the upper left corner. With cached keys the last query stands at the *last* key."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value) -> Out:
        visible = torch.ones(query.shape[2], key.shape[2]).tril().bool()
        return attention(query, key, value, mask=visible)

    @staticmethod
    def right(query: Query, key: Key, value: Value) -> Out:
        return attention(query, key, value, mask=Causal(align="lower_right"))

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        eye = torch.eye(4).double()[None, None]
        tables = {q: f(randn(1, 1, q, 8), randn(1, 1, 4, 8, seed=1), eye)[0, 0] > 0 for q in (4, 2, 1)}
        return {f"who sees whom, {q} x 4": drawn(table) for q, table in tables.items()}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """As many queries as keys: torch's causal attention."""
        query, key, value = three(6, 6)
        right = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        assert torch.allclose(f(query, key, value), right), "differs from torch's causal attention"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """The last query alone gets what it gets among all."""
        query, key, value = three(6, 6)
        whole, alone = f(query, key, value)[:, :, -1:], f(query[:, :, -1:], key, value)
        assert torch.allclose(whole, alone), "decoding with cached keys differs from one full pass"


@specimen(
    slug="window-off-by-one",
    title="A window with one key too many",
    room="masks",
    seen=("`huggingface/transformers#26792`", "`ml-explore/mlx-lm#390`", "`rasbt/LLMs-from-scratch#1008`"),
    chapter="idea/masks#masks-window",
    habit="compare the parts with the whole",
)
class WindowOffByOne:
    """Does a window of 4 count the token itself? The mask says no, the cache of 4 says yes: each is right alone."""

    @staticmethod
    def wrong(length: int, window: int) -> Table:
        distance = torch.arange(length)[:, None] - torch.arange(length)
        return (distance >= 0) & (distance <= window)

    @staticmethod
    def right(length: int, window: int) -> Table:
        return Window(window - 1, 0).materialize(1, 1, length, length)[0, 0]

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        table = f(6, 3)
        return {"window of 3, last of 6 rows": drawn(table[-1:]), "most keys in a row": str(int(table.sum(-1).max()))}

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """A window as long as the text is the causal mask, and a shorter one hides what is far."""
        assert torch.equal(f(6, 6), Causal().materialize(1, 1, 6, 6)[0, 0]), "not the causal mask"
        assert not f(9, 3)[8, :5].any(), "a key far back is visible"
        assert f(9, 3).diagonal().all(), "a token does not see itself"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A cache of as many keys as the window holds all that a row sees."""
        most = int(f(9, 3).sum(-1).max())
        assert most <= 3, f"a row sees {most} keys; a cache of 3 has dropped one of them"


@specimen(
    slug="swapped-paddings",
    title="The target's padding on the source's keys",
    room="masks",
    seen=("`keras-team/keras-io#1046`", "`keras-team/keras-io#1964`"),
    chapter="transformer/whole#whole-masks",
    habit="let no two sizes be equal",
)
class SwappedPaddings:
    """Cross-attention has two lengths. The mask hides *keys*, and the keys are the source's."""

    @staticmethod
    def wrong(query: Query, key: Key, value: Value, source: list[int], target: list[int]) -> Out:
        return attention(query, key, value, mask=Padding(target))

    @staticmethod
    def right(query: Query, key: Key, value: Value, source: list[int], target: list[int]) -> Out:
        return attention(query, key, value, mask=Padding(source))

    @staticmethod
    def does(f: Callable[..., Any]) -> dict[str, str]:
        query, key = randn(1, 1, 4, 8), torch.zeros(1, 1, 4, 8).double()
        value = torch.tensor([10.0, 20, 0, 0]).double().view(1, 1, 4, 1)
        return {
            f"source 10, 20, pad, pad; target of {n}: mean": row(f(query, key, value, [2], [n])[0, 0, 0], 1)
            for n in (2, 4, 1)
        }

    @staticmethod
    def hides(f: Callable[..., Any]) -> None:
        """Sentences of equal length: padding has no influence."""
        query, key, value = three(6, 6)
        other = value.clone()
        other[:, :, 4:] = 99.0
        assert torch.equal(f(query, key, value, [4], [4]), f(query, key, other, [4], [4])), "padding changed the output"

    @staticmethod
    def catches(f: Callable[..., Any]) -> None:
        """A short source under a long target: its padding has no influence."""
        query, key, value = three(6, 6)
        other = value.clone()
        other[:, :, 4:] = 99.0
        same = torch.equal(f(query, key, value, [4], [6]), f(query, key, other, [4], [6]))
        assert same, "the source's padding changed the output: hide keys by the source's length"
