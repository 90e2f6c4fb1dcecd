"""Explorers as pages of their own, driven in Chromium (see explore.mjs)."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.tools import need

ROOT = Path(__file__).resolve().parents[2]

# What a reader must never meet, whatever the explorer: read after the steps of a visit.
WIDTH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FOCUSED = "document.activeElement.textContent"
# Said at most every 150 ms, so asked for a little later.
LIVE = "new Promise((done) => setTimeout(() => done(document.querySelector('.ak-live').textContent), 300))"
STATUS = "document.querySelector('[role=status]:not(.ak-live)').textContent"
FAULT = "Array.from(document.querySelectorAll('.ak-fault'), (e) => e.textContent).join('')"


def control(label: str) -> str:
    """The selector of a control by what its label says."""
    return f".ak-control:has(label:text-is('{label}')) :is(input, select)"


# What a finger may hit and is too small for it.
TARGETS = """[...document.querySelectorAll('.ak-frame button, .ak-frame input, .ak-frame select, .ak-frame summary')]
  .filter((e) => e.checkVisibility()).map((e) => e.getBoundingClientRect())
  .filter((r) => r.width < 24 || r.height < 24).map((r) => [r.width, r.height])"""


@cache
def browser() -> subprocess.Popen[str]:
    """One browser for all tests of a process; it ends when its stdin does."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    need(chromium, "chromium")
    need(shutil.which("node"), "node")
    need((ROOT / "node_modules" / "playwright-core").is_dir(), "playwright-core (npm ci)")
    driver = Path(__file__).with_name("explore.mjs")
    return subprocess.Popen(
        ["node", str(driver), str(chromium)], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def drive(*visits: dict[str, Any]) -> list[dict[str, Any]]:
    """One report (values, errors, outside, axe) for each visit {address, steps, theme, width, touch, axe, ...}."""
    process = browser()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(visits) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    assert isinstance(answer, list), answer["failed"]
    return answer


@atexit.register
def close() -> None:
    """Let the browser end before the tests do."""
    if browser.cache_info().currsize:
        assert browser().stdin is not None
        browser().stdin.close()
        browser().wait()


def visit(explorer: Any, folder: Path, steps: list[list[Any]], **options: Any) -> dict[str, Any]:
    """Open an explorer from the disk and take these steps; no error, no request and no axe violation is accepted."""
    page = explorer.save(folder / f"{explorer.kind}.html")
    (report,) = drive({"address": page.as_uri(), "axe": True, "steps": [*steps, ["eval", WIDTH]], **options})
    assert report["errors"] == []
    assert report["outside"] == []
    assert report["axe"] == []
    assert report["values"].pop() <= 0, "nothing is wider than the window"
    return report["values"]


PHONE = {"width": 360, "touch": True, "theme": "dark"}
