"""What a grade depends on is in its key: all the code that decides it, and nothing that does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import attnkit
from attnkit.grading import digest
from attnkit.grading.jail import Limits
from attnkit.grading.job import Changed, Job, grade_job
from attnkit.grading.zygote import Zygote
from tests.grading.tiny import QUESTIONS, submission, tiny_lab

ROOT = Path(attnkit.__file__).resolve().parent


def test_what_decides_a_grade_is_in_the_engines_digest_and_what_reports_it_is_not() -> None:
    names = {file.relative_to(ROOT).as_posix() for file in digest.deciding_files()}
    for name in ("engine", "protocol", "trying", "zygote", "jail", "seeds", "manual", "worker", "wire", "launch"):
        assert f"grading/{name}.py" in names
    judging = ("judge", "verdict", "compare", "threshold", "trials", "blackbox", "question", "outcome", "feedback")
    assert {f"lab/{name}.py" for name in (*judging, "variants", "reading/cells", "reading/words")} <= names
    for name in ("lab", "standing", "memory", "kernel", "handing_in", "metering"):
        assert f"lab/{name}.py" not in names, "what a notebook alone does decides no grade"
    for name in ("ledger", "batch", "reports", "commands", "standing", "policy", "identity", "intake"):
        assert f"grading/{name}.py" not in names, "a change to it would grade every class again for nothing"


def test_another_engine_has_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [digest.engine_digest.__wrapped__()]
    with monkeypatch.context() as patch:
        patch.setattr(digest, "versions", lambda: {"numpy": "0.1"})
        digests.append(digest.engine_digest.__wrapped__())
    for one in digest.deciding_files()[::15]:
        with monkeypatch.context() as patch:
            real = Path.read_bytes
            patch.setattr(Path, "read_bytes", lambda path, one=one, real=real: real(path) + b"#" * (path == one))
            digests.append(digest.engine_digest.__wrapped__())
    assert len(set(digests)) == len(digests)
    assert digests[0] == digest.engine_digest.__wrapped__()


def test_the_questions_digest_knows_what_the_questions_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = digest.questions_digest(tiny_lab(tmp_path))
    borrowed = tiny_lab(tmp_path, "from attnkit.authoring import project\n" + QUESTIONS)
    own = digest.questions_digest(borrowed)
    assert own != plain
    base = ROOT / "authoring" / "project.py"
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + b"#" * (path == base))
    assert digest.questions_digest(borrowed) != own


@pytest.mark.usefixtures("pretend")
def test_a_file_that_changed_on_the_way_is_not_graded_as_the_other(tmp_path: Path) -> None:
    lab = tiny_lab(tmp_path)
    data = submission()
    seeds = dict.fromkeys(lab.questions, "ab")
    this = Job("k", "tiny", "1", 1, "a.ipynb", hashlib.sha256(data).hexdigest(), "jail", seeds)
    zygote = Zygote("jail", Limits())
    assert grade_job(zygote, lab, this, data).points == 5.0
    with pytest.raises(Changed, match=r"a\.ipynb has changed"):
        grade_job(zygote, lab, this, data + b" ")
