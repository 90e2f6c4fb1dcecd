"""The bibliography: what is complete, and how a work is named and linked outside Sphinx."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pybtex.database import Entry, Person, parse_file

# Where a work is found, as `_work` puts it together of its doi or arXiv number (old ones read math/0309136).
_ADDRESS = re.compile(
    r"https://doi\.org/10\.\d{4,9}/[^\s{}]+|https://arxiv\.org/abs/(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?"
)


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
        elif not _ADDRESS.fullmatch(work.url):
            found.append(
                f"{work.key} has no proper identifier: {work.url} (10.1000/182 for a doi, 1706.03762 for arXiv)"
            )
        if work.year and not re.fullmatch(r"(19|20)\d\d", work.year):
            found.append(f"{work.key} has no proper year: {work.year}")
    for one, other in combinations(works.values(), 2):
        if (one.url and one.url.lower() == other.url.lower()) or _same(one) == _same(other):
            found.append(f"{one.key} and {other.key} are the same work")
    return found


def _same(work: Work) -> tuple[str, str]:
    return re.sub(r"\W+", " ", work.title).lower().strip() or work.key, work.year


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
