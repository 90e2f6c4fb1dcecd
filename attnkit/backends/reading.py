"""What can be read off the weights without keeping them: entropy, column sums, and the rows that were chosen.

None of it has a gradient: it is for looking, for cutting caches and for tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.backends.common import Options, slopes_of
from attnkit.backends.tiling import INF, Bias, Problem, Scratch, score_tile

READ = ("entropy", "column_sums", "row_weights")


def read_weights(
    weights: Float[Tensor, "batch heads q_len k_len"], options: Options, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Those of the readings that are wanted, from a table of weights. Chosen rows come in `dtype`, the query's."""
    found: dict[str, Tensor] = {}
    if "entropy" in options.aux:
        found["entropy"] = torch.special.entr(weights).sum(dim=-1)
    if "column_sums" in options.aux:
        found["column_sums"] = weights.sum(dim=-2)
    if "row_weights" in options.aux:
        found["row_weights"] = weights[:, :, options.rows].to(dtype)
    return found


@torch.no_grad()
def read_tiles(
    problem: Problem,
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    row_max: Float[Tensor, "n groups q_len 1"],
    row_sum: Float[Tensor, "n groups q_len 1"],
) -> dict[str, Tensor]:
    """The same by a second walk over the tiles, when each row's maximum (in base 2) and sum are known.

    A weight is then exp2(score - row_max) / row_sum, whichever tile it is asked in.
    """
    reading = Reading(problem, query, key, row_max, row_sum)
    found: dict[str, Tensor] = {}
    if {"entropy", "column_sums"} & set(problem.options.aux):
        found = reading.sums()
    if "row_weights" in problem.options.aux:
        found["row_weights"] = reading.rows().to(query.dtype)
    return {name: found[name] for name in READ if name in problem.options.aux}


class Reading:
    """One call's queries, keys and softmax statistics, from which any tile of weights can be made again."""

    def __init__(self, problem: Problem, query: Tensor, key: Tensor, row_max: Tensor, row_sum: Tensor) -> None:
        self.problem, self.bias = problem, Bias.of(problem, problem.options.bias, slopes_of(problem.options))
        self.query, self.key = problem.stack(query), problem.flat(key)
        self.row_max = row_max.masked_fill(row_max == -INF, INF)  # exp2(score - inf) = 0: a row that sees nothing
        self.row_sum, self.scratch = row_sum, Scratch(self.query)

    def walk(self, rows: range) -> Iterator[tuple[range, Float[Tensor, "batch heads R C"]]]:
        """Each block of keys that `rows` see anything of, with the tile's weights, (batch, heads, rows, C)."""
        problem = self.problem
        q_block, row_max, row_sum = (problem.rows_of(x, rows) for x in (self.query, self.row_max, self.row_sum))
        for cols, cover in problem.tiles_seen_by(rows):
            k_block = self.key[:, cols.start : cols.stop]
            scores = score_tile(problem, q_block, k_block, self.bias, rows, cols, cover, self.scratch)
            weights = scores.sub_(row_max).exp2_().div_(row_sum)
            yield cols, problem.by_head(weights, rows).flatten(1, 2)

    def sums(self) -> dict[str, Tensor]:
        """Entropy of each row, and the sum of each column."""
        sizes = self.problem.sizes
        entropy = self.query.new_zeros(sizes[:3])
        column_sums = self.query.new_zeros(*sizes[:2], sizes.k_len)
        for rows in self.problem.tiles()[0]:
            for cols, weights in self.walk(rows):
                column_sums[:, :, cols.start : cols.stop] += weights.sum(dim=2)
                entropy[:, :, rows.start : rows.stop] += torch.special.entr(weights).sum(dim=3)
        return {"entropy": entropy, "column_sums": column_sums}

    def rows(self) -> Float[Tensor, "batch heads n k_len"]:
        """The weights of the chosen queries.

        Each is read from the tile in which the forward pass saw it: a product with other rows around it is rounded
        otherwise, and at scores near 1e4 that is a part in a thousand of a weight.
        """
        assert self.problem.options.rows is not None
        chosen, sizes = self.problem.options.rows.tolist(), self.problem.sizes
        found = self.query.new_zeros(*sizes[:2], len(chosen), sizes.k_len)
        for rows in self.problem.tiles()[0]:
            places = [i for i, row in enumerate(chosen) if row in rows]
            for cols, weights in self.walk(rows) if places else ():
                found[:, :, places, cols.start : cols.stop] = weights[:, :, [chosen[i] - rows.start for i in places]]
        return found
