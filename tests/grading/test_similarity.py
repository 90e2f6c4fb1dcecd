"""Copies stay near the top however they are dressed up; answers written apart do not, and nothing hostile breaks it."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from attnkit.grading.fingerprints import WINDOW, K, fingerprints
from attnkit.grading.similarity import Pair, similar
from attnkit.grading.similarity_page import similarity_csv, similarity_page
from attnkit.grading.sources import given_code, sources_of
from attnkit.lab.bank import load_lab
from tests.grading.answers_apart import APART, CHANGES, ORIGINAL, independent
from tests.redteam.answers import RIGHT_LOOPS, RIGHT_NUMPY
from tests.redteam.corpus import LAB, code, notebook

SPEC = load_lab("attention")


def between(pairs: list[Pair], first: str, second: str) -> tuple[int, Pair]:
    """The place (from 0) and the pair of these two."""
    return next((i, p) for i, p in enumerate(pairs) if {p.first, p.second} == {first, second})


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("original", [ORIGINAL, RIGHT_LOOPS], ids=["long", "loops"])
def test_a_copy_is_at_the_top_however_it_is_dressed_up(change: Callable[[str], str], original: dict[str, str]) -> None:
    answers = independent(60, without=3)
    answers["author"], answers["copier"] = original, {name: change(source) for name, source in original.items()}
    place, pair = between(similar(answers), "author", "copier")
    assert place < 3, (place, pair.suspicion)
    assert pair.suspicious, pair.suspicion
    assert pair.cluster


@pytest.mark.parametrize("seed", range(3))
def test_answers_written_apart_are_not_suspicious(seed: int) -> None:
    answers = independent(60, seed)
    for pair in similar(answers):
        # Of nine ways each, some two happen on the same two or three: those are alike, and nobody can tell why.
        same = sum(answers[pair.first][name] == answers[pair.second][name] for name in APART)
        assert not pair.suspicious or same >= 2, (pair.suspicion, same)


def test_what_most_of_the_class_writes_is_not_copied() -> None:
    answers = {f"s{i}": dict(RIGHT_NUMPY) for i in range(30)}
    assert not any(pair.suspicious for pair in similar(answers))
    answers |= {f"t{i}": way for i, way in enumerate(independent(30).values())}
    assert not any(pair.suspicious for pair in similar(answers) if {pair.first[0], pair.second[0]} == {"s"})


def test_a_group_that_shares_is_one_cluster_and_others_are_not_in_it() -> None:
    answers = independent(40, without=3)
    for i, change in enumerate(CHANGES[:4]):
        answers[f"copy{i}"] = {name: change(source) for name, source in RIGHT_LOOPS.items()}
    clusters = {}
    for pair in similar(answers):
        if pair.suspicious:
            clusters.setdefault(pair.cluster, set()).update((pair.first, pair.second))
    group = next(group for group in clusters.values() if "copy0" in group)
    assert {f"copy{i}" for i in range(4)} <= group


def test_one_copied_question_is_seen_among_others_of_their_own() -> None:
    answers = independent(60)
    mine, theirs = "s003", "s004"
    answers[mine] = {**answers[mine], "masked_attention": ORIGINAL["masked_attention"] * 1}
    answers[theirs] = {**answers[theirs], "masked_attention": CHANGES[0](ORIGINAL["masked_attention"])}
    place, pair = between(similar(answers), mine, theirs)
    assert max(pair.questions, key=lambda one: one.weight).question == "masked_attention"
    assert place < 60


def test_the_order_does_not_depend_on_the_order_of_the_students() -> None:
    answers = independent(30)
    shuffled = dict(sorted(answers.items(), key=lambda item: hash(item[0]) % 7))
    assert similar(answers) == similar(shuffled)


def test_a_shared_piece_of_the_guaranteed_length_is_always_found() -> None:
    draw = random.Random(1)
    names = ["a", "b", "c", "dd", "e"]
    piece = "+".join(f"f.{draw.choice(names)}{i}()" for i in range(K + WINDOW))
    for seed in range(50):
        other = random.Random(seed)
        around = [f"g.{other.choice(names)}{other.random()}".replace("0.", "z") for _ in range(6)]
        one = f"x = [{around[0]}, {around[1]}, {piece}]"
        two = f"y = ({around[2]}, {around[3]}, {around[4]}, {piece})"
        assert set(fingerprints(one)) & set(fingerprints(two))


def test_names_constants_comments_and_imports_leave_no_trace() -> None:
    plain = "import numpy as np\ndef f(x):\n    y = x.exp() - 3 * x.sum(axis=-1)\n    return y / y.max(axis=0)\n"
    other = (
        "from torch import nn\nimport os\n\ndef other(value: int = 0) -> int:\n    '''Words.'''\n    # more words\n"
        "    z: int = value.exp() - 17 * value.sum(axis=-2)\n\n    return z / z.max(axis=1)\n"
    )
    assert set(fingerprints(plain)) <= set(fingerprints(other)) | set(fingerprints("def f(x): pass"))
    assert set(fingerprints(plain)) != set(fingerprints(plain.replace("-", "+")))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def f(:\n",
        "(" * 100_000,
        "x = " + "-" * 100_000 + "1",
        "x = " + "[" * 90 + "]" * 90,
        "\x00",
        "\ud800 = 1",
        "x = 1\n" * 200_000,
        "x = " + "a." * 60_000 + "b",
        "f(" * 3000 + ")" * 3000,
        "x = '" + "y" * 10**6 + "'",
        "lambda: " * 5000 + "0",
        "if 1:\n" + "".join(" " * i + "if 1:\n" for i in range(1, 99)) + " " * 100 + "pass",
        "'''</pre><script>alert(1)</script>'''\n\u202ex = 1",
    ],
    ids=lambda source: repr(source[:12]),
)
def test_hostile_sources_break_nothing(source: str) -> None:
    answers = {"a": {"q": source, "r": RIGHT_NUMPY["softmax"]}, "b": {"q": source}, "c": {"q": "x = 1"}, "d": {}}
    pairs = similar(answers)
    assert all(0 <= pair.suspicion <= 1 and 0 <= pair.share <= 1 for pair in pairs)
    page = similarity_page(pairs, answers, "A lab")
    assert "<script" not in page
    assert "\u202e" not in page
    similarity_csv(pairs)


def test_of_nobody_or_one_there_is_no_pair() -> None:
    assert similar({}) == []
    assert similar({"a": {"q": "x = 1 + f(2)"}}) == []
    assert "No two answers" in similarity_page([], {}, "A lab")


def test_the_page_shows_both_with_the_common_lines_marked_and_everything_escaped() -> None:
    nasty = "</pre><script>alert(1)</script>=cmd()"
    answers = independent(20, without=3)
    answers[nasty] = {name: source + "\nx = '<script>'" for name, source in RIGHT_LOOPS.items()}
    answers["other"] = {name: CHANGES[0](source) for name, source in RIGHT_LOOPS.items()}
    pairs = similar(answers)
    page = similarity_page(pairs, answers, "Attention <from> scratch")
    assert "<script" not in page.lower()
    assert "default-src 'none'" in page
    assert "<mark>|             row = [float(query[place][i]" in page
    assert "variable_" in page
    rows = list(csv.DictReader(io.StringIO(similarity_csv(pairs))))
    assert len(rows) == len(pairs)
    assert all(float(a["suspicion"]) >= float(b["suspicion"]) for a, b in pairwise(rows))
    assert not any(value.startswith(("=", "+", "@", "-")) for row in rows for value in row.values())


def test_the_sources_of_a_notebook_are_the_answer_and_its_helpers_without_what_was_given() -> None:
    made = notebook({**RIGHT_NUMPY, "softmax": "def softmax(x):\n    return helper(x) * FACTOR\n"})
    made["cells"].insert(
        2, code("FACTOR = 1\ndef helper(x):\n    return x\ndef never_used(x):\n    return x\nprint(1)\n")
    )
    found = sources_of(json.dumps(made).encode(), SPEC)
    assert "def helper" in found["softmax"]
    assert "FACTOR = 1" in found["softmax"]
    assert "never_used" not in found["softmax"]
    assert "import" not in found["softmax"]
    assert "def softmax" in found["attention"]
    assert given_code(SPEC)
    assert sources_of(LAB.read_bytes(), SPEC) == {}


@pytest.mark.slow
def test_a_class_of_two_hundred_takes_a_few_seconds() -> None:
    answers = independent(200)
    pairs = similar(answers)  # the suite's own time limit would tell; measured: below 2 s
    assert len(pairs) >= 200
