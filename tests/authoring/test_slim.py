"""A built site carries no icon that no page shows, and no script for formulas where there is none."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from attnkit.authoring.mend import mend_page
from attnkit.authoring.slim import icons_used, prune, slim, subset_font, theme_folder

MOON, MUG = 0xF186, 0xF0F4  # on every page; on none
FONTS = "_static/vendor/fontawesome/webfonts"
SHEET = "_static/styles/pydata-sphinx-theme.css"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The least that a site has: a page with one icon, a script with another, a sheet that names a third."""
    (tmp_path / "_static" / "styles").mkdir(parents=True)
    (tmp_path / "page.html").write_text('<i class="fa-solid fa-moon"></i>')
    (tmp_path / "_static" / "own.js").write_text('e.className = "fa-solid fa-xmark"')
    (tmp_path / "_static" / "own.css").write_text('a::before { content: "\\f303"; }')
    (tmp_path / "_static" / "own.js.map").write_text("{}")
    slim(tmp_path)
    return tmp_path


def glyphs(path: Path) -> set[int]:
    return set(TTFont(io.BytesIO(path.read_bytes())).getBestCmap())


def test_icons_that_are_shown_stay_and_others_go(built):
    left = glyphs(built / FONTS / "fa-solid-900.woff")
    assert {MOON, 0xF00D, 0xF303} <= left  # the page's, the script's, the sheet's
    assert MUG not in left
    assert MUG in glyphs(theme_folder() / "vendor/fontawesome/webfonts/fa-solid-900.ttf")
    assert sum(path.stat().st_size for path in (built / FONTS).iterdir()) < 20_000
    assert list(built.rglob("*.map")) == []


def test_the_sheet_names_the_new_fonts_and_keeps_every_rule_but_those_of_icons(built):
    before, after = (theme_folder() / "styles/pydata-sphinx-theme.css").read_text(), (built / SHEET).read_text()
    assert ".fa-moon" in after
    assert ".fa-mug-saucer" in before
    assert ".fa-mug-saucer" not in after
    assert "woff2" not in after
    for name in ("fa-solid-900", "fa-regular-400", "fa-brands-400"):
        assert f'{name}.woff) format("woff")' in after
    assert after.count(".bd-sidebar") == before.count(".bd-sidebar")


def test_an_icon_that_a_page_gains_is_there_after_the_next_build(built):
    (built / "new.html").write_text('<i class="fa-solid fa-mug-saucer"></i>')
    slim(built)
    assert MUG in glyphs(built / FONTS / "fa-solid-900.woff")
    assert ".fa-mug-saucer" in (built / SHEET).read_text()


def test_the_same_icons_give_the_same_bytes():
    font = theme_folder() / "vendor/fontawesome/webfonts/fa-solid-900.ttf"
    assert subset_font(font, {MOON}) == subset_font(font, {MOON})


def test_rules_are_pruned_by_class(built):
    sheet = 'a{b:c}.fa-a:before,.fa-b:before{content:"\\f001"}.fa-c:before{content:"\\f002"}d{e:f}'
    assert prune(sheet, {"fa-b"}) == 'a{b:c}.fa-a:before,.fa-b:before{content:"\\f001"}d{e:f}'
    assert icons_used(built) >= {"fa-moon", "fa-xmark"}


def test_mathjax_is_loaded_only_where_there_is_a_formula():
    scripts = (
        '<script>window.MathJax = {"options": {"processHtmlClass": "tex2jax_process|math"}}</script>\n'
        '<script defer="defer" src="../_static/vendor/mathjax/tex-mml-chtml.js?v=1"></script>\n'
    )
    formula = '<span class="math notranslate nohighlight">x</span>'
    assert mend_page(scripts + formula) == scripts + formula
    assert mend_page(scripts + '<p class="mathless">math</p>') == '<p class="mathless">math</p>'
