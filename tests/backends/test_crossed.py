"""The crossed examples: every value of every feature beside every value of every other, in a list that stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations, product

import pytest

from attnkit.testing.crossed import CROSSED, FEATURES, MASKS, chosen, cover

pytestmark = pytest.mark.slow


def pairs(names: tuple[str, ...]) -> set:
    """((feature, value), (feature, value)) for each two features of an example."""
    return set(combinations(zip(FEATURES, names, strict=True), 2))


def all_pairs() -> set:
    values = [[(feature, name) for name in FEATURES[feature]] for feature in FEATURES]
    return {pair for two in combinations(values, 2) for pair in product(*two)}


def test_every_pair_of_values_occurs() -> None:
    assert set.union(*map(pairs, chosen())) == all_pairs()


def test_without_any_of_its_first_examples_a_pair_is_missing() -> None:
    """The test above can fail, and the list has little to spare."""
    for left_out in range(20):
        rest = [names for number, names in enumerate(chosen()) if number != left_out]
        assert set.union(*map(pairs, rest)) != all_pairs()


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 3, 3, 3], [5, 4, 3, 2, 2], [7, 1, 2], [4, 4]])
def test_a_cover_shows_every_pair_of_choices(counts: list[int]) -> None:
    rows = cover(counts)
    for i, j in combinations(range(len(counts)), 2):
        assert {(row[i], row[j]) for row in rows} == set(product(range(counts[i]), range(counts[j])))


def test_the_list_is_short_its_names_unique_and_its_sizes_small() -> None:
    assert len(CROSSED) <= 65
    assert len({e.name for e in CROSSED}) == len(CROSSED)
    assert all(max(e.q_len, e.k_len) <= 40 and e.batch * e.heads <= 8 for e in CROSSED)


def test_another_process_finds_the_same_list() -> None:
    """Examples draw their numbers by name, so a list that changed would be measured anew each time."""
    code = "import json; from attnkit.testing.crossed import CROSSED; print(json.dumps([e.name for e in CROSSED]))"
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert json.loads(ran.stdout) == [e.name for e in CROSSED]


def test_examples_are_what_their_names_say() -> None:
    for names, e in zip(chosen(), CROSSED, strict=True):
        said = dict(zip(FEATURES, names, strict=True))
        assert e.mask is MASKS[said["mask"]]
        assert said["lengths"] == f"{e.q_len} on {e.k_len}"
        assert (e.linear is not None) == (said["bias"] == "linear bias")
        assert (e.bias is not None) == (said["bias"].startswith("by "))
        assert (e.softcap is not None, e.sink, e.dropout > 0, e.scale is not None) == (
            said["cap"] == "capped", said["sink"] == "sink", said["dropout"] == "dropout", said["scale"] == "negative",
        )  # fmt: skip
