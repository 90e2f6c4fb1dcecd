"""Number names are right, each number has one, and no two numbers share one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attnkit.data import NumberNames, number_name
from attnkit.data.number_names import LANGUAGES

# Written by hand, where languages are odd: 21 and 71, hundreds, one before thousand, the largest.
KNOWN = {
    "de": {0: "null", 21: "einundzwanzig", 101_000: "einhunderteintausend", 999: "neunhundertneunundneunzig"},
    "en": {40: "forty", 100: "one hundred", 100_001: "one hundred thousand and one", 12_000: "twelve thousand"},
    "eo": {21: "dudek unu", 1000: "mil", 300: "tricent"},
    "es": {21: "veintiuno", 21_000: "veintiún mil", 31_001: "treinta y un mil uno", 101_000: "ciento un mil"},
    "fa": {21: "بیست و یک", 1000: "هزار"},
    "fi": {11: "yksitoista", 200: "kaksisataa", 2000: "kaksituhatta"},
    "fr": {71: "soixante et onze", 80: "quatre-vingts", 80_000: "quatre-vingt mille", 200: "deux cents"},
    "id": {11: "sebelas", 100: "seratus", 1000: "seribu"},
    "ja": {10_000: "一万", 21: "二十一", 300_000: "三十万"},
    "ko": {10_000: "만", 21: "이십일"},
    "pl": {2000: "dwa tysiące", 5000: "pięć tysięcy", 21: "dwadzieścia jeden"},
    "pt": {16: "dezasseis", 1100: "mil e cem", 100: "cem", 101: "cento e um"},
    "ru": {1000: "одна тысяча", 2000: "две тысячи", 5000: "пять тысяч", 40: "сорок"},
    "digits": {0: "0", 999_999: "999999"},
}


@pytest.mark.parametrize("language", KNOWN)
def test_names_that_we_know(language: str) -> None:
    assert {number: number_name(number, language) for number in KNOWN[language]} == KNOWN[language]


def test_every_language_is_tried() -> None:
    assert set(KNOWN) == {*LANGUAGES, "digits"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_numbers_share_a_name(language: str) -> None:
    """All below 1,000, some whole thousands, and some between: the name of a number is made of these."""
    numbers = {*range(1000), *range(1000, 1_000_000, 7000), *range(0, 1_000_000, 9973)}
    assert len({number_name(number, language) for number in numbers}) == len(numbers)


def test_items_are_the_numbers_in_two_languages() -> None:
    corpus = NumberNames("digits", "digits", largest=321)
    assert [pair.source for pair in map(corpus.__getitem__, range(322))] == [str(n) for n in range(322)]
    assert NumberNames("digits", "ru")[1000] == ("1000", "одна тысяча")
    assert len(NumberNames()) == 1_000_000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: number_name(1_000_000, "en"), "number is 1000000; .*0 to 999,999"),
        (lambda: number_name(-1, "en"), "number is -1"),
        (lambda: number_name(2.0, "en"), r"number is 2\.0"),
        (lambda: number_name(1, "xx"), "language is 'xx'; it must be \"digits\" or one of de, en"),
        (lambda: NumberNames("en", "tr"), "target is 'tr'"),
        (lambda: NumberNames("EN"), "source is 'EN'"),
        (lambda: NumberNames(largest=10**6), "largest is 1000000"),
    ],
)
def test_wrong_use_is_named(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("num2words", "NumberNames()[7]"),
        ("babel", "Dates()"),
        ("tokenizers", "BytePairTokenizer.train(['a'], vocab_size=261)"),
    ],
)
def test_a_missing_package_is_asked_for_by_its_extra_and_only_when_needed(package: str, use: str) -> None:
    """Everything else of the room works without it."""
    others = "small_english(); copy(2); WordTokenizer.train(['a']); BytePair(['aa aa'], 270)"
    code = f"""
import sys
sys.modules["{package}"] = None
from attnkit.data import *
{others}
try:
    {use}
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert package in run.stdout
    assert 'pip install "attnkit[models]"' in run.stdout
