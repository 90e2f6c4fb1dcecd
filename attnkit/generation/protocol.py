"""What generation asks of a model, and of the cache that the model makes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from attnkit.masks import Mask


class Cache(Protocol):
    """Keys and values of the tokens seen so far, one row for each sequence of the batch."""

    @property
    def length(self) -> int:
        """How many tokens have been seen."""

    def reorder(self, index: Int[Tensor, " rows"]) -> object:
        """Row i becomes what row index[i] was. Rows may be repeated or left out: the batch may change its size."""


@runtime_checkable
class LanguageModel(Protocol):
    """A model of the next token: ids in, one row of logits for each position out.

    `context` is the greatest number of positions it has, or None when there is no such number; a model that leaves it
    out has no such number either. A model that closes over something of each prompt, as a translator does over the
    sentence, also has `select(index) -> LanguageModel`: the same model for those rows, repeated or left out.
    """

    def __call__(
        self,
        ids: Int[Tensor, "batch len"],
        *,
        mask: Mask | None = None,
        positions: Int[Tensor, "#batch len"] | None = None,
        cache: Any = None,
        last: bool = False,
    ) -> Float[Tensor, "batch out_len vocab"]:
        """Logits of every position of `ids`, or of the last one alone (`last=True`: out_len is 1).

        With a cache, `ids` continue what it holds, and `mask` covers the keys of both.
        """

    def new_cache(self, kind: str = "dynamic", **options: Any) -> Any:
        """An empty cache that fits this model."""
