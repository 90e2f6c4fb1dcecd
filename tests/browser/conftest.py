"""The built site, over http and as files, visited once by a real browser for all tests of this folder."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from attnkit.authoring.site import build, page_names
from tests.tools import need

# axe looks at each colour scheme once; the phone is the light page made narrow, with every fold open.
VIEWS = [
    {"name": "light", "theme": "light", "width": 1280, "axe": True},
    {"name": "phone", "theme": "light", "width": 360, "axe": False, "resize": True},
    {"name": "dark", "theme": "dark", "width": 1280, "axe": True},
]


class Quiet(SimpleHTTPRequestHandler):
    """Serves without a word on stderr."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def site(root: Path) -> Path:
    """The built site; built now if a page or the code behind one has changed."""
    need((root / "node_modules" / "mathjax").is_dir(), "MathJax (npm ci)")
    return build(root, say=lambda _: None)


@pytest.fixture(scope="session")
def served(site: Path) -> Iterator[str]:
    """The site's address over http."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def visit(root: Path):
    """A function that opens addresses in Chromium and returns one report per address and view (see visit.mjs)."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    need(chromium, "chromium")
    need(shutil.which("node"), "node")
    need((root / "node_modules" / "playwright-core").is_dir(), "playwright-core (npm ci)")

    def go(addresses: list[str], inside: list[str], views: list[dict[str, Any]] = VIEWS) -> list[dict[str, Any]]:
        job = {"chromium": chromium, "addresses": addresses, "inside": inside, "views": views}
        driver = Path(__file__).with_name("visit.mjs")
        run = subprocess.run(["node", str(driver)], input=json.dumps(job), capture_output=True, text=True, timeout=900)
        assert run.returncode == 0, run.stderr[-3000:]
        return json.loads(run.stdout)

    return go


@pytest.fixture(scope="session")
def reports(
    root: Path, site: Path, served: str, visit, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What a reader meets on every page, over http and from the disk.

    Visited once, also where several workers share the tests: the first writes down what it saw.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    kept = shared / "visits.json"
    with FileLock(shared / "visits.lock"):
        if not kept.is_file():
            pages = [*page_names(root), "search.html"]
            found = []
            for way, start in (("http", served), ("file", f"{site.as_uri()}/")):
                # Over http the pages are the same: the phone and the dark view are looked at once, from the disk.
                views = VIEWS if way == "file" else [{**VIEWS[0], "axe": False}]
                found += [{**r, "way": way} for r in visit([start + page for page in pages], [start], views)]
            kept.write_text(json.dumps(found), "utf-8")
        return json.loads(kept.read_text("utf-8"))
