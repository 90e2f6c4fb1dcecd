"""nbval runs each twin, alone in a kernel as Colab would, and compares every output with the stored one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.twins import twin_path


@pytest.mark.slow
def test_twins_give_the_outputs_that_they_store(root, tmp_path):
    twins = [str(twin_path(chapter)) for chapter in load_chapters(root) if not chapter.is_guide]
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "--nbval-cell-timeout", "120"]
    environment = {**os.environ, "ATTNKIT_VIZ": "text", "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path)}
    environment.pop("ATTNKIT_BOOK", None)
    run = subprocess.run([*command, *twins], cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout
