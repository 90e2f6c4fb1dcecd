"""Receipts: how a grade came about, signed by the course, so that it can be repeated bit for bit and not be made up.

A receipt holds the seeds of a student's inputs: it is the instructor's, and no student's while the lab is open. What
a student was told, and the outcome, are in it as hashes, since an outcome quotes inputs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.records import Record
from attnkit.grading.reports import page_name, put_file
from attnkit.grading.standing import Class

FOLDER = "receipts"
MAX_RECEIPT = 2**20
_FORMAT = "attnkit receipt 1"
_RECORD: Mapping[str, type] = {
    **{"lab": str, "student": str, "attempt": int, "source": str, "sha256": str},
    **{"isolation": str, "status": str, "made": dict, "answers": dict},
}
_ANSWER: Mapping[str, tuple[type, ...]] = {
    **{"points": (int, float), "max_points": (int, float), "status": (str,), "framework": (str,), "seed": (str,)},
    **{"parts": (list,), "told": (str,), "outcome": (str,), "flags": (str,), "carried": (str,)},
}


@dataclass(frozen=True)
class Receipt:
    """A receipt as it was read. `body` is checked: it has every field, each of its type."""

    body: Mapping[str, Any]
    signature: str

    def signed_by(self, key: bytes) -> bool:
        """Whether the course with this key wrote it, and nobody changed it since."""
        return hmac.compare_digest(self.signature.encode(), _signature(self.body, key).encode())


def write_receipts(found: Class, out: Path, key: bytes) -> None:
    """Write `receipts/STUDENT.json` below `out` for each file that counts; those of students who are gone go."""
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    texts = {
        page_name(one.student.id, ".json"): receipt_text(one.record, key)
        for one in found.standings
        if one.record is not None
    }
    for name, text in texts.items():
        put_file(folder / name, text)
    for stale in folder.glob("*.json"):
        if stale.name not in texts:
            stale.unlink()


def receipt_text(record: Record, key: bytes) -> str:
    """The receipt of a graded file, as JSON text; equal records give equal bytes."""
    body = body_of(record)
    return json.dumps({**body, "signature": _signature(body, key)}, indent=2, sort_keys=True) + "\n"


def body_of(record: Record) -> dict[str, Any]:
    """What a receipt says of a record: all that must be the same when it is graded again."""
    plain = {name: getattr(record, name) for name in _RECORD if name != "answers"}
    answers = {answer.question: _answer(answer) for answer in record.answers}
    body = {"format": _FORMAT, **plain, "message": record.message, "made": dict(record.made), "answers": answers}
    return json.loads(json.dumps(body))


def read_receipt(path: Path) -> Receipt:
    """The receipt in a file. Raises `GradingError` saying what it should be."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECEIPT + 1)
        body = json.loads(data.decode("utf-8")) if len(data) <= MAX_RECEIPT else None
    except OSError as error:
        raise GradingError(f"--receipt: {path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        raise GradingError(f"--receipt: {path} is no receipt; it should be one of OUT/{FOLDER}/STUDENT.json.")
    signature = body.pop("signature", "")
    wrong = [name for name, kind in _RECORD.items() if type(body.get(name)) is not kind]
    answers = body["answers"] if not wrong else {}
    for question, answer in answers.items():
        given = answer if isinstance(answer, dict) else {}
        wrong += [f"{question}: {name}" for name, kinds in _ANSWER.items() if type(given.get(name)) not in kinds]
    if wrong or not isinstance(signature, str):
        raise GradingError(f"--receipt: {path} is not whole: {', '.join(wrong) or 'signature'}.")
    return Receipt(body, signature)


def differences(receipt: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """What differs between a receipt and the same file graded again, in words; [] when nothing does."""
    found = []
    made, now = receipt["made"], again["made"]
    if made.get("questions") != now.get("questions"):
        found.append("the questions changed since" if made.get("questions") else "which questions graded it is unknown")
    if made.get("engine") != now.get("engine"):
        found.append(f"the grader changed since{_versions(made, now)}")
    if made.get("limits") != now.get("limits"):
        found.append(f"limits: were {made.get('limits')}, are {now.get('limits')}")
    for name in ("lab", "sha256", "isolation", "status", "message"):
        if receipt.get(name) != again.get(name):
            label = "the file is another one: sha256" if name == "sha256" else name
            found.append(f"{label}: was {receipt.get(name)}, is {again.get(name)}")
    for question in dict.fromkeys([*receipt["answers"], *again["answers"]]):
        found += _differing(question, receipt["answers"].get(question), again["answers"].get(question))
    return found


def _differing(question: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[str]:
    if was is None or now is None:
        return [f"{question}: is {'no longer' if now is None else 'only now'} a question of the lab"]
    # told, outcome and flags are hashes: that they differ is all there is to say
    plain = ("points", "max_points", "status", "framework", "seed", "parts")
    words = [f"{question}: {name} was {was[name]}, is {now[name]}" for name in plain if was[name] != now[name]]
    hashed = [name for name in ("told", "outcome", "flags") if was[name] != now[name]]
    return [*words, *([f"{question}: other {' and '.join(hashed)}"] if hashed else [])]


def _versions(made: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was, are = made.get("versions") or {}, now.get("versions") or {}
    changed = [f"{name} {was.get(name, '?')} -> {are[name]}" for name in are if was.get(name) != are[name]]
    return f" ({', '.join(changed)})" if changed else " (its code)"


def _answer(answer: Graded) -> dict[str, Any]:
    hashed = {name: _hash(getattr(answer, name)) for name in ("told", "outcome", "flags")}
    if answer.measured:  # what was measured is of the machine, and words and outcome may quote it
        hashed |= {"told": "measured", "outcome": "measured"}
    plain = {name: getattr(answer, name) for name in _ANSWER if name not in hashed}
    return {**plain, **hashed, "variant": dict(answer.variant)}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _signature(body: Mapping[str, Any], key: bytes) -> str:
    # The first line keeps receipts apart from everything else that the key signs.
    message = f"{_FORMAT}\n{json.dumps(body, sort_keys=True)}"
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()
