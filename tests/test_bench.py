"""The bench tells what it measured, right or wrong; how fast anything is, is not tested here."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from attnkit.bench import lab as bench_lab
from attnkit.bench.measure import interleaved, peak_extra_megabytes
from attnkit.bench.report import Row, as_json, as_sentence, as_table, read_rows, spread, stamp
from attnkit.lab import Lab

ROOT = Path(__file__).resolve().parents[1]


def test_a_ratio_is_that_of_the_medians_and_decides_the_goal() -> None:
    row = Row("x", ours=[2.0, 3.0, 100.0], peer=[2.0, 2.0, 2.0], goal=1.5)
    assert row.ratio == 1.5
    assert row.met is True
    assert Row("x", ours=[3.1], peer=[2.0], goal=1.5).met is False
    assert Row("x", ours=[3.1], peer=[2.0]).met is None


def test_a_value_goal_ignores_the_peer() -> None:
    row = Row("memory", ours=[90.0], peer=[4000.0], unit="MB", goal=100.0, against_peer=False)
    assert row.measured == 90.0
    assert row.met is True
    assert Row("memory", ours=[101.0], peer=[4000.0], goal=100.0, against_peer=False).met is False


@pytest.mark.parametrize(("ours", "peer", "word"), [([], [1.0], "ours"), ([1.0], [], "peer")])
def test_a_row_without_samples_is_refused(ours: list[float], peer: list[float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Row("x", ours, peer)


def test_interleaving_takes_as_many_samples_of_each_and_alternates_who_goes_first() -> None:
    calls: list[str] = []
    ours, peer = interleaved(lambda: calls.append("a"), lambda: calls.append("b"), rounds=4)
    assert len(ours) == len(peer) == 4
    assert "".join(calls[2:]) == "abbaabba"


def test_samples_are_milliseconds_of_the_call_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(seconds: float) -> None:
        now[0] += seconds

    ours, peer = interleaved(lambda: takes(0.02), lambda: takes(0.005), rounds=4)
    assert ours == pytest.approx([20.0] * 4)
    assert peer == pytest.approx([5.0] * 4)


def test_json_holds_raw_samples_and_where_they_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somebody/bin/attnkit", "bench", "--out", "/somebody/own/bench.json"])
    told = json.loads(as_json([Row("x", [1.0, 2.0], [4.0], "other", goal=1.0)], stamp()))
    (row,) = told["rows"]
    assert row["ours"] == [1.0, 2.0]
    assert row["ratio"] == 0.375
    assert row["met"] is True
    assert told["stamp"]["versions"]["torch"]
    assert told["stamp"]["cores"] >= 1
    assert told["stamp"]["command"] == "attnkit bench --out bench.json"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    rows, where = [Row("x", [1.0, 2.0], [4.0], "other", goal=1.0), Row("y", [3.0], [], against_peer=False)], stamp()
    (tmp_path / "out.json").write_text(as_json(rows, where))
    assert read_rows(tmp_path / "out.json") == (rows, where)
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema 0"):
        read_rows(tmp_path / "old.json")


def test_the_readme_shows_what_was_measured() -> None:
    """Nobody types a result: the table is that of the committed samples."""
    rows, where = read_rows(ROOT / "attnkit" / "bench" / "results" / "cpu.json")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert as_table(rows) in readme
    assert as_sentence(where) in readme


def test_the_table_shows_a_missed_goal_as_missed() -> None:
    table = as_table([Row("slow", [3.0] * 5, [1.0] * 5, "peer", goal=2.0), Row("fast", [1.0], [2.0], goal=2.0)])
    slow, fast = table.splitlines()[2:]
    assert slow.endswith("| 3.00 | <= 2 | no |")
    assert fast.endswith("| 0.50 | <= 2 | yes |")


def test_spread_is_the_median_and_half_the_interquartile_range() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0], "ms") == "3 ± 1.5 ms"
    assert spread([2.0], "ms") == "2 ms"


def test_the_checks_that_are_timed_are_of_a_wrong_and_a_right_answer() -> None:
    lab = Lab("attention")
    assert lab.check("masked_attention", bench_lab._right).passed
    assert not lab.check("masked_attention", bench_lab._wrong).passed
    assert [len(row.ours) for row in bench_lab.suite(rounds=2)] == [2, 2]


@pytest.mark.slow
def test_online_attention_is_measured_to_take_less_memory_than_naive() -> None:
    """At length 4,096 the naive scores alone are 67 MB; a blocked pass never holds them."""
    assert peak_extra_megabytes("naive", 4096) > 67 > peak_extra_megabytes("online", 4096)
