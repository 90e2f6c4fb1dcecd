"""CSV files: written so that a spreadsheet runs nothing, and changed so that all but the wanted cells keep their bytes.

Python's `csv` reads what a cell means but not how it was written; a gradebook that goes back to where it came from
should differ in our column only, so `Sheet` keeps each cell as it stood (RFC 4180, with `;` or tab for `,`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from attnkit.grading.errors import GradingError

_BOM = "\ufeff"
# A spreadsheet runs a cell that starts like a formula; the wide forms count as the plain ones in some languages
# (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe_text(value: str) -> str:
    """`value` as a cell that is no formula: names come from file names, so from anybody."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")  # a bare return ends the row for some readers
    return f"'{value}" if value.startswith(_FORMULA) else value


def from_safe_text(value: str) -> str:
    """What `safe_text` was given."""
    return value[1:] if value.startswith("'") and value[1:].startswith(_FORMULA) else value


def written(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A CSV file's text: commas, quotes where needed, one line feed a row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def rounded(value: float | int, decimals: int) -> str:
    """A number with at most `decimals` places, half away from zero as the gradebooks round, without trailing zeros."""
    exact = Decimal(repr(round(value, 9)))  # 2.675 is what was meant, not the float just below it
    text = f"{exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def decimal(text: str) -> float | None:
    """A number with decimal point or comma, read as Canvas does: the last one of them is the decimal point."""
    *front, last = re.split(r"[.,]", text.strip())
    try:
        return float(f"{''.join(front)}.{last}" if front else last)
    except ValueError:
        return None


@dataclass
class Cell:
    """A cell: what it means, and how it stands in the file."""

    value: str
    raw: str


class Sheet:
    """A CSV file as it stands. Raises `GradingError` naming `option` where it is none."""

    def __init__(self, data: bytes, name: str, option: str) -> None:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise GradingError(
                f"{option}: {name} is not UTF-8 text; download it again, or save it as CSV UTF-8."
            ) from None
        self._start = _BOM if text.startswith(_BOM) else ""
        text = text.removeprefix(_BOM)
        if not text.strip():
            raise GradingError(f"{option}: {name} is empty.")
        self.delimiter = _delimiter(text)
        self.rows, self._ends = _split(text, self.delimiter)
        if not self.rows:
            raise GradingError(f"{option}: {name} ends inside a quoted cell; download it again.")

    @property
    def head(self) -> list[str]:
        """The first row."""
        return [cell.value.strip() for cell in self.rows[0]]

    def value(self, row: int, column: int | None) -> str:
        """The cell's text without spaces around it, "" where the row is too short or there is no such column."""
        cells = self.rows[row]
        return cells[column].value.strip() if column is not None and column < len(cells) else ""

    def put(self, row: int, column: int, value: str) -> None:
        """Write a cell; the others stay as they are."""
        cells = self.rows[row]
        while len(cells) <= column:
            cells.append(Cell("", ""))
        if cells[column].value.strip() != value:
            quoted = cells[column].raw.lstrip().startswith('"') or any(c in value for c in f'"\r\n{self.delimiter}')
            raw = '"' + value.replace('"', '""') + '"' if quoted else value
            cells[column] = Cell(value, raw)

    def data(self) -> bytes:
        """The file's bytes."""
        lines = [
            self.delimiter.join(cell.raw for cell in row) + end for row, end in zip(self.rows, self._ends, strict=True)
        ]
        return (self._start + "".join(lines)).encode()


def read_sheet(path: Path, option: str) -> Sheet:
    """The CSV file at `path`. Raises `GradingError` naming `option`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GradingError(f"{option}: {path} cannot be read ({error.strerror}).") from None
    return Sheet(data, str(path), option)


def _delimiter(text: str) -> str:
    """What stands between the cells of the first row, quoted ones left out of the count."""
    first = text.splitlines()[0]
    plain = "".join(first.split('"')[::2])
    return max(",;\t", key=plain.count)


def _split(text: str, delimiter: str) -> tuple[list[list[Cell]], list[str]]:
    """The rows of cells, and what ends each row. No rows where a quote is never closed."""
    rows: list[list[Cell]] = [[]]
    ends: list[str] = []
    start = i = 0
    inside = False
    while i < len(text):
        here = text[i]
        if inside:
            doubled = text.startswith('""', i)
            inside = doubled or here != '"'
            i += doubled
        elif here == '"' and not text[start:i].strip(" "):  # elsewhere it is a character like any other
            inside = True
        elif here == delimiter:
            rows[-1].append(_cell(text[start:i]))
            start = i + 1
        elif here in "\r\n":
            end = "\r\n" if text.startswith("\r\n", i) else here
            rows[-1].append(_cell(text[start:i]))
            ends.append(end)
            rows.append([])
            i += len(end) - 1
            start = i + 1
        i += 1
    if inside:
        return [], []
    if start < len(text):
        rows[-1].append(_cell(text[start:]))
        ends.append("")
    elif text.endswith(delimiter):
        rows[-1].append(Cell("", ""))
        ends.append("")
    else:
        rows.pop()
    return rows, ends


def _cell(raw: str) -> Cell:
    bare = raw.strip(" ")
    if len(bare) >= 2 and bare[0] == bare[-1] == '"':
        return Cell(bare[1:-1].replace('""', '"'), raw)
    return Cell(raw, raw)
