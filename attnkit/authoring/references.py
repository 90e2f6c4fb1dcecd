"""The bibliography: what is complete, and how a work is named and linked outside Sphinx."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pybtex.database import Entry, Person, parse_file


@dataclass(frozen=True)
class Work:
    """One entry of references.bib."""

    key: str
    authors: tuple[str, ...]
    title: str
    year: str
    url: str

    @property
    def short(self) -> str:
        """As a sentence names it: Vaswani et al. (2017)."""
        names = self.authors
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return f"{who} ({self.year})"


def read_works(path: Path) -> dict[str, Work]:
    """The works in the BibTeX file `path` by key."""
    return {key: _work(key, entry) for key, entry in parse_file(str(path)).entries.items()}


def faults(works: dict[str, Work]) -> list[str]:
    """What is missing in `works`: a reader must be able to find each."""
    found = []
    for work in works.values():
        missing = [name for name in ("authors", "title", "year") if not getattr(work, name)]
        if missing:
            found.append(f"{work.key} has no {' and no '.join(missing)}")
        if not work.url:
            found.append(f"{work.key} has neither doi nor eprint (arXiv): give one, looked up and not recalled")
    return found


def _work(key: str, entry: Entry) -> Work:
    get = entry.fields.get
    url = ""
    if get("doi"):
        url = f"https://doi.org/{get('doi')}"
    elif get("eprint"):
        url = f"https://arxiv.org/abs/{get('eprint')}"
    authors = tuple(_last_name(person) for person in entry.persons.get("author", []))
    return Work(key, authors, _plain(get("title", "")), get("year", ""), url)


def _last_name(person: Person) -> str:
    return _plain(" ".join([*person.prelast_names, *person.last_names]))


def _plain(text: str) -> str:
    return text.replace(r"{\L}", "Ł").replace("{", "").replace("}", "")
