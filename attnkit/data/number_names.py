"""Numbers written out in words, as translation: one language into another, or digits into words.

Each name is made by the package num2words when it is asked for; no text of anyone's is stored or copied.
"""

from __future__ import annotations

from typing import no_type_check

from attnkit._optional import require
from attnkit.data.pairs import Pair, Pairs

LARGEST = 999_999

# Languages in which num2words 0.5.14 (with the mends below) and the spell-out rules of Unicode's ICU 72 agree on all
# million numbers, but for spaces, hyphens, commas, the name of zero (three languages) and Persian's "(one) thousand".
# Italian, Dutch, Swedish, Turkish and others disagree, and are left out.
LANGUAGES = {
    "de": "German",
    "en": "English",
    "eo": "Esperanto",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "id": "Indonesian",
    "ja": "Japanese",
    "ko": "Korean",
    "pl": "Polish",
    "pt": "European Portuguese",
    "ru": "Russian",
}
DIGITS = "digits"

# What num2words has wrong: German drops the s of "eins" before a noun, Spanish shortens "uno" before one.
_MENDS = {
    "de": (("einstausend", "eintausend"),),
    "es": (("veintiuno mil", "veintiún mil"), ("uno mil", "un mil")),
}


@no_type_check
def number_name(number: int, language: str) -> str:
    """The number, 0 to 999,999, in words of one of `LANGUAGES`, or as "digits".

    >>> [number_name(21_742, language) for language in ("en", "de", "es", "digits")]  # doctest: +NORMALIZE_WHITESPACE
    ['twenty-one thousand, seven hundred and forty-two', 'einundzwanzigtausendsiebenhundertzweiundvierzig',
     'veintiún mil setecientos cuarenta y dos', '21742']
    """
    _check(language, "language")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST:
        raise ValueError(f"number is {number!r}; it must be a whole number from 0 to {LARGEST:,}")
    if language == DIGITS:
        return str(number)
    name = require("num2words", extra="models").num2words(number, lang=language)
    for wrong, right in _MENDS.get(language, ()):
        name = name.replace(wrong, right)
    return name


class NumberNames(Pairs):
    """Number names as pairs of two languages: item n is the number n, so there are `largest` + 1 items.

    Source and target are each one of `LANGUAGES` or "digits". Every number has one name, no two numbers share one. A
    number is held out when the hash of its digits says so (a tenth), in whichever language: a model that is trained on
    several pairs of languages has met a test number in none.

    >>> NumberNames("en", "fr").pair(92)
    Pair(source='ninety-two', target='quatre-vingt-douze')
    >>> NumberNames("digits", "ja").sample(2, split="test", seed=1)
    [Pair(source='346580', target='三十四万六千五百八十'), Pair(source='941098', target='九十四万千九十八')]
    """

    source: str
    target: str
    largest: int

    @no_type_check
    def __init__(self, source: str = "en", target: str = "fr", *, largest: int = LARGEST) -> None:
        _check(source, "source")
        _check(target, "target")
        if isinstance(largest, bool) or not isinstance(largest, int) or not 0 <= largest <= LARGEST:
            raise ValueError(f"largest is {largest!r}; it must be a whole number from 0 to {LARGEST:,}")
        self.source, self.target, self.largest = source, target, largest

    def __len__(self) -> int:
        return self.largest + 1

    def pair(self, index: int) -> Pair:
        return Pair(number_name(index, self.source), number_name(index, self.target))

    def key(self, index: int) -> str:
        return f"number {index}"


@no_type_check
def _check(language: str, name: str) -> None:
    if language != DIGITS and language not in LANGUAGES:
        raise ValueError(f'{name} is {language!r}; it must be "digits" or one of {", ".join(LANGUAGES)}')
