"""Takes out of a built site what no page uses: of the icon font and its style rules all but the icons shown, and maps.

The theme brings 1,400 icons in three fonts (300 KB, of which a page loads 150) for a dozen that pages show.
"""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

_SHEET = "styles/pydata-sphinx-theme.css"
_FONTS = "vendor/fontawesome/webfonts"
_CLASS = re.compile(r"\bfa-[a-z0-9-]+")
# `.fa-search:before{content:"\f002"}`, the rule of one icon.
_RULE = re.compile(r'(?<=\})((?:\.fa-[\w-]+:{1,2}before,?)+)\{content:"\\[0-9a-f]+"\}')
_SOURCES = re.compile(r"src:(url\([^)]*?)(fa-[\w-]+)\.woff2\) format\(\"woff2\"\),url\([^)]*\) format\(\"truetype\"\)")
_POINT = re.compile(r'"\\([0-9a-f]{2,5})"')
_IDLE = ("*.map", "scripts/fontawesome.js*", f"{_FONTS}/*.ttf", f"{_FONTS}/*.woff2")


def slim(site: Path, theme: Path | None = None) -> None:
    """Slim the site in the folder `site`. The full style sheet and fonts are read from `theme`, the theme's static
    files, so that a build that adds an icon finds it."""
    static = site / "_static"
    theme = theme or theme_folder()
    used = icons_used(site)
    sheet = prune((theme / _SHEET).read_text("utf-8"), used)
    others = (path.read_text("utf-8") for path in sorted(static.rglob("*.css")) if path != static / _SHEET)
    points = {int(point, 16) for text in (sheet, *others) for point in _POINT.findall(text)}
    (static / _FONTS).mkdir(parents=True, exist_ok=True)
    for font in sorted((theme / _FONTS).glob("*.ttf")):
        (static / _FONTS / f"{font.stem}.woff").write_bytes(subset_font(font, points))
    (static / _SHEET).write_text(_SOURCES.sub(r'src:\1\2.woff) format("woff")', sheet), "utf-8")
    for pattern in _IDLE:
        for path in static.rglob(pattern):
            path.unlink()


def theme_folder() -> Path:
    """The static files that the theme brings."""
    found = importlib.util.find_spec("pydata_sphinx_theme")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "theme" / "pydata_sphinx_theme" / "static"


def icons_used(site: Path) -> set[str]:
    """The icon classes that a page has or a script may set."""
    files = [*site.rglob("*.html"), *(path for path in site.rglob("*.js") if "fontawesome" not in path.name)]
    return {name for path in files for name in _CLASS.findall(path.read_text("utf-8"))}


def prune(sheet: str, used: set[str]) -> str:
    """The style sheet without the rules of icons that are not in `used`."""
    return _RULE.sub(lambda rule: rule[0] if used & set(_CLASS.findall(rule[1])) else "", sheet)


def subset_font(path: Path, points: set[int]) -> bytes:
    """The font at `path` with the glyphs of those code points, as WOFF; the same bytes every time."""
    font = TTFont(path, recalcTimestamp=False)
    options = subset.Options(notdef_outline=True, layout_features=[], name_IDs=[1, 2, 13, 14], drop_tables=["GSUB"])
    worker = subset.Subsetter(options)
    worker.populate(unicodes=points)
    worker.subset(font)
    font.flavor = "woff"
    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()
