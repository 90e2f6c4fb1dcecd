"""Where a student's inputs come from: a secret of the course, and not known to anyone before."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

import numpy as np

from attnkit.grading.errors import GradingError

KEY_BYTES = 32
KEY = "course.key"  # beside the ledger


def course_key(path: Path) -> bytes:
    """The course key in the file `path`, made on first use, readable by its owner only.

    Raises `GradingError` when the file holds something else.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
        try:
            os.link(temporary, path)  # unlike a rename it never replaces a key that another run has just made
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return read_key(path)


def read_key(path: Path) -> bytes:
    """The course key in the file `path`. Raises `GradingError` when it holds none."""
    text = path.read_text("ascii", errors="replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise GradingError(f"The course key {path} should hold {2 * KEY_BYTES} hexadecimal digits; it does not.")
    return key


def who_else_reads(path: Path) -> str:
    """Who beside its owner may read the key, in words; "" when nobody may."""
    mode = path.stat().st_mode
    others = [name for name, bits in (("its group", 0o070), ("everybody on this machine", 0o007)) if mode & bits]
    return " and ".join(others)


def seed(key: bytes, lab: str, question: str, student: str, attempt: int) -> str:
    """The seed, in hexadecimal, of one student's inputs to one question (HMAC-SHA256)."""
    message = json.dumps([lab, question, student, attempt], ensure_ascii=False).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def generator(seed_text: str) -> np.random.Generator:
    """The generator that `seed_text` stands for."""
    return np.random.default_rng(int(seed_text, 16))
