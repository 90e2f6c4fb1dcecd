"""Text into numbers and back: by words, by characters, or by byte pairs, behind one protocol.

The first five ids are the same in all of them: padding 0, beginning 1, end 2, unknown 3, mask 4. No text is ever
encoded as one of these but "unknown": a text that happens to hold "<pad>" is a text of five signs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, no_type_check

from attnkit._optional import require
from attnkit.data.split import check_count

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")
FILE = "tokenizer.json"

# A word with the space before it, or a separator: every sign of a text is in exactly one piece, so joining the pieces
# gives the text again. (GPT-2 lets the space belong to the following word too; its pattern also parts letters, digits.)
SEPARATORS = r' \n.,;:!?()"-'
PIECE = rf" ?[^{SEPARATORS}]+|[{SEPARATORS}]"

Own = TypeVar("Own", bound="Tokenizer")


def pieces(text: str) -> list[str]:
    """The words of a text, each with the space before it, and the separators between them.

    >>> pieces("one thousand, twenty-two")
    ['one', ' thousand', ',', ' twenty', '-', 'two']
    """
    return re.findall(PIECE, text)


class Tokenizer:
    """What every tokenizer can do. `encode` adds neither beginning nor end: that is for who makes the batches."""

    kind: ClassVar[str]
    pad, bos, eos, unk, mask = range(len(SPECIAL))

    @property
    def vocab_size(self) -> int:
        """How many ids there are: 0 to vocab_size - 1, the special ones among them."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        raise NotImplementedError

    @no_type_check
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids (a list or a tensor). Padding, beginning and end say nothing; "<unk>" and "<mask>" stay."""
        silent = (self.pad, self.bos, self.eos)
        return self._text([i for i in map(self._checked, ids) if i not in silent])

    def token(self, token_id: int) -> str:
        """The text of one id, for the axis of a figure."""
        return SPECIAL[token_id] if 0 <= token_id < len(SPECIAL) else self._text([self._checked(token_id)])

    def save(self, folder: str | Path) -> None:
        """Write the vocabulary as `tokenizer.json` into the folder, which is made if need be."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / FILE).write_text(json.dumps(self._data(), ensure_ascii=False, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls: type[Own], folder: str | Path) -> Own:
        """The tokenizer that was saved there. `Tokenizer.load` takes any; a kind of tokenizer takes its own only."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"there is no {FILE} in {str(folder)!r}; save(folder) writes one")
        data = json.loads(path.read_text("utf-8"))
        data = data if isinstance(data, dict) else {}
        kind = data.get("kind", "byte_pair" if "model" in data else None)
        found = {own.kind: own for own in (WordTokenizer, CharTokenizer, BytePairTokenizer)}.get(kind)
        if found is None or not issubclass(found, cls):
            raise ValueError(f"{str(path)!r} holds a tokenizer of kind {kind!r}; {cls.__name__} cannot read it")
        return found._from_data(data)

    def _text(self, ids: list[int]) -> str:
        raise NotImplementedError

    def _data(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> Any:
        raise NotImplementedError

    @no_type_check
    def _checked(self, token_id: int) -> int:
        number = int(token_id)
        if not 0 <= number < self.vocab_size:
            raise IndexError(f"id is {number}; the ids are 0 to {self.vocab_size - 1}")
        return number


class _Table(Tokenizer):
    """A tokenizer that looks its pieces up in a list. What is not in the list becomes "unknown"."""

    tokens: list[str]
    ids: dict[str, int]

    @no_type_check
    def __init__(self, tokens: Iterable[str]) -> None:
        """The tokens in the order of their ids, from 5 up."""
        self.tokens = list(tokens)
        self.ids = {token: number for number, token in enumerate(self.tokens, len(SPECIAL))}
        if isinstance(tokens, str) or not all(isinstance(token, str) and token for token in self.tokens):
            raise ValueError("tokens must be a list of texts, none of them empty")
        if len(self.ids) < len(self.tokens):
            raise ValueError(f"tokens holds {Counter(self.tokens).most_common(1)[0][0]!r} more than once")

    @classmethod
    @no_type_check
    def train(cls: type[Own], texts: Iterable[str], *, vocab_size: int | None = None) -> Own:
        """The pieces of the texts: the most frequent first, of equally frequent ones the smaller by code point.

        With a `vocab_size` (special ids included) only the most frequent that fit.
        """
        if vocab_size is not None:
            check_count(vocab_size, "vocab_size")
            if vocab_size < len(SPECIAL):
                raise ValueError(f"vocab_size is {vocab_size}; the special ids alone are {len(SPECIAL)}")
        counts = Counter(piece for text in _texts(texts) for piece in cls._pieces(text))
        order = sorted(counts, key=lambda piece: (-counts[piece], piece))
        return cls(order[: None if vocab_size is None else vocab_size - len(SPECIAL)])

    @staticmethod
    def _pieces(text: str) -> list[str]:
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + len(self.tokens)

    def encode(self, text: str) -> list[int]:
        return [self.ids.get(piece, self.unk) for piece in self._pieces(text)]

    def _text(self, ids: list[int]) -> str:
        return "".join([*SPECIAL, *self.tokens][i] if i < len(SPECIAL) else self.tokens[i - len(SPECIAL)] for i in ids)

    def _data(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": self.tokens}

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> Any:
        return cls(data["tokens"])


class WordTokenizer(_Table):
    """One id for each word of the texts it was trained on, and one for each separator (see `pieces`).

    A text made of known pieces comes back sign for sign.

    >>> words = WordTokenizer.train(["the cat sat on the mat"])
    >>> words.encode("the dog sat"), words.decode(words.encode("the dog sat"))
    ([10, 3, 8], 'the<unk> sat')
    """

    kind = "word"
    _pieces = staticmethod(pieces)


class CharTokenizer(_Table):
    """One id for each character (code point) of the texts it was trained on. Known text comes back as it was.

    >>> characters = CharTokenizer.train(["banana"])
    >>> characters.encode("ban"), characters.vocab_size
    ([7, 5, 6], 8)
    """

    kind = "character"

    @staticmethod
    def _pieces(text: str) -> list[str]:
        return list(text)


class BytePairTokenizer(Tokenizer):
    """Byte-pair encoding over bytes, by Hugging Face's `tokenizers`: nothing is unknown, every text comes back.

    Sennrich et al. 2016 (arXiv:1508.07909), over bytes as in GPT-2 (Radford et al. 2019). The 256 bytes come first, in
    GPT-2's order, then one token for each merge. `attnkit.data.byte_pair` is the same in sixty lines, to read.
    `tokenizer.json` is Hugging Face's own format; their tools read it.

    >>> pairs = BytePairTokenizer.train(["low lower lowest"] * 2, vocab_size=264)
    >>> [pairs.token(i) for i in pairs.encode("lowest slow")]
    ['low', 'e', 's', 't', ' ', 's', 'low']
    """

    kind = "byte_pair"
    inner: Any

    @no_type_check
    def __init__(self, inner: Any) -> None:
        """Wrap a `tokenizers.Tokenizer` whose first five tokens are our special ones."""
        found = [inner.id_to_token(number) for number in range(len(SPECIAL))]
        if found != list(SPECIAL):
            raise ValueError(f"the first tokens are {found}; they must be {list(SPECIAL)}")
        inner.encode_special_tokens = True  # a text that holds "<pad>" is a text
        self.inner = inner

    @classmethod
    @no_type_check
    def train(cls, texts: Iterable[str], *, vocab_size: int, min_count: int = 2) -> BytePairTokenizer:
        """Merge the most frequent pair until there are `vocab_size` ids, or none is met `min_count` times.

        Ties: the pair with the smaller ids, left one first. The same texts give the same tokenizer in every process.
        """
        check_count(vocab_size, "vocab_size")
        check_count(min_count, "min_count")
        if vocab_size < len(SPECIAL) + 256:
            raise ValueError(
                f"vocab_size is {vocab_size}; the special ids and the bytes alone are {len(SPECIAL) + 256}"
            )
        kit = require("tokenizers", extra="models")
        split = kit.pre_tokenizers.Split(kit.Regex(PIECE), "isolated")
        byte_level = kit.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner = kit.Tokenizer(kit.models.BPE())
        inner.pre_tokenizer = kit.pre_tokenizers.Sequence([split, byte_level])
        inner.decoder = kit.decoders.ByteLevel()
        trainer = kit.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_count,
            special_tokens=list(SPECIAL),
            initial_alphabet=kit.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(_texts(texts), trainer)
        return cls(inner)

    @property
    def vocab_size(self) -> int:
        return self.inner.get_vocab_size()

    @no_type_check
    def encode(self, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text holds half of a surrogate pair at {error.start}, which has no bytes") from None
        return self.inner.encode(text, add_special_tokens=False).ids

    def _text(self, ids: list[int]) -> str:
        return self.inner.decode(ids, skip_special_tokens=False)

    def _data(self) -> dict[str, Any]:
        return json.loads(self.inner.to_str())

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> Any:
        return cls(require("tokenizers", extra="models").Tokenizer.from_str(json.dumps(data)))


def _texts(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, str):
        raise TypeError("texts is one text; it must be a list of texts")
    return texts
