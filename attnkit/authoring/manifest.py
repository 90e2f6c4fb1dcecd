"""What each page of a built site was made from: build-manifest.json beside the pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnkit.authoring.chapters import Chapter

MANIFEST = "build-manifest.json"


def write_manifest(site: Path, root: Path, chapters: Sequence[Chapter]) -> Path:
    """Write it for the site in the folder `site`, whose sources lie below `root`."""
    told = {"pages": [describe(chapter) for chapter in chapters], "lock": file_hash(root / "requirements.txt")}
    path = site / MANIFEST
    path.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")
    return path


def describe(chapter: Chapter) -> dict[str, Any]:
    """One page: how long its cells took when they ran (seconds), and check sums of what they depend on."""
    run = chapter.executed()
    return {
        "name": chapter.name,
        "source": file_hash(chapter.path),
        "key": chapter.key,
        "seconds": run.metadata.get("attnkit", {}).get("seconds"),
        "cells": len(chapter.cells),
        "executed": sum(cell.get("execution_count") is not None for cell in run.cells if cell.cell_type == "code"),
        "inputs": chapter.inputs,
    }


def file_hash(path: Path) -> str:
    """A short check sum of the file, or "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20] if path.is_file() else ""
