"""Every tokenizer gives the text back, takes no text for a special token, and is the same in every process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from attnkit.data import (
    BytePair,
    BytePairTokenizer,
    CharTokenizer,
    NumberNames,
    Tokenizer,
    WordTokenizer,
    pieces,
    small_english,
)
from attnkit.data.tokenizers import SPECIAL

NAMES = [text for pair in NumberNames("en", "de").sample(150) for text in pair]
CORPUS = [*NAMES, *(sentence.text for sentence in small_english().sentences(100)), "ünï – 数 \t\n  ."]
WORDS, CHARACTERS = WordTokenizer.train(CORPUS), CharTokenizer.train(CORPUS)
PAIRS = BytePairTokenizer.train(CORPUS, vocab_size=400)
ALL = [WORDS, CHARACTERS, PAIRS]
KINDS = [type(tokenizer).__name__ for tokenizer in ALL]

# Unicode without lone surrogates, with spaces, specials and words of the corpus among it.
TEXTS = st.lists(st.one_of(st.text(), st.sampled_from([*SPECIAL, " ", "\n", " hundred", "the", "🏳️‍🌈", "\r\n"]))).map(
    "".join
)


@given(TEXTS)
def test_pieces_lose_nothing(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(pieces(text))


@given(TEXTS)
@settings(max_examples=300)
def test_byte_pairs_give_any_text_back_and_use_no_special_id(text: str) -> None:
    ids = PAIRS.encode(text)
    assert PAIRS.decode(ids) == text
    assert all(len(SPECIAL) <= i < PAIRS.vocab_size for i in ids)


@given(st.data())
def test_known_pieces_and_characters_come_back(data) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(CHARACTERS.tokens))))
    assert CHARACTERS.decode(CHARACTERS.encode(text)) == text
    known = "".join(data.draw(st.lists(st.sampled_from(WORDS.tokens))))
    if all(piece in WORDS.ids for piece in pieces(known)):  # two words in a row without a space are a new word
        assert WORDS.decode(WORDS.encode(known)) == known


@pytest.mark.parametrize("tokenizer", ALL, ids=KINDS)
def test_the_corpus_comes_back_sign_for_sign(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode(tokenizer.encode(text)) for text in CORPUS] == CORPUS
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(torch.tensor(tokenizer.encode("one hundred"))) == "one hundred"


@pytest.mark.parametrize("tokenizer", ALL, ids=KINDS)
def test_special_tokens_in_a_text_are_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<pad><mask> one<eos>")
    assert not {tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.mask} & set(ids)


def test_what_is_unknown_becomes_unknown_and_shows() -> None:
    assert CHARACTERS.encode("o☃ne")[1] == CHARACTERS.unk == 3
    assert CHARACTERS.decode(CHARACTERS.encode("o☃ne")) == "o<unk>ne"
    assert WORDS.decode(WORDS.encode("one gazillion")) == "one<unk>"
    assert WordTokenizer(["<pad>"]).encode("<pad>") == [5]


@pytest.mark.parametrize("tokenizer", ALL, ids=KINDS)
def test_padding_beginning_and_end_are_silent(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one hundred")
    assert tokenizer.decode([1, *ids, 2, 0, 0]) == "one hundred"
    assert tokenizer.decode([1, 4, *ids, 3, 2]) == "<mask>one hundred<unk>"
    assert [tokenizer.token(i) for i in range(5)] == list(SPECIAL)
    assert "".join(map(tokenizer.token, ids)) == "one hundred"


@pytest.mark.parametrize("tokenizer", ALL, ids=KINDS)
def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, tmp_path) -> None:
    tokenizer.save(tmp_path / "new" / "folder")
    for reader in (Tokenizer, type(tokenizer)):
        loaded = reader.load(tmp_path / "new" / "folder")
        assert type(loaded) is type(tokenizer)
        assert loaded.vocab_size == tokenizer.vocab_size
        assert [loaded.encode(text) for text in [*CORPUS, "<pad>☃"]] == [
            tokenizer.encode(text) for text in [*CORPUS, "<pad>☃"]
        ]


def test_hugging_face_reads_our_byte_pairs(tmp_path) -> None:
    PAIRS.save(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert [theirs.encode(text) for text in CORPUS] == [PAIRS.encode(text) for text in CORPUS]


def test_another_process_learns_the_same(tmp_path) -> None:
    code = """
