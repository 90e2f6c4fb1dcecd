"""The grammar's numbers are exact: compared with every sentence written out, with frequencies, and with each other."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from attnkit.data import Grammar, small_english

ENGLISH = small_english()

# Finite, with shared beginnings and a word in two places: everything can be written out.
SMALL = Grammar(
    {
        "S": [(0.6, ("A", "B")), (0.3, ("A", "A", "B")), (0.1, ("stop",))],
        "A": [(0.5, ("x",)), (0.2, ("y",)), (0.3, ("B", "z"))],
        "B": [(0.9, ("u",)), (0.1, ("v", "u"))],
    }
)


def written_out(grammar: Grammar, stack: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
    """All sentences that a stack can become, with the probability of each derivation."""
    if not stack:
        return [((), 1.0)]
    rest = written_out(grammar, stack[1:])
    first = (
        [(words, p * q) for p, parts in grammar.rules[stack[0]] for words, q in written_out(grammar, parts)]
        if stack[0] in grammar.rules
        else [((stack[0],), 1.0)]
    )
    return [(words + more, p * q) for words, p in first for more, q in rest]


def test_entropy_and_length_equal_those_of_all_sentences_written_out() -> None:
    language = written_out(SMALL, ("S",))
    assert len({words for words, _ in language}) == len(language)
    assert sum(p for _, p in language) == pytest.approx(1, abs=1e-12)
    assert SMALL.entropy == pytest.approx(-sum(p * math.log(p) for _, p in language), abs=1e-12)
    assert SMALL.mean_length == pytest.approx(sum(p * len(words) for words, p in language), abs=1e-12)
    assert SMALL.entropy_per_word == pytest.approx(SMALL.entropy / SMALL.mean_length)


def test_the_next_word_and_the_sentence_are_as_probable_as_written_out() -> None:
    language = written_out(SMALL, ("S",))
    for words, p in language:
        assert SMALL.log_probability(words) == pytest.approx(math.log(p), abs=1e-12)
    for start in {words[:size] for words, _ in language for size in range(len(words) + 1)}:
        mass: Counter[str | None] = Counter()
        for words, p in language:
            if words[: len(start)] == start:
                mass[words[len(start)] if len(words) > len(start) else None] += p
        expected = {word: pytest.approx(p / mass.total(), abs=1e-12) for word, p in mass.items()}
        assert SMALL.next_word(start) == expected


def test_a_sentence_with_two_derivations_has_the_sum_of_both() -> None:
    doubled = Grammar({"S": [(0.5, ("a", "T")), (0.5, ("a", "b"))], "T": [(0.5, ("b",)), (0.5, ("c",))]})
    assert doubled.log_probability("ab") == pytest.approx(math.log(0.75))


def test_recursion_has_the_entropy_of_the_geometric_distribution() -> None:
    p = 0.3
    grammar = Grammar({"S": [(p, ("stop",)), (1 - p, ("go", "S"))]})
    assert grammar.entropy == pytest.approx((-p * math.log(p) - (1 - p) * math.log(1 - p)) / p, abs=1e-12)
    assert grammar.mean_length == pytest.approx(1 / p, abs=1e-12)


def test_the_english_sentences_have_one_derivation_each() -> None:
    """What reading from left to right sums over all derivations is what the one derivation gave."""
    for sentence in ENGLISH.sentences(500, seed=1):
        assert ENGLISH.log_probability(sentence.words) == pytest.approx(sentence.log_probability, abs=1e-9)


def test_many_sentences_have_the_expected_surprise_and_length() -> None:
    """4 standard errors, so that a wrong entropy (in bits, or without the rules of a symbol) shows."""
    drawn = ENGLISH.sentences(10_000, seed=0)
    for values, expected in (
        ([-sentence.log_probability for sentence in drawn], ENGLISH.entropy),
        ([len(sentence.words) for sentence in drawn], ENGLISH.mean_length),
    ):
        mean = sum(values) / len(values)
        error = math.sqrt(sum((value - mean) ** 2 for value in values)) / len(values)
        assert abs(mean - expected) < 4 * error
        assert error < 0.015 * expected


def test_the_surprise_of_the_next_words_adds_up_to_the_sentence() -> None:
    for sentence in ENGLISH.sentences(30, seed=2):
        chances = [ENGLISH.next_word(sentence.words[:n])[word] for n, word in enumerate([*sentence.words, None])]
        assert sum(map(math.log, chances)) == pytest.approx(sentence.log_probability, abs=1e-9)
        assert sum(ENGLISH.next_word(sentence.words[:2]).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("beginning", "right", "wrong"),
    [
        ("the dogs near a cat", "sleep", "sleeps"),
        ("the dog that the cats see", "sleeps", "sleep"),
        ("this king near the guards that like some queens", "sees", "see"),
        ("many birds that see a dog near the river", "sing", "sings"),
    ],
)
def test_the_verb_agrees_with_a_subject_that_is_far_away(beginning: str, right: str, wrong: str) -> None:
    after = ENGLISH.next_word(beginning.split())
    assert right in after
    assert wrong not in after


def test_the_noun_before_a_verb_often_has_the_other_number() -> None:
    """Attention is needed: whoever takes the last noun for the subject is often wrong."""
    wrong, all_verbs = 0, 0
    for sentence in ENGLISH.sentences(500, seed=3):
        nouns = {word: "one" for _, (word,) in ENGLISH.rules["NOUN_one"]}
        nouns |= {word: "many" for _, (word,) in ENGLISH.rules["NOUN_many"]}
        ones = {word for kind in ("transitive", "intransitive") for _, (word,) in ENGLISH.rules[f"VERB_one_{kind}"]}
        for place, tag in enumerate(sentence.tags):
            if tag == "VERB":
                before = [w for w, t in zip(sentence.words[:place], sentence.tags[:place], strict=True) if t == "NOUN"]
                wrong += (nouns[before[-1]] == "one") != (sentence.words[place] in ones)
                all_verbs += 1
    assert 0.1 < wrong / all_verbs < 0.5


def test_tags_name_the_part_of_speech_and_some_words_have_two() -> None:
    tags: dict[str, set[str]] = {}
    for sentence in ENGLISH.sentences(2000, seed=4):
        assert len(sentence.words) == len(sentence.tags)
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            tags.setdefault(word, set()).add(tag)
    assert set().union(*tags.values()) == {"DET", "ADJ", "NOUN", "ADP", "PRON", "VERB", "END"}
    assert {word for word, found in tags.items() if len(found) > 1} == {
        *("judge", "judges", "guard", "guards", "watch", "watches", "duck", "ducks")
    }
    assert tags["watches"] == {"NOUN", "VERB"}
    assert len(tags) == 61


def test_what_the_grammar_cannot_say_has_no_probability() -> None:
    assert ENGLISH.log_probability(["the", "dog", "sleep", "."]) == -math.inf
    assert ENGLISH.log_probability(["the", "dog", "sleeps"]) == -math.inf
    assert ENGLISH.next_word(["dog", "the"]) == {}
    assert ENGLISH.next_word(["the", "dog", "sleeps", "."]) == {None: 1.0}
    assert ENGLISH.sentence(random.Random(1)).text.endswith(" .")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"A": [(1.0, ("x",))]}, "start is 'S'"),
        ({"S": [(0.5, ("x",)), (0.4, ("y",))]}, r"rules of 'S'.*\[0\.5, 0\.4\]"),
        ({"S": [(0.5, ("x",)), (0.5, ())]}, "'S' may become nothing"),
        ({"S": [(0.5, ("x",)), (0.5, ("x", "S", "S"))]}, "makes 1 symbols a step"),
        (
            {"S": [(0.5, ("x",)), (0.5, ("T", "x"))], "T": [(0.8, ("y",)), (0.2, ("S", "y"))]},
            "'S' may begin with itself",
        ),
    ],
)
def test_a_grammar_that_cannot_work_is_refused(rules, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Grammar(rules)
