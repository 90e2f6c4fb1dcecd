"""Byte-pair encoding in sixty lines, to read. `BytePairTokenizer` does the same, fast.

Sennrich et al. 2016 (arXiv:1508.07909), algorithm 1, over bytes instead of characters (Radford et al. 2019): start from
single bytes, and again and again make one token of the pair of neighbours that is met most often. Words are split off
first and never merged across. Of equally frequent pairs the one with the smaller ids wins, the left id first. With that
rule the merges are those of Hugging Face's `tokenizers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from attnkit.data.tokenizers import SPECIAL, pieces

# GPT-2's order of the bytes: first those that have a visible sign in Latin-1, then the others.
_VISIBLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
BYTES = [bytes([value]) for value in sorted(range(256), key=lambda value: (value not in _VISIBLE, value))]

Merge = tuple[bytes, bytes]


class BytePair:
    """The merges learned from texts, in order, and the ids of the tokens that they make.

    >>> pair = BytePair(["low lower lowest"] * 2, vocab_size=264)
    >>> pair.merges
    [(b'l', b'o'), (b'lo', b'w'), (b' ', b'low')]
    >>> pair.split("lowest slow")
    [b'low', b'e', b's', b't', b' ', b's', b'low']
    """

    def __init__(self, texts: Iterable[str], vocab_size: int, min_count: int = 2) -> None:
        """Learn merges until there are `vocab_size` ids, or no pair of neighbours is met `min_count` times."""
        self.ids = {token: number for number, token in enumerate(BYTES, len(SPECIAL))}
        self.merges: list[Merge] = []
        counts = Counter(piece for text in texts for piece in pieces(text))
        words = {word: [bytes([value]) for value in word.encode()] for word in counts}
        while len(self.ids) + len(SPECIAL) < vocab_size:
            met: Counter[Merge] = Counter()
            for word, tokens in words.items():
                for pair in pairwise(tokens):
                    met[pair] += counts[word]
            best = min(met, key=lambda pair: (-met[pair], self.ids[pair[0]], self.ids[pair[1]]), default=None)
            if best is None or met[best] < max(min_count, 1):
                break
            self.merges.append(best)
            self.ids.setdefault(best[0] + best[1], len(SPECIAL) + len(self.ids))
            words = {word: merge(tokens, best) for word, tokens in words.items()}
        self.rank = {pair: rank for rank, pair in enumerate(self.merges)}

    def split(self, text: str) -> list[bytes]:
        """The tokens of a text: within each word the merges are made again, in the order in which they were learned."""
        found: list[bytes] = []
        for piece in pieces(text):
            tokens = [bytes([value]) for value in piece.encode()]
            while pair := min((p for p in pairwise(tokens) if p in self.rank), key=self.rank.__getitem__, default=None):
                tokens = merge(tokens, pair)
            found += tokens
        return found

    def encode(self, text: str) -> list[int]:
        """The ids of the tokens of a text."""
        return [self.ids[token] for token in self.split(text)]


def merge(tokens: list[bytes], pair: Merge) -> list[bytes]:
    """Make one token of each place where the pair stands, from the left.

    >>> merge([b"a", b"a", b"a", b"b"], (b"a", b"a"))
    [b'aa', b'a', b'b']
    """
    merged, place = [], 0
    while place < len(tokens):
        joined = tuple(tokens[place : place + 2]) == pair
        merged.append(tokens[place] + tokens[place + 1] if joined else tokens[place])
        place += 2 if joined else 1
    return merged
