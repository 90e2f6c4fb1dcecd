"""`--watch` grades what arrives, whole, and ends cleanly."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attnkit.grading.watch import Watcher
from tests.grading.tiny import hand_in, submission, tiny_lab

PRETEND = [sys.executable, "-m", "tests.grading.pretend_grade"]


def test_a_file_is_told_once_it_has_stayed_the_same(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, (tmp_path / "out",))
    assert watcher.look() == [], "an empty folder is a class too"
    assert watcher.look() is None
    file = tmp_path / "a.ipynb"
    file.write_bytes(b"half")
    assert watcher.look() is None
    file.write_bytes(b"half and half")
    assert watcher.look() is None
    assert watcher.look() == []
    assert watcher.look() is None
    (tmp_path / "b.ipynb").write_bytes(b"b")
    assert watcher.look() is None
    file.write_bytes(b"again, and still being written")
    assert watcher.look() == [file], "b has settled; a is left out"
    assert watcher.look() == []
    file.unlink()
    assert watcher.look() == [], "a file that is gone changes the class"
    assert watcher.look() is None
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grades.csv").write_text("ours")
    assert (watcher.look(), watcher.look()) == (None, None)


def test_files_that_are_there_from_the_start_wait_one_look(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_bytes(b"a")
    watcher = Watcher(tmp_path)
    assert watcher.look() is None
    assert watcher.look() == []


def totals(out: Path) -> dict[str, str]:
    """What grades.csv says now."""
    try:
        with (out / "grades.csv").open(newline="", encoding="utf-8") as file:
            return {row["student_id"]: row["total"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}


def wait_for(met: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it is so; fails after a minute, or when the process is gone."""
    deadline = time.monotonic() + 60
    while not met():
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.02)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_what_arrives_is_graded_while_it_runs(end: signal.Signals, tmp_path: Path) -> None:
    tiny_lab(tmp_path)
    hand_in(tmp_path / "in", "ann", 1.0, 1.0)
    arguments = ["--lab", str(tmp_path / "tiny"), "--out", str(tmp_path / "out"), "--isolation", "none", "--json"]
    process = subprocess.Popen(
        [*PRETEND, str(tmp_path / "in"), *arguments, "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        wait_for(lambda: totals(tmp_path / "out") == {"ann": "2"}, process)
        hand_in(tmp_path / "in", "bo", 2.0, 3.0)
        wait_for(lambda: totals(tmp_path / "out") == {"ann": "2", "bo": "5"}, process)
        with (tmp_path / "in" / "cy.ipynb").open("wb") as file:  # copied slowly
            for byte in range(0, len(submission()), 40):
                file.write(submission()[byte : byte + 40])
                file.flush()
                time.sleep(0.03)
        wait_for(lambda: totals(tmp_path / "out").get("cy") == "5", process)
        process.send_signal(end)
        stdout, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    document = json.loads(stdout)
    assert [row["total"] for row in document["rows"]] == [2.0, 5.0, 5.0]
    assert [p["kind"] for p in document["problems"]] == ["name from the path"] * 3, "none was read half copied"


def test_it_watches_a_folder_only(tmp_path: Path) -> None:
    tiny_lab(tmp_path)
    file = hand_in(tmp_path / "in", "ann")
    arguments = ["--lab", str(tmp_path / "tiny"), "--out", str(tmp_path / "out"), "--isolation", "none", "--watch"]
    run = subprocess.run([*PRETEND, str(file), *arguments], capture_output=True, text=True)
    assert run.returncode == 1
    assert "with --watch it should be a folder" in run.stderr
