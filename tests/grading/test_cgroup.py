"""Control groups, on a tree of ordinary files that answers as the kernel's would."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnkit.grading import cgroup, jail
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer
from tests.grading.inside import run

FILES = {
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.oom.group": "0",
    "memory.peak": "12345678",
    "pids.max": "max",
    "cgroup.kill": "",
}


class Tree:
    """A fake of /sys/fs/cgroup: a new folder has its files, and `log` is what was written, in order."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top, self.log = top, list[tuple[str, str]]()
        self.refuses: dict[str, OSError] = {}
        monkeypatch.setattr(cgroup, "make", self.make)
        monkeypatch.setattr(cgroup, "remove", self.remove)
        monkeypatch.setattr(cgroup, "write", self.write)
        monkeypatch.setattr(cgroup, "MOUNT", top)
        monkeypatch.setattr(cgroup, "OWN", top.parent / "own")
        monkeypatch.delenv(cgroup.VARIABLE, raising=False)

    def make(self, folder: Path) -> None:
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text)
        (folder / "cgroup.controllers").write_text((folder.parent / "cgroup.subtree_control").read_text())

    def remove(self, folder: Path) -> None:
        for file in folder.iterdir():
            if file.is_dir():
                raise OSError(16, "busy")
            file.unlink()
        folder.rmdir()
        self.log.append((str(folder.relative_to(self.top)), "removed"))

    def write(self, file: Path, text: str) -> None:
        if file.name in self.refuses:
            raise self.refuses[file.name]
        assert file.exists(), f"the kernel makes no {file}"
        if file.name == "cgroup.subtree_control":
            if (file.parent / "cgroup.procs").read_text():
                raise OSError(16, "Device or resource busy")
            text = text.replace("+", "")
        if file.name == "cgroup.procs":
            for other in self.top.rglob("cgroup.procs"):
                left = [line for line in other.read_text().split() if line != text]
                other.write_text("\n".join(left))
        file.write_text(text)
        self.log.append((str(file.relative_to(self.top)), text))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A machine whose grader runs, alone, in a group that was given to it."""
    top = tmp_path / "cgroup"
    (top / "user" / "scope").mkdir(parents=True)
    for folder in (top, top / "user", top / "user" / "scope"):
        for name, text in FILES.items():
            (folder / name).write_text(text)
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (top / "user" / "scope" / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "own").write_text("0::/user/scope\n")
    return Tree(top, monkeypatch)


def test_the_grader_steps_aside_so_that_its_group_can_have_groups(tree: Tree) -> None:
    folder = cgroup.find()
    assert folder == tree.top / "user" / "scope"
    aside = f"user/scope/attnkit-grader-{os.getpid()}/cgroup.procs"
    assert tree.log == [(aside, str(os.getpid())), ("user/scope/cgroup.subtree_control", "memory pids")]
    assert cgroup.find() == folder
    assert len(tree.log) == 2, "done once"


def test_a_child_is_limited_before_it_is_taken_in(tree: Tree) -> None:
    groups = cgroup.Groups()
    groups.enter(4321, 1 << 30, 64)
    assert groups.child is not None
    name = str(groups.child.folder.relative_to(tree.top))
    wrote = [(place.removeprefix(name + "/"), text) for place, text in tree.log if place.startswith(name)]
    assert wrote == [
        ("memory.max", str(1 << 30)),
        ("pids.max", "64"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("cgroup.procs", "4321"),
    ]
    assert groups.child.peak() == 12345678
    groups.close()
    assert not groups.top.folder.exists()
    assert (f"{name}/cgroup.kill", "1") in tree.log


def test_each_child_has_a_fresh_group(tree: Tree) -> None:
    groups = cgroup.Groups()
    groups.enter(1111, 1, 1)
    first = groups.child
    groups.enter(2222, 1, 1)
    assert first is not None
    assert groups.child is not None
    assert first.folder != groups.child.folder
    assert not first.folder.exists()


def test_an_old_kernel_has_no_peak(tree: Tree) -> None:
    groups = cgroup.Groups()
    groups.enter(1111, 1, 1)
    assert groups.child is not None
    (groups.child.folder / "memory.peak").unlink()
    assert groups.child.peak() is None


REASONS = {
    "no version 2": "no cgroup v2",
    "a controller missing": "cannot limit pids",
    "others in the group": "other programs run in",
    "not delegated": "gives no controllers",
    "a variable that names nothing": "is no group",
}


@pytest.mark.parametrize("case", REASONS)
def test_why_there_are_no_groups(tree: Tree, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = tree.top / "user" / "scope"
    if case == "no version 2":
        (tree.top / "cgroup.controllers").unlink()
    elif case == "a controller missing":
        (scope / "cgroup.controllers").write_text("cpu memory\n")
    elif case == "others in the group":
        (scope / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    elif case == "not delegated":
        tree.refuses["cgroup.subtree_control"] = PermissionError(13, "Permission denied")
    else:
        monkeypatch.setenv(cgroup.VARIABLE, str(tree.top / "nowhere"))
    with pytest.raises(cgroup.NoGroups, match=REASONS[case]):
        cgroup.find()


def test_a_folder_can_be_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.top / "user" / "cgroup.subtree_control").write_text("memory pids\n")
    monkeypatch.setenv(cgroup.VARIABLE, str(tree.top / "user"))
    assert cgroup.find() == tree.top / "user"
    assert tree.log == []


def test_a_zygote_uses_groups_where_there_are_any(tree: Tree, jailed: None) -> None:
    with Zygote("none", jail.Limits()) as zygote:
        assert isinstance(run(zygote, "return x"), Answer)
        assert zygote.account == "cgroup"
        assert zygote.peak() == 12345678
        entered = [text for place, text in tree.log if "/child-" in place and place.endswith("cgroup.procs")]
        assert entered == [str(zygote.process)]
        zygote_procs = next(tree.top.rglob("zygote/cgroup.procs"))
        assert int(zygote_procs.read_text()) == zygote._process.pid
    assert not list(tree.top.rglob("child-*"))
    assert not list(tree.top.rglob("zygote"))


def test_a_zygote_does_without_groups_that_refuse_it(tree: Tree, jailed: None) -> None:
    with Zygote("none", jail.Limits()) as zygote:
        zygote.child()
        tree.refuses["memory.max"] = PermissionError(13, "Permission denied")
        assert isinstance(run(zygote, "return x"), Answer)
        assert zygote.account == "peak resident set"
        assert zygote.peak() > 1 << 20
