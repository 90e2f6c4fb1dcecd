"""Dates: each text means one day, whatever the locale, and babel's own parser and names agree."""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import pytest
from babel.dates import parse_date

from attnkit.data import Dates, date_text
from attnkit.data.dates import LOCALES, STYLES


def test_no_text_means_two_days() -> None:
    """A year of all days, in all locales and styles: a model that is told no locale can still know the day."""
    meaning: dict[str, date] = {}
    for day in (date(2003, 1, 1) + timedelta(days=n) for n in range(0, 366)):
        for locale in LOCALES:
            for style in STYLES:
                assert meaning.setdefault(date_text(day, locale, style), day) == day
    assert len(meaning) > 366 * len(LOCALES)


def test_short_dates_do_mean_two_days_and_are_left_out() -> None:
    """Why "short" is no default: the check above can fail."""
    assert date_text(date(2003, 7, 5), "en_US", "short") == "7/5/03" == date_text(date(2003, 5, 7), "es", "short")
    assert "short" not in STYLES


@pytest.mark.parametrize("locale", ["de", "fi", "cs", "ja"])
def test_babel_reads_back_what_it_wrote(locale: str) -> None:
    days = [date(1900, 1, 31), date(1999, 12, 1), date(2024, 2, 29), date(2099, 6, 10)]
    assert [parse_date(date_text(day, locale, "medium"), locale=locale, format="medium") for day in days] == days


def test_english_weekdays_and_months_are_those_of_the_calendar() -> None:
    for day in (date(1900, 1, 1) + timedelta(days=1234 * n) for n in range(59)):
        weekday, month = calendar.day_name[day.weekday()], calendar.month_name[day.month]
        assert date_text(day, "en_US", "full") == f"{weekday}, {month} {day.day}, {day.year}"


def test_items_are_days_times_locales_times_styles() -> None:
    corpus = Dates(["fr", "iso"], "en_GB", styles=["long", "full"], first=date(2024, 2, 28), last=date(2024, 3, 1))
    assert len(corpus) == 3 * 2 * 2
    assert [corpus[index] for index in (0, 1, 3, 6)] == [
        ("28 février 2024", "28 February 2024"),
        ("29 février 2024", "29 February 2024"),
        ("mercredi 28 février 2024", "28 February 2024"),
        ("2024-02-28", "28 February 2024"),
    ]
    assert len({corpus[index].source for index in range(9)}) == 9
    assert len(Dates("de", styles="full")) == 73_049


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Dates(["en_US", "xx"]), ValueError, "locale is 'xx'; .*babel knows"),
        (lambda: Dates("../../etc"), ValueError, "locale is"),
        (lambda: Dates(target="en-klingon"), ValueError, "locale is 'en-klingon'"),
        (lambda: Dates(styles=["tiny"]), ValueError, "style is 'tiny'; .*full, long, medium, short"),
        (lambda: Dates([]), ValueError, r"sources is \(\)"),
        (lambda: Dates(first=date(2001, 1, 1), last=date(2000, 1, 1)), ValueError, "last is 2000-01-01"),
        (lambda: Dates(first="2000"), TypeError, "first is '2000'"),
        (lambda: date_text("2000-01-01", "de"), TypeError, "day is a str"),
    ],
)
def test_wrong_use_is_named(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
