"""A notebook file, read with care: as `attnkit.lab.reading.notebook` reads it, for students as well."""

from __future__ import annotations

from attnkit.lab.reading.notebook import NotANotebook, TextCell, code_sources, text_cells

__all__ = ["NotANotebook", "TextCell", "code_sources", "text_cells"]