from attnkit.data import *
corpus = [text for pair in NumberNames("en", "de").sample(60) for text in pair]
for kind, size in ((WordTokenizer, 40), (CharTokenizer, 20), (BytePairTokenizer, 330)):
    kind.train(corpus, vocab_size=size).save({!r} + "/" + kind.kind)
"""
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", code.format(str(folder))], check=True, env={"PYTHONHASHSEED": seed})
        found.append({path.parent.name: path.read_text("utf-8") for path in folder.rglob("tokenizer.json")})
    assert found[0] == found[1]
    assert sorted(found[0]) == ["byte_pair", "character", "word"]


def test_a_vocabulary_holds_the_most_frequent() -> None:
    words = WordTokenizer.train(["b b b a a c d"], vocab_size=8)
    assert words.tokens == [" a", " b", " c"]
    assert words.encode("b b d") == [3, 6, 3]
    assert WordTokenizer.train(["b b b a a c d"]).tokens == [" a", " b", " c", " d", "b"]
    assert CharTokenizer.train(["banana"]).tokens == ["a", "n", "b"]


# ---- the sixty-line version ---------------------------------------------------------------------------------------

RUNS = ["aaa aaaa aaaaa aab", "abab ababab abc abcabc", " x" * 9 + "xx" * 9]  # overlaps, ties, one token made two ways


@pytest.mark.parametrize(("texts", "size"), [(CORPUS, 500), (RUNS, 320), (["ééé 数数 数é"] * 3, 290), ([], 300)])
def test_the_merges_equal_those_of_hugging_face(texts: list[str], size: int) -> None:
    ours, theirs = BytePair(texts, size), BytePairTokenizer.train(texts, vocab_size=size)
    assert len(ours.ids) + len(SPECIAL) == theirs.vocab_size
    assert len(ours.merges) == len(theirs._data()["model"]["merges"])
    assert [ours.encode(text) for text in CORPUS] == [theirs.encode(text) for text in CORPUS]


@given(st.lists(st.text("ab \n,é", max_size=30), max_size=6), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_on_any_texts_the_ids_equal_those_of_hugging_face(texts: list[str], least: int) -> None:
    """Also the order in which ties are broken: the ids are numbered by it."""
    ours, theirs = BytePair(texts, 290, least), BytePairTokenizer.train(texts, vocab_size=290, min_count=least)
    assert [theirs.decode([number]) for number in range(261, theirs.vocab_size)] == [
        token.decode(errors="replace") for token, number in ours.ids.items() if number >= 261
    ]
    assert [ours.encode(text) for text in [*texts, "abba é,\nb"]] == [
        theirs.encode(text) for text in [*texts, "abba é,\nb"]
    ]


@given(TEXTS)
def test_the_tokens_of_the_short_version_are_the_bytes_of_the_text(text: str) -> None:
    assert b"".join(SHORT.split(text)) == text.encode()


SHORT = BytePair(NAMES, 300)


# ---- wrong use ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: WORDS.decode([10**6]), IndexError, f"id is 1000000; the ids are 0 to {WORDS.vocab_size - 1}"),
        (lambda: PAIRS.decode([-1]), IndexError, "id is -1"),
        (lambda: PAIRS.encode("a\ud800"), ValueError, "half of a surrogate pair at 1"),
        (lambda: BytePairTokenizer.train(["a"], vocab_size=100), ValueError, "vocab_size is 100; .* are 261"),
        (lambda: WordTokenizer.train(["a"], vocab_size=3), ValueError, "vocab_size is 3"),
        (lambda: CharTokenizer.train("banana"), TypeError, "texts is one text"),
        (lambda: WordTokenizer(["a", "b", "a"]), ValueError, "'a' more than once"),
        (lambda: WordTokenizer(["a", ""]), ValueError, "none of them empty"),
        (lambda: Tokenizer.load("/nowhere"), FileNotFoundError, "no tokenizer.json in '/nowhere'"),
    ],
)
def test_wrong_use_is_named(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_a_file_of_another_kind_is_refused(tmp_path) -> None:
    WORDS.save(tmp_path)
    with pytest.raises(ValueError, match="kind 'word'; CharTokenizer cannot read it"):
        CharTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match="kind None; Tokenizer cannot read it"):
        Tokenizer.load(tmp_path)
    theirs = PAIRS._data()
    theirs["model"]["vocab"] = {"a": 0}
    theirs["model"]["merges"], theirs["added_tokens"] = [], []
    (tmp_path / "tokenizer.json").write_text(json.dumps(theirs))
    with pytest.raises(ValueError, match="the first tokens are"):
        Tokenizer.load(tmp_path)
