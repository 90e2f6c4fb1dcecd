"""A grammar that makes sentences with known probabilities, so that a language model's loss has a known floor.

A probabilistic context-free grammar rewrites a symbol by one of its rules, drawn by weight, until only words are left.
The entropy of its sentences is the solution of a linear system (Soule 1974, Information and Control 25, 57-74),
and no language model can have a lower loss. The sentences are made here; no text of anyone's is stored or copied.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.data.split import Split, belongs, check_count, check_split

Rule = tuple[float, tuple[str, ...]]
Stack = tuple[str, ...]


class Sentence(NamedTuple):
    """The words, the part of speech of each, and ln of the probability of the sentence."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    log_probability: float

    @property
    def text(self) -> str:
        return " ".join(self.words)


class Grammar:
    """Rules {symbol: [(probability, symbols or words), ...]}; what is no symbol is a word. Entropies are in nats.

    The tag of a word is the symbol that gave it, up to an underscore: `NOUN_one` gives NOUN. There are infinitely many
    sentences if a symbol can hold itself. A sentence is held out when the hash of its text says so (a tenth). Its floor
    is known all the same: `-log_probability / len(words)` is the loss per word of the grammar itself.

    Probabilities of sentences are those of their derivation, so the grammar should give each sentence in one way only.

    >>> coin = Grammar({"S": [(0.5, ("heads",)), (0.5, ("tails", "S"))]})
    >>> coin.mean_length, round(coin.entropy / math.log(2), 3)  # words, bits
    (2.0, 2.0)
    >>> sorted(coin.next_word(["tails"]).items())
    [('heads', 0.5), ('tails', 0.5)]
    """

    rules: dict[str, list[Rule]]
    start: str
    _symbols: list[str]

    @no_type_check
    def __init__(self, rules: Mapping[str, Sequence[Rule]], start: str = "S") -> None:
        self.rules, self.start = {symbol: list(choices) for symbol, choices in rules.items()}, start
        if start not in self.rules:
            raise ValueError(f"start is {start!r}; it must be a symbol with rules: {', '.join(self.rules)}")
        for symbol, choices in self.rules.items():
            chances = [chance for chance, _ in choices]
            if not all(0 < chance <= 1 for chance in chances) or not math.isclose(sum(chances), 1):
                raise ValueError(f"the rules of {symbol!r} have the probabilities {chances}; they must sum to 1")
            if not all(parts for _, parts in choices):
                raise ValueError(f"{symbol!r} may become nothing; each rule must give a symbol or word")
        self._symbols = list(self.rules)
        self._check_growth()
        self._check_left()

    # ---- what is known exactly -------------------------------------------------------------------------------------

    @property
    def entropy(self) -> float:
        """Expected -ln probability of a sentence: the entropy of its rules, summed over the symbols it goes through."""
        surprise = [-sum(p * math.log(p) for p, _ in self.rules[symbol]) for symbol in self._symbols]
        return self._summed(torch.tensor(surprise, dtype=torch.float64))

    @property
    def mean_length(self) -> float:
        """Expected number of words of a sentence."""
        words = [sum(p * sum(x not in self.rules for x in parts) for p, parts in self.rules[s]) for s in self._symbols]
        return self._summed(torch.tensor(words, dtype=torch.float64))

    @property
    def entropy_per_word(self) -> float:
        """The floor of the loss per word on an endless text of sentences: entropy / mean_length."""
        return self.entropy / self.mean_length

    def log_probability(self, words: Sequence[str]) -> float:
        """ln of the probability of a sentence; -inf when the grammar cannot give it."""
        total = 0.0
        stacks: dict[Stack, float] = self._open({(self.start,): 1.0})
        for word in words:
            stacks = self._read(stacks, word)
            mass = sum(stacks.values())
            if not mass:
                return -math.inf
            total += math.log(mass)
            stacks = {stack: p / mass for stack, p in stacks.items()}
        return total + math.log(stacks[()]) if () in stacks else -math.inf

    def next_word(self, words: Sequence[str]) -> dict[str | None, float]:
        """How probable each word is after these; None is the end of the sentence. Empty when they cannot stand.

        The best that a language model could say: every way to read the words so far is followed from left to right.
        """
        stacks = self._open({(self.start,): 1.0})
        for word in words:
            stacks = self._read(stacks, word)
        mass = sum(stacks.values())
        chances: dict[str | None, float] = {}
        for stack, p in stacks.items():
            first = stack[0] if stack else None
            chances[first] = chances.get(first, 0.0) + p / mass
        return chances

    # ---- sentences -------------------------------------------------------------------------------------------------

    def sentence(self, rng: random.Random) -> Sentence:
        """Draw one sentence."""
        words, tags, log_probability = [], [], 0.0
        stack = [(self.start, self.start)]
        while stack:
            symbol, above = stack.pop()
            if symbol not in self.rules:
                words.append(symbol)
                tags.append(above.split("_")[0])
                continue
            chance, parts = rng.choices(self.rules[symbol], [p for p, _ in self.rules[symbol]])[0]
            log_probability += math.log(chance)
            stack += [(part, symbol) for part in reversed(parts)]
        return Sentence(tuple(words), tuple(tags), log_probability)

    @no_type_check
    def sentences(self, count: int, *, split: Split | None = None, seed: int = 0) -> list[Sentence]:
        """That many independent draws, those that belong to the other split left out. Short ones may come again."""
        check_count(count)
        check_split(split)
        return [sentence for sentence, _ in zip(self._endless(split, seed), range(count), strict=False)]

    def _endless(self, split: Split | None, seed: int) -> Iterator[Sentence]:
        rng = random.Random(f"grammar {seed}")
        while True:
            sentence = self.sentence(rng)
            if belongs(f"sentence {sentence.text}", split):
                yield sentence

    # ---- within ----------------------------------------------------------------------------------------------------

    def _expected(self) -> Float[Tensor, "symbols symbols"]:
        """How many of each symbol one step makes of each: M[a, b] = sum over the rules of a of p x (number of b)."""
        counts = [
            [sum(p * parts.count(part) for p, parts in self.rules[symbol]) for part in self._symbols]
            for symbol in self._symbols
        ]
        return torch.tensor(counts, dtype=torch.float64)

    def _summed(self, each: Float[Tensor, " symbols"]) -> float:
        """What a sentence is expected to gather when each symbol brings `each`: x = each + M x, read at the start."""
        system = torch.eye(len(each), dtype=torch.float64) - self._expected()
        return torch.linalg.solve(system, each)[self._symbols.index(self.start)].item()

    def _check_growth(self) -> None:
        radius = torch.linalg.eigvals(self._expected()).abs().max().item()
        if radius >= 1:
            raise ValueError(f"a symbol makes {radius:.3g} symbols a step; below 1, or sentences do not end")

    def _check_left(self) -> None:
        """No symbol may begin with itself, or reading from left to right would not come to a word."""
        begins = {symbol: {parts[0] for _, parts in choices} for symbol, choices in self.rules.items()}
        for symbol in self._symbols:
            reached, agenda = set(), list(begins[symbol])
            while agenda:
                first = agenda.pop()
                if first == symbol:
                    raise ValueError(f"{symbol!r} may begin with itself; write the rule so that it ends with itself")
                if first in self.rules and first not in reached:
                    reached.add(first)
                    agenda += begins[first]

    def _open(self, stacks: dict[Stack, float]) -> dict[Stack, float]:
        """Rewrite the symbol on top of each stack until it is a word."""
        opened: dict[Stack, float] = {}
        agenda = list(stacks.items())
        while agenda:
            stack, chance = agenda.pop()
            if stack and stack[0] in self.rules:
                agenda += [((*parts, *stack[1:]), chance * p) for p, parts in self.rules[stack[0]]]
            else:
                opened[stack] = opened.get(stack, 0.0) + chance
        return opened

    def _read(self, stacks: dict[Stack, float], word: str) -> dict[Stack, float]:
        """The stacks that have this word on top, without it."""
        return self._open({stack[1:]: chance for stack, chance in stacks.items() if stack and stack[0] == word})
