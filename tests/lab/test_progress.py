"""How far one is, also after the kernel was restarted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from attnkit.lab import Lab, kernel, memory

from .notebook_room import ANSWERS, ATTENTION, MASKED, SOFTMAX, STUB, Room, open_room

room = pytest.fixture(open_room)
FILE = Path(".attnkit-attention.json")
ALL = ["softmax           3 of 3 points", "attention         3 of 3 points", "masked_attention  4 of 4 points"]


def checked(room: Room, *names: str) -> Lab:
    """A lab in which these questions are answered and checked."""
    room.run(*(ANSWERS[name] for name in names))
    lab = Lab("attention")
    for name in names:
        lab.check(room.user_ns[name])
    return lab


def lines(lab: Lab) -> list[str]:
    return [line.strip() for line in repr(lab.progress()).splitlines()]


def test_a_restart_loses_nothing_and_says_so(room: Room) -> None:
    lab = checked(room, *ANSWERS)
    assert lines(lab) == ["10 of 10 points on the practice cases", *(f"{line}, done" for line in ALL)]
    room.restart()
    assert lines(Lab("attention"))[1:] == [f"{line}, done in an earlier run" for line in ALL]
    assert lines(Lab("attention"))[0] == "10 of 10 points on the practice cases"


def test_a_new_check_takes_the_place_of_an_earlier_one(room: Room) -> None:
    checked(room, "softmax", "attention")
    room.restart()
    room.run("import numpy as np\ndef softmax(x):\n    return x\n")
    lab = Lab("attention")
    lab.check(room.user_ns["softmax"])
    assert lines(lab)[:3] == [
        "3 of 10 points on the practice cases",
        "softmax           0 of 3 points, not finished",
        "attention         3 of 3 points, done in an earlier run",
    ]
    room.restart()
    assert lines(Lab("attention"))[1] == "softmax           0 of 3 points, not finished in an earlier run"


def test_an_answer_that_was_changed_since_does_not_count(room: Room) -> None:
    checked(room, "softmax")
    room.restart()
    room.run(SOFTMAX.replace("\n\n", "  \n\n") + "\n")
    assert lines(Lab("attention"))[1] == "softmax           3 of 3 points, done in an earlier run", "spaces are nothing"
    room.run(SOFTMAX.replace("-1", "0"))
    assert lines(Lab("attention"))[:2] == [
        "0 of 10 points on the practice cases",
        "softmax           0 of 3 points, changed since it was checked in an earlier run",
    ]


def test_ready_counts_as_before_and_is_kept(room: Room, capsys) -> None:
    room.run(SOFTMAX)
    assert Lab("attention").ready(room.user_ns["softmax"])
    room.restart()
    assert lines(Lab("attention"))[1].endswith("done in an earlier run")


def test_a_notebook_that_nobody_has_worked_in_leaves_nothing_behind(room: Room) -> None:
    room.run(*(STUB.format(name) for name in ANSWERS))
    lab = Lab("attention")
    for name in ANSWERS:
        lab.check(room.user_ns[name])
    repr(lab.progress())
    assert list(Path().iterdir()) == []
    lab = checked(room, "softmax")
    assert [path.name for path in Path().iterdir()] == [str(FILE)]
    room.run(STUB.format("softmax"))
    lab.check(room.user_ns["softmax"])
    room.restart()
    assert lines(Lab("attention"))[0].startswith("0 of 10"), "an answer that was taken back is gone"


def test_outside_a_notebook_nothing_is_written_and_nothing_read(room: Room, monkeypatch) -> None:
    checked(room, "softmax")
    FILE.rename("kept")
    monkeypatch.setattr(kernel, "shell", lambda: None)
    lab = Lab("attention")
    lab.check(room.user_ns["softmax"])
    assert [path.name for path in Path().iterdir()] == ["kept"]


def test_ipython_without_a_kernel_is_no_notebook(tmp_path: Path, monkeypatch) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        assert kernel.shell() is None
        monkeypatch.setattr(shell, "kernel", object(), raising=False)
        assert kernel.shell() is shell
        assert kernel.names() is shell.user_ns
        assert kernel.executed() == []
    finally:
        InteractiveShell.clear_instance()


def test_another_students_numbers_and_other_questions_do_not_count(room: Room, tmp_path: Path, monkeypatch) -> None:
    source = (
        '"""Powers."""\nfrom attnkit.lab.question import Case, question\nimport numpy as np\n\n'
        '@question(points=1, answer="power")\nclass Power:\n    """x ** {p}"""\n\n    def variant(self, rng):\n'
        '        return {"p": int(rng.integers(2, 1000))}\n\n    def cases(self, rng):\n'
        "        yield Case((np.ones(2, np.float32),))\n\n    def reference(self, x):\n        return x ** self.p\n"
    )
    folder = tmp_path / "powers"
    folder.mkdir()
    (folder / "questions.py").write_text(source)
    room.run("def power(x):\n    return x\n")
    Lab(folder, student="anna").check(room.user_ns["power"])
    assert repr(Lab(folder, student=" ANNA ").progress()).startswith("1 of 1")
    assert repr(Lab(folder, student="otto").progress()).startswith("0 of 1")
    assert "anna" not in Path(".attnkit-powers.json").read_text().lower()
    (folder / "questions.py").write_text(source + "\n# changed\n")
    assert repr(Lab(folder, student="anna").progress()).startswith("0 of 1")


def entry(**changes) -> dict:
    return {"points": 3.0, "passed": True, "source": "", **changes}


ODD = {
    "empty": b"",
    "not JSON": b"{",
    "not text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "another program's": b'{"theme": "dark"}',
    "huge": b" " * 300_000,
}
ENTRIES = {
    "no entry": 3,
    "no points": {"passed": True, "source": ""},
    "more points than there are": entry(points=4),
    "points below zero": entry(points=-1, passed=False),
    "points that are text": entry(points="3"),
    "points that are true": entry(points=True),
    "not a number": entry(points=float("nan"), passed=False),
    "passed with fewer points": entry(points=1),
    "passed by a word": entry(passed="yes"),
    "no source": entry(source=None),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_a_file_that_is_none_of_ours_is_passed_over(room: Room, content: bytes) -> None:
    FILE.write_bytes(content)
    assert lines(Lab("attention"))[0].startswith("0 of 10")
    checked(room, "softmax")
    room.restart()
    assert lines(Lab("attention"))[0].startswith("3 of 10")


@pytest.mark.parametrize("odd", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_that_cannot_be_is_passed_over_and_the_others_count(room: Room, odd) -> None:
    checked(room, "softmax", "attention")
    kept = json.loads(FILE.read_text())
    kept["checks"]["softmax"] = odd
    kept["checks"]["no question of ours"] = entry()
    FILE.write_text(json.dumps(kept))
    room.restart()
    assert lines(Lab("attention"))[:2] == [
        "3 of 10 points on the practice cases",
        "softmax           0 of 3 points, not checked yet",
    ]


def test_a_folder_that_cannot_be_written_to_is_none_of_the_students_worries(room: Room, monkeypatch) -> None:
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(memory.os, "replace", refuse)
        assert lines(checked(room, "softmax"))[0].startswith("3 of 10")
    assert list(Path().iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        assert lines(checked(room, "softmax"))[0].startswith("3 of 10")
    FILE.mkdir()
    assert lines(checked(room, "softmax"))[0].startswith("3 of 10")
    assert [path.name for path in Path().iterdir()] == [str(FILE)]


def test_a_working_folder_that_is_gone_is_none_either(room: Room, tmp_path: Path, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert lines(checked(room, "softmax"))[0].startswith("3 of 10")
    monkeypatch.chdir(tmp_path)


def test_the_file_is_replaced_as_a_whole_and_says_nothing_of_the_student(room: Room, monkeypatch) -> None:
    checked(room, *ANSWERS)
    text = FILE.read_text()
    assert set(json.loads(text)) == {"attnkit", "version", "checks"}
    assert "def " not in text
    inode = FILE.stat().st_ino
    checked(room, "softmax")
    assert FILE.stat().st_ino != inode
    assert FILE.read_text() == text, "the same checks leave the same bytes"
    assert os.listdir() == [str(FILE)]


def test_a_class_is_known_by_its_cell_too(room: Room) -> None:
    room.run("class A:\n    def f(self):\n        return 1\n")
    first = memory.fingerprint(room.user_ns["A"])
    room.run("class A:\n    def f(self):\n        return 2\n")
    assert first
    assert memory.fingerprint(room.user_ns["A"]) not in ("", first)
    assert memory.fingerprint(len) == ""
    assert memory.fingerprint(3) == ""


def test_masked_attention_of_the_room_is_right(room: Room) -> None:
    assert MASKED
    assert ATTENTION
    assert lines(checked(room, *ANSWERS))[0].startswith("10 of 10")
