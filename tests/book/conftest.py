"""The built site, as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnkit.authoring.site import build


@pytest.fixture(scope="session")
def site(root: Path) -> Path:
    """The built site; built now if a page or the code behind one has changed."""
    if not (root / "node_modules" / "mathjax").is_dir():
        pytest.fail("MathJax is missing. Run: npm ci")
    return build(root, say=lambda _: None)
