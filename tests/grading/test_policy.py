"""Lateness costs what the rule says: never more than there is, never less for more, nothing at the deadline."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Student
from attnkit.grading.policy import SOME, Lateness, Policy, read_rule, read_time
from attnkit.grading.records import Entry, Run

ANN = Student("1", "Ann Ames")
DUE = "2026-11-20T23:59:00+01:00"

amounts = st.one_of(
    st.integers(1, 100).map(lambda n: f"{n}%"),
    st.decimals("0.1", "9", places=1).map(lambda n: f"{n} points"),
)
units = st.sampled_from(["minute", "hour", "day", "week"])
spans = st.builds(lambda n, unit: f"{n} {unit}s", st.integers(1, 40), units)
steps = st.one_of(
    amounts,
    st.builds(lambda a, s: f"{a} per {s}", amounts, spans),
    st.builds(lambda a, s: f"{a} after {s}", amounts, spans),
    st.builds(lambda a, s, t: f"{a} per {s} after {t}", amounts, spans, spans),
    st.builds(lambda s: f"0 after {s}", spans),
    st.just("0"),
)
rules = st.builds(
    lambda parts, most: ", ".join([*parts, *([f"at most {most}"] if most else [])]),
    st.lists(steps, min_size=1, max_size=4),
    st.one_of(st.none(), amounts),
)
lateness = st.timedeltas(timedelta(0), timedelta(days=400))
worth = st.floats(0.5, 100)


@given(rules, lateness, lateness, worth)
def test_a_penalty_is_never_negative_never_more_than_all_and_grows_with_lateness(
    text: str, one: timedelta, other: timedelta, out_of: float
) -> None:
    rule, (less, more) = read_rule(text), sorted((one, other))
    assert 0 <= rule.penalty(less, out_of) <= rule.penalty(more, out_of) <= out_of


@given(rules, worth)
def test_in_time_costs_nothing(text: str, out_of: float) -> None:
    assert read_rule(text).penalty(timedelta(0), out_of) == 0


@given(rules, lateness.filter(bool), worth)
def test_an_unknown_lateness_costs_no_more_than_any_known_one(text: str, late: timedelta, out_of: float) -> None:
    rule = read_rule(text)
    assert rule.penalty(SOME, out_of) <= rule.penalty(late, out_of)


@given(rules, st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), lateness)
def test_only_time_that_passed_counts_whatever_the_clocks_on_the_wall_do(
    text: str, due: datetime, late: timedelta
) -> None:
    """Also where summer time ends between the deadline and the submission."""
    berlin = ZoneInfo("Europe/Berlin")
    deadline = due.replace(tzinfo=UTC).astimezone(berlin)
    handed_in = (deadline.astimezone(UTC) + late).astimezone(berlin)
    policy = Policy.of(Run("jail", "last", deadline.isoformat(), text))
    assert policy.lateness(Entry("1", "k", handed_in.isoformat()), ANN) == late


@pytest.mark.parametrize(
    ("text", "late", "points"),
    [
        ("10% per day, at most 50%", timedelta(seconds=1), 1),
        ("10% per day, at most 50%", timedelta(days=1), 1),
        ("10% per day, at most 50%", timedelta(days=1, seconds=1), 2),
        ("10% per day, at most 50%", timedelta(days=30), 5),
        ("10% per day, at most 50%", SOME, 0),
        ("2 points per hour after 1 hour", timedelta(hours=1), 0),
        ("2 points per hour after 1 hour", timedelta(hours=1, seconds=1), 2),
        ("2 points per hour after 1 hour", timedelta(hours=3), 4),
        ("0 after 3 days", timedelta(days=3), 0),
        ("0 after 3 days", timedelta(days=3, microseconds=1), 10),
        ("10% per day, at most 20%, 0 after 1 week", timedelta(days=8), 10),
        ("1 point, 1 point after 2 days", timedelta(minutes=1), 1),
        ("1 point, 1 point after 2 days", timedelta(days=3), 2),
        ("1 point, 10% per day", SOME, 1),
        ("0", SOME, 10),
        ("5 Points per 12 hours", timedelta(hours=13), 10),
    ],
)
def test_what_a_rule_takes_of_ten_points(text: str, late: Lateness, points: float) -> None:
    assert read_rule(text).penalty(late, 10.0) == pytest.approx(points)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not understood"),
        ("10", "a percentage or points"),
        ("10% daily", "not understood"),
        ("-5% per day", "a percentage or points"),
        ("at most 50%", "not what is taken off"),
        ("10% per day, at most 5%, at most 3%", "`at most` twice"),
        ("0 per day", "takes nothing off"),
        ("110%", "more than everything"),
        ("10% per 0 days", "should be a time such as"),
        ("10% after 99999999 weeks", "should be a time such as"),
        ("10% per fortnight", "should be a time such as"),
    ],
)
def test_a_rule_that_cannot_be_read_is_told_with_examples(text: str, words: str) -> None:
    with pytest.raises(GradingError, match=words) as error:
        read_rule(text)
    assert '"10% per day, at most 50%"' in str(error.value)


@pytest.mark.parametrize("text", ["2026-11-20T23:59:00", "2026-11-20", "tomorrow", ""])
def test_a_time_without_its_offset_is_refused(text: str) -> None:
    with pytest.raises(GradingError, match=r"--deadline: was .* with its offset from UTC"):
        read_time(text, "--deadline")


@pytest.mark.parametrize(
    ("extension", "late"),
    [
        ("", timedelta(days=1)),
        ("12 hours", timedelta(hours=12)),
        ("2 days", timedelta(0)),
        ("2026-11-21T12:00:00+01:00", timedelta(hours=11, minutes=59)),
        ("2026-11-01T12:00:00+01:00", timedelta(days=1)),  # never earlier than for the others
    ],
)
def test_an_extension_moves_one_students_deadline(extension: str, late: timedelta) -> None:
    policy = Policy.of(Run("jail", "last", DUE, "10% per day"))
    entry = Entry("1", "k", "2026-11-21T22:59:00+00:00")
    assert policy.lateness(entry, replace(ANN, extension=extension)) == late


def test_an_extension_that_cannot_be_read_names_the_student() -> None:
    policy = Policy.of(Run("jail", "last", DUE, "10% per day"))
    with pytest.raises(GradingError, match=r"--roster: the extension of 1 .*was 'a bit'"):
        policy.until(replace(ANN, extension="a bit"))


def test_marked_late_by_canvas_is_late_unless_the_time_is_known_or_there_is_an_extension() -> None:
    policy = Policy.of(Run("jail", "last", DUE, "10%"))
    assert policy.lateness(Entry("1", "k", "", late=True), ANN) == SOME
    assert policy.lateness(Entry("1", "k", "2026-11-20T22:00:00+00:00", late=True), ANN) == timedelta(0)
    assert policy.lateness(Entry("1", "k", "", late=True), replace(ANN, extension="2 days")) == timedelta(0)


def test_it_is_told_in_words() -> None:
    policy = Policy.of(Run("jail", "best", DUE, "10% per day"))
    assert policy.told(timedelta(0), 0.0) == ""
    assert policy.told(timedelta(days=1, hours=2, minutes=3), 2.0) == "1 day 2 hours late: 2 points off (10% per day)"
    assert policy.told(SOME, 0.0) == "late, it is not known by how much: no points off (10% per day)"
    assert policy.words() == "The best attempt counts. Due 2026-11-20T22:59:00+00:00. Late: 10% per day."
