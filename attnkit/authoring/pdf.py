"""The book on paper: each page printed by Chromium, all of them bound into one PDF with outline and page numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pypdf import PdfReader, PdfWriter

from attnkit.authoring.binding import bind, number_pages
from attnkit.authoring.chapters import pages
from attnkit.authoring.project import load_project
from attnkit.authoring.site import site_folder

SIDE = 18.0  # the margin left and right, in millimetres


class PdfError(RuntimeError):
    """The book could not be printed; the message says what to do."""


@dataclass(frozen=True)
class Printed:
    """One printed page of the book: name (`book/idea/softmax`), title, file, and what was too wide for the paper."""

    name: str
    title: str
    path: Path
    too_wide: tuple[str, ...] = ()


def pdf_folder(root: Path) -> Path:
    """Where the PDFs are written."""
    return root / "_build" / "pdf"


def print_pages(root: Path, names: Sequence[str] | None = None, site: Path | None = None) -> list[Printed]:
    """Print the pages `names` (all of the book if None) of the built site, each into its own PDF."""
    site, out = site or site_folder(root), pdf_folder(root)
    every = [path.relative_to(root).with_suffix("").as_posix() for path in pages(root)]
    names = every if names is None else [Path(name).with_suffix("").as_posix() for name in names]
    missing = [name for name in names if not (site / f"{name}.html").is_file()]
    if missing:
        raise PdfError(f"{missing[0]} is not in the built site. Run: attnkit book build. Pages are: {', '.join(every)}")
    out.mkdir(parents=True, exist_ok=True)
    targets = {name: out / f"{name.removeprefix('book/').replace('/', '-')}.pdf" for name in names}
    told = print_html(root, {(site / f"{name}.html").as_uri(): targets[name] for name in names})
    return [
        Printed(name, report["title"], targets[name], tuple(report["tooWide"]))
        for name, report in zip(names, told, strict=True)
    ]


def print_book(root: Path, printed: Sequence[Printed], site: Path | None = None) -> Path:
    """Bind printed pages into one PDF: title page, contents, the pages in order, numbers, links that stay inside."""
    target = pdf_folder(root) / "attnkit.pdf"
    lengths = [len(PdfReader(page.path).pages) for page in printed]
    with tempfile.TemporaryDirectory() as scratch:
        front, before = Path(scratch) / "front.pdf", 2
        for _ in range(2):  # the contents name page numbers, which depend on how long they are themselves
            _print_text(root, front, _front(load_project(root).version, printed, lengths, before))
            if before == (before := len(PdfReader(front).pages)):
                break
        stamps = Path(scratch) / "numbers.pdf"
        titles = [page.title for page, length in zip(printed, lengths, strict=True) for _ in range(length)]
        _print_text(root, stamps, _numbers(titles, before), margin=0.0)
        writer = bind(front, [(page.name, page.title, page.path) for page in printed], site or site_folder(root))
        number_pages(writer, PdfReader(stamps), before)
        _describe(writer)
        writer.write(target)
    return target


def print_html(root: Path, jobs: dict[str, Path], side: float = SIDE) -> list[dict]:
    """Print each address to its file; return what the browser told of each."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium or not shutil.which("node") or not (root / "node_modules" / "playwright-core").is_dir():
        raise PdfError("Printing needs Chromium, Node and playwright-core. Install chromium and npm, and run: npm ci")
    listed = [{"address": address, "target": str(target)} for address, target in jobs.items()]
    job = json.dumps({"chromium": chromium, "jobs": listed, "side": side})
    script = root / "attnkit" / "authoring" / "print.mjs"
    run = subprocess.run(["node", str(script)], input=job, capture_output=True, text=True)
    if run.returncode:
        raise PdfError(f"Chromium could not print: {run.stderr[-1000:]}")
    return json.loads(run.stdout)


def _print_text(root: Path, target: Path, html: str, margin: float = SIDE) -> None:
    source = target.with_suffix(".html")
    source.write_text(html, "utf-8")
    print_html(root, {source.as_uri(): target}, side=margin)


_STYLE = """
@page { size: A4; %s }
body { font: 11pt/1.5 "DejaVu Serif", Georgia, serif; color: #111; margin: 0; }
h1 { font-size: 40pt; margin: 70mm 0 4mm; } .under { font-size: 14pt; color: #444; }
.title { break-after: page; } h2 { font-size: 18pt; }
ol { list-style: none; padding: 0; } li { display: flex; gap: 4mm; padding: 0.8mm 0; }
li span:first-child { flex: 1; } .stamp { height: 296.5mm; position: relative; break-after: page; overflow: hidden; }
.stamp div { position: absolute; bottom: 9mm; left: 18mm; right: 18mm; display: flex; justify-content: space-between;
  font: 8.5pt "DejaVu Sans", sans-serif; color: #555; }
"""


def _front(version: str, printed: Sequence[Printed], lengths: Sequence[int], before: int) -> str:
    rows, at = [], before + 1
    for page, length in zip(printed, lengths, strict=True):
        rows.append(f"<li><span>{escape(page.title)}</span><span>{at}</span></li>")
        at += length
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>attnkit</title><style>{_STYLE % ""}</style>'
        '<section class="title"><h1>attnkit</h1><p class="under">Attention and the Transformer, with code that runs'
        f"</p><p>Version {escape(version)}. Code: BSD-3-Clause. Text and figures: CC BY 4.0.</p></section>"
        f"<h2>Contents</h2><ol>{''.join(rows)}</ol></html>"
    )


def _numbers(titles: Sequence[str], before: int) -> str:
    """One empty sheet for each page of the book, with title and number at its foot."""
    stamps = "".join(
        f'<div class="stamp"><div><span>{escape(title)}</span><span>{number}</span></div></div>'
        for number, title in enumerate(titles, start=before + 1)
    )
    style = _STYLE % "margin: 0;"
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>n</title><style>{style}</style>{stamps}</html>'


def _describe(writer: PdfWriter) -> None:
    writer.add_metadata({"/Title": "attnkit: attention and the Transformer", "/Author": "The attnkit authors"})
    writer.page_mode = "/UseOutlines"
