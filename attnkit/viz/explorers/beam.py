"""Beam search as a tree that grows: width, length penalty and step in the reader's hand, the greedy path marked.

The search runs in the page, by the rules of `attnkit.generation.Beam`, over a table of what may follow each prefix:
written by hand, or recorded from a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, no_type_check

import torch

from attnkit.viz.explorer import Explorer
from attnkit.viz.tables import Table

Written = Mapping[str, Mapping[str, float]] | Mapping[tuple[str, ...], Mapping[str, float]]
_WIDEST = 6


@dataclass(frozen=True)
class Prefixes:
    """What may follow each prefix.

    - `tokens`: the name of each id. `eos`: the id that ends a hypothesis. `max_new`: the longest one.
    - `following[prefix]`: ids and log-probabilities, the likeliest first; others are left out.
    - `widest`: up to which width a search meets only prefixes that are here, and loses no candidate.
    """

    tokens: list[str]
    eos: int
    max_new: int
    following: dict[tuple[int, ...], list[tuple[int, float]]]
    widest: int


@no_type_check
def record_prefixes(
    model: Any,
    prompt: Sequence[int],
    names: Sequence[str],
    *,
    eos: int,
    max_new: int,
    width: int = 4,
) -> Prefixes:
    """Ask a model for everything that a beam search up to `width` will ask it for, whatever its length penalty is.

    - `model`: as `attnkit.generation` takes it, ids (rows, len) to logits; or a translator's `conditioned(...)`.
    - `prompt`: the ids before the first new token, such as [BOS]. `names`: what each id is called, for the reader.

    Running hypotheses are ranked by plain sums, so that the penalty does not change which prefixes are met; all
    widths from 1 to `width` are searched, to the end. Raises ValueError for counts below 1 and for an eos without name.
    """
    for name, value in (("width", width), ("max_new", max_new)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it should be a whole number of at least 1")
    if not 0 <= eos < len(names):
        raise ValueError(f"eos is {eos}; it should be one of the {len(names)} ids that have names")
    following: dict[tuple[int, ...], list[tuple[int, float]]] = {}
    for narrow in range(1, width + 1):
        running = [((), 0.0)]
        for _ in range(max_new):
            missing = [prefix for prefix, _ in running if prefix not in following]
            if missing:
                following.update(zip(missing, _ask(model, prompt, missing, 2 * width), strict=True))
            longer = [((*p, t), s + gain) for p, s in running for t, gain in following[p] if t != eos]
            running = sorted(longer, key=lambda one: -one[1])[:narrow]
    return Prefixes(list(names), eos, max_new, following, width)


def _ask(
    model: Any, prompt: Sequence[int], prefixes: list[tuple[int, ...]], most: int
) -> list[list[tuple[int, float]]]:
    """The likeliest tokens after each prefix, which all have one length, with their log-probabilities."""
    rows = torch.tensor([[*prompt, *prefix] for prefix in prefixes])
    reader = model.select(torch.zeros(len(rows), dtype=torch.long)) if hasattr(model, "select") else model
    with torch.inference_mode():
        logits = reader(rows, last=True)[:, -1]
    values, tokens = logits.double().log_softmax(-1).topk(min(most, logits.shape[-1]))
    return [list(zip(t, v, strict=True)) for t, v in zip(tokens.tolist(), values.tolist(), strict=True)]


@no_type_check
def written_prefixes(table: Written, eos: str = "end") -> Prefixes:
    """A table written by hand: {"": {"the": 0.6, "a": 0.4}, "the": {"cat": 1.0}, "the cat": {"end": 1.0}, ...}.

    A prefix is its tokens, with spaces between, or as a tuple. Raises ValueError for probabilities that are not
    above 0 or do not sum to 1, for a token that never ends, and
    when what follows a prefix is missing.
    """
    table = {tuple(p.split()) if isinstance(p, str) else tuple(p): row for p, row in table.items()}
    if () not in table:
        raise ValueError("table: has no entry for the empty prefix, from which the first token is chosen")
    tokens = list(dict.fromkeys([*(t for row in table.values() for t in row), eos]))
    for prefix, row in table.items():
        if not row or min(row.values()) <= 0 or abs(sum(row.values()) - 1) > 1e-6:
            raise ValueError(
                f"table: after {' '.join(prefix)!r} it has {dict(row)}; these should be above 0 and sum to 1"
            )
        for token in row:
            if token != eos and (*prefix, token) not in table:
                raise ValueError(
                    f"table: it lacks what follows {' '.join((*prefix, token))!r}; {eos!r} ends a hypothesis"
                )
    number = {token: i for i, token in enumerate(tokens)}
    following = {
        tuple(number[t] for t in prefix): sorted(
            ((number[t], math.log(p)) for t, p in row.items()), key=lambda x: -x[1]
        )
        for prefix, row in table.items()
    }
    return Prefixes(tokens, number[eos], max(map(len, table)) + 1, following, _WIDEST)


@no_type_check
def explore_beam(
    table: Prefixes | Written,
    *,
    eos: str = "end",
    width: int = 2,
    length_penalty: float = 1.0,
    title: str = "",
) -> Explorer:
    """A beam search that the reader steps through, over a table of what follows what.

    - `table`: from `record_prefixes`, or written by hand as `written_prefixes` takes it, where `eos` ends a hypothesis.
    - `width`, `length_penalty`: what the controls say at first; the score of a hypothesis is the sum of its
      log-probabilities divided by length ** length_penalty, as in `attnkit.generation.Beam`.

    Raises ValueError for a width that the table does not hold.
    """
    found = table if isinstance(table, Prefixes) else written_prefixes(table, eos)
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= found.widest:
        raise ValueError(f"width is {width!r}; it should be a whole number from 1 to {found.widest}")
    met = {found.eos, *(token for row in found.following.values() for token, _ in row)}  # of a vocabulary, only these
    spec = {
        "tokens": {token: found.tokens[token] for token in sorted(met)},
        "eos": found.eos,
        "longest": found.max_new,
        "widest": found.widest,
        "following": {",".join(map(str, prefix)): row for prefix, row in found.following.items()},
    }
    best, greedy = search(found, width, length_penalty), search(found, 1, length_penalty, greedy=True)
    rows = [
        [name, _said(found, tokens), *(f"{x:.3f}".replace("-", "\N{MINUS SIGN}") for x in (total, score))]
        for name, (tokens, total, score) in (
            ("greedy", greedy[0]),
            *((f"beam, {i + 1}", b) for i, b in enumerate(best)),
        )
    ]
    alt = (
        f"A beam search of width {width} grows step by step; its best hypothesis is “{_said(found, best[0][0])}”, "
        f"that of greedy search “{_said(found, greedy[0][0])}”. Change the width, the length penalty and the step."
    )
    still = Table(["search", "hypothesis", "log-probability", "score"], rows)
    state = {"width": width, "penalty": float(length_penalty)}
    return Explorer("beam", spec, alt=alt, fallback=still, title=title, state=state)


def _said(found: Prefixes, tokens: Sequence[int]) -> str:
    return " ".join(found.tokens[token].strip() for token in tokens)


def search(
    found: Prefixes, width: int, length_penalty: float, greedy: bool = False
) -> list[tuple[list[int], float, float]]:
    """(tokens, sum, score) of the best hypotheses, by `attnkit.generation.Beam` itself."""
    from attnkit.generation import Beam, Greedy, generate  # a floor above: only to print what the page will show

    method = Greedy() if greedy else Beam(width, length_penalty, n_best=width)
    done = generate(Recorded(found), [[0]], max_new=found.max_new, method=method, eos=found.eos, cache=None)
    return [(h.tokens, sum(h.logprobs), sum(h.logprobs) / len(h.tokens) ** length_penalty) for h in done.hypotheses[0]]


class Recorded:
    """The table as a language model; a row's first id stands for the prompt.

    What a table does not hold is impossible, but where it was recorded and cut off the others share what is left.
    """

    def __init__(self, found: Prefixes) -> None:
        self.found, self.vocab = found, len(found.tokens)

    def __call__(self, ids: torch.Tensor, **_: Any) -> torch.Tensor:
        logits = torch.full((len(ids), 1, self.vocab), -math.inf, dtype=torch.float64)
        for row, tokens in enumerate(ids[:, 1:].tolist()):
            held = self.found.following.get(tuple(tokens), [(self.found.eos, 0.0)])
            rest, others = 1 - math.fsum(math.exp(value) for _, value in held), self.vocab - len(held)
            if rest > 1e-9 and others > 0 and len(held) >= 2 * self.found.widest:  # it was cut off there
                logits[row, 0] = math.log(rest / others)  # so that a softmax leaves the held ones as they are
            for token, value in held:
                logits[row, 0, token] = value
        return logits

    def new_cache(self, kind: str = "dynamic", **options: Any) -> None:
        """Nothing is kept: a look into a table is cheap."""
