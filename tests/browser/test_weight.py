"""What a page costs a reader on a slow line: all that it loads, as sent with gzip."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow

# Kilobytes. A page that JupyterBook builds by default loads 830 without and 1,140 with formulas.
WITH_MATHS, WITHOUT = 650, 400


def sent(path: Path) -> int:
    """The bytes of a file on the line; what is compressed already is sent as it is."""
    raw = path.read_bytes()
    return min(len(raw), len(gzip.compress(raw, 6)))


def weighed(report: dict[str, Any], site: Path) -> dict[str, int]:
    """Kilobytes by file, for one visit over http."""
    paths = {unquote(urlsplit(url).path).lstrip("/") for url in report["loaded"] if url.startswith("http")}
    return {path: sent(site / path) // 1000 for path in sorted(paths)}


@pytest.fixture(scope="module")
def weights(reports: list[dict[str, Any]], site: Path) -> dict[str, tuple[bool, dict[str, int]]]:
    """For each page, whether it has formulas, and what it loads."""
    visits = [r for r in reports if r["way"] == "http"]
    return {r["address"].rsplit("/", 1)[1]: (r["formulas"] > 0, weighed(r, site)) for r in visits}


def test_no_page_is_heavier_than_it_may_be(weights, record_property):
    """The message shows where the weight is."""
    for page, (maths, parts) in weights.items():
        record_property(page, sum(parts.values()))
        heaviest = sorted(parts.items(), key=lambda part: -part[1])[:6]
        assert sum(parts.values()) < (WITH_MATHS if maths else WITHOUT), (page, heaviest)


def test_the_scales_see_the_heavy_parts(weights):
    """A check that cannot fail proves nothing: with formulas there is MathJax and its fonts, without there is not."""
    assert {maths for maths, _ in weights.values()} == {True, False}
    for page, (maths, parts) in weights.items():
        assert any("mathjax" in path and size > 200 for path, size in parts.items()) is maths, page
        assert any("fontawesome" in path for path in parts), "icons are a font"
        assert any(path.endswith(".html") for path in parts)
