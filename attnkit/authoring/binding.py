"""Binds printed pages into one PDF: an outline, and links that lead to pages of the book instead of to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NullObject


def bind(front: Path, parts: Sequence[tuple[str, str, Path]], site: Path) -> PdfWriter:
    """A PDF of `front` and then each part, given as (name, title, file); the site is where its links point to."""
    writer = PdfWriter()
    writer.append(str(front), outline_item="Contents", import_outline=False)
    starts: dict[str, int] = {}
    places: dict[str, dict[str, int]] = {}
    for name, title, path in parts:
        reader = PdfReader(path)
        starts[name] = len(writer.pages)
        places[name] = _places(reader, starts[name])
        writer.append(reader, outline_item=title, import_outline=False)
    order = sorted(starts, key=lambda name: starts[name])
    ends = [*(starts[name] for name in order[1:]), len(writer.pages)]
    for name, end in zip(order, ends, strict=True):
        for number in range(starts[name], end):
            _mend_links(writer, number, name, starts, places, site)
    return writer


def number_pages(writer: PdfWriter, stamps: PdfReader, first: int) -> None:
    """Lay the sheets of `stamps` over the pages from `first` on."""
    for page, stamp in zip(writer.pages[first:], stamps.pages, strict=False):
        page.merge_page(stamp)
        page.compress_content_streams()


def _places(reader: PdfReader, start: int) -> dict[str, int]:
    """The page of the bound book on which each anchor of a part lies."""
    found = {}
    for name, destination in reader.named_destinations.items():
        number = reader.get_destination_page_number(destination)
        if number is not None:
            found[str(name).lstrip("/")] = start + number
    return found


def _mend_links(
    writer: PdfWriter, number: int, own: str, starts: dict[str, int], places: dict[str, dict[str, int]], site: Path
) -> None:
    page = writer.pages[number]
    kept = ArrayObject()
    for reference in page.get("/Annots") or []:
        link: Any = reference.get_object()
        action = link.get("/A", {})
        uri = str(action.get("/URI", "")) if action else ""
        named = link.get("/Dest")
        target: int | None = None
        if uri.startswith("file:"):
            target = _target(uri, starts, places, site)
        elif isinstance(named, str):
            target = places[own].get(str(named).lstrip("/"))
        elif uri or named is not None or action:
            kept.append(reference)
            continue
        if target is not None:
            _point(link, writer, target)
            kept.append(reference)
    if "/Annots" in page:
        page[NameObject("/Annots")] = kept


def _target(uri: str, starts: dict[str, int], places: dict[str, dict[str, int]], site: Path) -> int | None:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if not path.is_relative_to(site.resolve()) and not path.is_relative_to(site):
        return None
    base = site.resolve() if path.is_relative_to(site.resolve()) else site
    name = path.relative_to(base).with_suffix("").as_posix()
    return places.get(name, {}).get(unquote(parts.fragment), starts.get(name))


def _point(link: DictionaryObject, writer: PdfWriter, target: int) -> None:
    link.pop("/A", None)
    reference = writer.pages[target].indirect_reference
    assert reference is not None
    link[NameObject("/Dest")] = ArrayObject([reference, NameObject("/XYZ"), NullObject(), NullObject(), NullObject()])
