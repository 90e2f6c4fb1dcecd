"""The mathematics of an explorer's script, run by Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tools import need

HERE = Path(__file__).parent
VIZ = HERE.parents[1] / "attnkit" / "viz"


def run_kind(kind: str, spec: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the script of a kind answers to each job: {state} asks `compute`, {call, arguments} one of its functions."""
    need(shutil.which("node"), "node")
    scripts = [str(VIZ / "explorer.js"), str(VIZ / "explorers" / f"{kind}.js")]
    job = {"scripts": scripts, "kind": kind, "spec": spec, "jobs": list(jobs)}
    run = subprocess.run(["node", str(HERE / "kinds.mjs")], input=json.dumps(job), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)
