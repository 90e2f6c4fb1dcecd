"""Dates as people write them in many places, as translation: a locale's way into ISO 8601, or into another locale's.

Each text is made by the package babel from Unicode's CLDR when it is asked for; no text of anyone's is stored or
copied. Another version of babel may write some dates otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import no_type_check

from attnkit._optional import require
from attnkit.data.pairs import Pair, Pairs

# Locales with month names or day before month throughout: no text of theirs means two different dates.
LOCALES = (
    *("en_US", "en_GB", "de", "fr", "es", "it", "nl", "pt", "sv", "da", "fi", "pl", "cs", "hu", "ro"),
    *("ru", "uk", "el", "tr", "id", "vi", "ar", "he", "hi", "ja", "ko", "zh"),
)
STYLES = ("full", "long", "medium")  # "short" drops the century, and 3/7/24 is another day in another country
ISO = "iso"


@no_type_check
def date_text(day: date, locale: str, style: str = "long") -> str:
    """The day as it is written in a locale that babel knows, or as "iso".

    >>> [date_text(date(2024, 3, 7), locale, "full") for locale in ("en_US", "fr", "ja", "iso")]
    ['Thursday, March 7, 2024', 'jeudi 7 mars 2024', '2024年3月7日木曜日', '2024-03-07']
    """
    if not isinstance(day, date):
        raise TypeError(f"day is a {type(day).__name__}; it must be a datetime.date")
    _check(style, locale)
    if locale == ISO:
        return day.isoformat()
    return require("babel.dates", extra="models").format_date(day, format=style, locale=locale)


class Dates(Pairs):
    """Every day from `first` to `last`, in every source locale and style: days x locales x styles items.

    From 1900 to 2099, in 27 locales and 3 styles, that is 73,049 x 27 x 3 = 5,916,969 items. The target is "iso", or a
    locale, which writes the day in its "long" style. A day is held out when the hash of its ISO date says so (a tenth),
    in all locales and styles at once.

    >>> corpus = Dates()
    >>> len(corpus)
    5916969
    >>> corpus[0]
    Pair(source='Monday, January 1, 1900', target='1900-01-01')
    """

    sources: tuple[str, ...]
    target: str
    styles: tuple[str, ...]
    first: date
    days: int

    @no_type_check
    def __init__(
        self,
        sources: Sequence[str] = LOCALES,
        target: str = ISO,
        *,
        styles: Sequence[str] = STYLES,
        first: date = date(1900, 1, 1),
        last: date = date(2099, 12, 31),
    ) -> None:
        self.sources = (sources,) if isinstance(sources, str) else tuple(sources)
        self.styles = (styles,) if isinstance(styles, str) else tuple(styles)
        if not self.sources or not self.styles:
            raise ValueError(f"sources is {self.sources!r} and styles {self.styles!r}; it must be one each or more")
        for style in self.styles:
            _check(style, target, *self.sources)
        if not (isinstance(first, date) and isinstance(last, date)):
            raise TypeError(f"first is {first!r} and last {last!r}; they must be datetime.date")
        if last < first:
            raise ValueError(f"last is {last}; it must not be before first, {first}")
        self.target, self.first, self.days = target, first, (last - first).days + 1

    def __len__(self) -> int:
        return self.days * len(self.sources) * len(self.styles)

    def day(self, index: int) -> date:
        """The day that an item is about."""
        return self.first + timedelta(days=index % self.days)

    def pair(self, index: int) -> Pair:
        locale, style = divmod(index // self.days, len(self.styles))
        day = self.day(index)
        return Pair(date_text(day, self.sources[locale], self.styles[style]), date_text(day, self.target))

    def key(self, index: int) -> str:
        return f"date {self.day(index).isoformat()}"


@no_type_check
def _check(style: str, *locales: str) -> None:
    if style not in (*STYLES, "short"):
        raise ValueError(f"style is {style!r}; it must be one of {', '.join(STYLES)}, short")
    known = require("babel.localedata", extra="models")
    for locale in locales:
        if locale != ISO and not (isinstance(locale, str) and known.exists(locale)):
            raise ValueError(f'locale is {locale!r}; it must be "iso" or one that babel knows, such as de or pt_BR')
