"""Every specimen does what the museum says of it: it hides, it is caught, and by the test that is meant for it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable

import pytest
import torch

from attnkit import museum
from attnkit.museum import ROOMS, SPECIMENS, Specimen, base, directory, find, specimen, visit

EVERY = pytest.mark.parametrize("kept", SPECIMENS.values(), ids=list(SPECIMENS))

# What the book links to. A specimen may be added, and none may be lost.
PROMISED = {
    "scores": "minimum-shift whole-array wrong-axis plain-sums no-max softmax-of-output root-of-heads root-of-model "
    "two-roots integer-root key-as-value outer-product",
    "masks": "finite-sentinel masked-row-nan masked-row-average mask-added mask-inverted mask-ignored "
    "mask-after-softmax causal-alignment window-off-by-one swapped-paddings",
    "heads": "split-before-projection heads-meet-heads reshape-without-transpose merge-without-permute "
    "overwritten-query value-by-key-weights repeated-cache",
    "positions": "table-not-buffer rope-layout alibi-sign cache-restarts trained-sinusoid",
    "model": "norm-placement eps-outside-root unbiased-std projection-after-residual tied-init one-linear-attention",
    "use": "accumulation mean-of-means maps-without-mask top-k-discarded token-accuracy shape-only-test "
    "self-comparison",
}


def test_no_specimen_is_missing() -> None:
    for room, slugs in PROMISED.items():
        assert set(slugs.split()) <= {s.slug for s in SPECIMENS.values() if s.room == room}
    assert [room for room in ROOMS if room in {s.room for s in SPECIMENS.values()}] == list(ROOMS)


@EVERY
def test_it_hides_from_a_plausible_check(kept: Specimen) -> None:
    kept.hides(kept.wrong)
    kept.hides(kept.right)


@EVERY
def test_the_right_one_passes_the_test_that_catches_it(kept: Specimen) -> None:
    kept.catches(kept.right)


@EVERY
def test_it_is_caught_and_not_by_accident(kept: Specimen) -> None:
    """The failure comes from an assert that stands in `catches` itself, with words of its own."""
    with pytest.raises(AssertionError) as caught:
        kept.catches(kept.wrong)
    assert kept.complaint(kept.right) is None
    assert len(str(caught.value).split()) >= 5, "the message says too little"
    last = list(traceback.walk_tb(caught.value.__traceback__))[-1][0]
    assert last.f_code is inspect.unwrap(kept.catches).__code__


def answers_nonsense(*arguments: object) -> str:
    return "nonsense"


def refuses_everything(*arguments: object) -> None:
    raise AssertionError("no")


@EVERY
def test_both_checks_ask_the_function_they_are_given(kept: Specimen) -> None:
    """A check that passes whatever it is given would say nothing. (Where the specimen is a test, f may refuse.)"""
    for check in (kept.hides, kept.catches):
        assert any(fails(check, f) for f in (answers_nonsense, refuses_everything))


def fails(check: Callable[..., None], f: Callable[..., object]) -> bool:
    try:
        check(f)
    except (AssertionError, AttributeError, TypeError, ValueError):
        return True
    return False


@EVERY
def test_what_it_does_shows_the_difference(kept: Specimen) -> None:
    torch.manual_seed(0)
    wrong = kept.does(kept.wrong)
    torch.manual_seed(0)
    right = kept.does(kept.right)
    assert wrong.keys() == right.keys()
    assert wrong != right
    assert all(isinstance(text, str) and text for text in [*wrong.values(), *right.values()])


@EVERY
def test_the_exhibit_says_all_of_it(kept: Specimen) -> None:
    torch.manual_seed(1)
    exhibit, text = visit(kept.slug), repr(visit(kept.slug))
    passed, caught = exhibit.rows[-2:]
    assert passed == [f"test: {kept.plausible}", "passes", "passes"]
    assert caught == [f"test: {kept.invariant}", "FAILS", "passes"]
    assert kept.title in text
    assert f"The test says: {exhibit.says}" in text
    torch.manual_seed(2)
    assert repr(visit(kept.slug)) == text, "it depends on the state of the generators"


@EVERY
def test_it_tells_its_story(kept: Specimen) -> None:
    assert len(kept.story.split()) >= 10
    assert kept.seen
    for check in (kept.hides, kept.catches):
        assert len(base.first_line(check).split()) >= 3
    assert len(inspect.getsource(kept.wrong).splitlines()) <= 14, "the wrong code is to be short"


def test_slugs_are_unique_and_a_taken_one_is_refused() -> None:
    taken = {"slug": "no-max", "title": "x", "room": "scores", "seen": (), "chapter": "x", "habit": "state the law"}
    with pytest.raises(ValueError, match=r"slug is 'no-max'.*must be new"):
        specimen(**taken)
    with pytest.raises(ValueError, match=r"room is 'cellar'; it must be one of 'scores'"):
        specimen(**{**taken, "slug": "x", "room": "cellar"})
    with pytest.raises(ValueError, match=r"habit is 'hope'; it must be one of 'go to extremes'"):
        specimen(**{**taken, "slug": "x", "habit": "hope"})
    with pytest.raises(ValueError, match=r"Bare has no wrong"):
        specimen(**{**taken, "slug": "x"})(type("Bare", (), {}))
    assert "x" not in SPECIMENS


@pytest.mark.parametrize(
    ("asked", "near"), [("minimum-shif", "minimum-shift"), ("key_as_value", "key-as-value"), ("mask", "mask-added")]
)
def test_a_slug_that_is_none_names_near_ones(asked: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"slug is '{asked}', which no specimen has; nearest: .*{near}"):
        find(asked)
    with pytest.raises(ValueError, match=asked):
        visit(asked)


def test_an_unlike_slug_gets_the_whole_list() -> None:
    with pytest.raises(ValueError, match=r"there are minimum-shift, no-max"):
        find("ÿÿÿ")


def test_the_directory_lists_all_and_links_each() -> None:
    whole = directory()
    assert len(whole.rows) == len(SPECIMENS)
    html = whole.html()
    for kept in SPECIMENS.values():
        assert f'href="{kept.room}.html#museum-{kept.slug}"' in html
    assert {row[1] for row in directory("heads").rows} == {"heads"}
    with pytest.raises(ValueError, match=r"room is 'attic'; it must be one of 'heads'"):
        directory("attic")


def test_the_tour_goes_by_rooms() -> None:
    order = [ROOMS.index(s.room) for s in SPECIMENS.values()]
    assert order == sorted(order)
    assert len(museum.TOUR) == len({s.home.__module__ for s in SPECIMENS.values()})


def test_the_softmax_tests_do_not_do_each_others_work() -> None:
    """Five wrong softmaxes, five tests: each test is needed, since it alone catches some specimen."""
    kept = [s for s in SPECIMENS.values() if s.home.__module__.endswith("scores_softmax")][:5]
    table = {(test.slug, s.slug): outcome(test, s) for test in kept for s in kept}
    assert all(table[s.slug, s.slug] == "caught" for s in kept)
    only = [s.slug for s in kept if sum(table[test.slug, s.slug] == "caught" for test in kept) == 1]
    assert only, "every specimen is caught by several tests"


def outcome(test: Specimen, other: Specimen) -> str:
    """Whether the test of one specimen catches another."""
    try:
        return "passes" if test.complaint(other.wrong) is None else "caught"
    except (IndexError, RuntimeError):
        return "raises"
