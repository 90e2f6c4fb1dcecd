"""play(): frames where there is no kernel, ipywidgets where there is one, words where they are asked for."""

from __future__ import annotations

import importlib

import pytest

from attnkit.viz import Figure, lines, play, table
from attnkit.viz.explorers.frames import frames_explorer
from tests.viz.kinds import run_kind


def squares(n, sign="plus"):
    return table(["n", "square"], [[n, n * n if sign == "plus" else -n * n]], caption=f"{n}, {sign}")


def curve(power):
    return lines(
        [0, 1, 2], {"y": [0, 1, 2**power]}, alt=f"A curve of power {power} over three places.", xlabel="x", ylabel="y"
    )


def test_loading_its_module_does_not_hide_the_function():
    importlib.import_module("attnkit.viz.play")
    assert importlib.import_module("attnkit.viz").play is play


def test_every_combination_is_a_frame_and_the_last_name_runs_fastest():
    shown = play(squares, n=[1, 2, 3], sign=["plus", "minus"])
    jobs = [{"state": {"choice": [i, j]}} for i in range(3) for j in range(2)]
    answers = run_kind("frames", shown.spec, jobs)
    expected = [squares(n, sign).html() for n in (1, 2, 3) for sign in ("plus", "minus")]
    assert [answer["html"] for answer in answers] == expected
    assert answers[3]["said"] == "n 2, sign minus"
    assert shown.spec["numeric"] == [True, False]


def test_a_figure_comes_back_whole_but_for_the_mark_of_its_names():
    shown = play(curve, power=[1, 2, 3])
    answers = run_kind("frames", shown.spec, [{"state": {"choice": [i]}} for i in range(3)])
    for answer, power in zip(answers, (1, 2, 3), strict=True):
        figure = curve(power).html()
        own = figure.partition('id="f')[2][:8]
        mark = answer["html"].partition('id="p')[2][:8]
        assert answer["html"] == figure.replace(f"f{own}-", f"p{mark}-")


def test_what_frames_share_travels_once():
    powers = list(range(1, 13))
    apart, together = sum(len(curve(n).html()) for n in powers), sum(map(len, play(curve, power=powers).spec["lines"]))
    assert together < 0.5 * apart


def test_more_frames_than_a_page_can_hold_are_refused_before_any_is_drawn():
    drawn = []
    with pytest.raises(ValueError, match=r"13 \(a\) x 5 \(b\) = 65 combinations; on a page it should have 64 at most"):
        play(lambda a, b: drawn.append(a), a=list(range(13)), b=list(range(5)))
    assert drawn == []
    assert len(play(lambda a, b: table(["a", "b"], [[a, b]]), a=list(range(8)), b=list(range(8))).spec["frames"]) == 64


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "grid: was empty"),
        ({"n": []}, "n: was .*list of the values"),
        ({"n": "abc"}, "n: was 'abc'"),
        ({"n": [1, 2, 1]}, "n: has '1' more than once"),
        ({"n": [1.0, 1]}, "n: has '1' more than once"),
    ],
)
def test_a_grid_that_gives_no_choice_is_refused_in_words(grid, message):
    with pytest.raises(ValueError, match=message):
        play(squares, **grid)


def test_what_is_drawn_must_be_a_figure_or_a_table():
    with pytest.raises(TypeError, match=r"draw: gave a int for \{'n': 1\}"):
        play(lambda n: n, n=[1])


def test_words_give_the_first_frame(monkeypatch):
    monkeypatch.setenv("ATTNKIT_VIZ", "text")
    shown = play(squares, n=[2, 3])
    assert shown._repr_html_() is None
    assert "n: 2, 3" in repr(shown)
    assert repr(squares(2)) in repr(shown)


def test_on_a_page_frames_are_drawn_even_in_a_kernel(monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    monkeypatch.setenv("ATTNKIT_BOOK", "1")
    assert play(squares, n=[1, 2]).kind == "frames"


def test_in_a_kernel_controls_draw_again_and_faults_are_seen(monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    monkeypatch.delenv("ATTNKIT_BOOK", raising=False)
    asked = []

    def draw(n, sign):
        asked.append((n, sign))
        if n == 3:
            raise ValueError("n is <3>")
        return squares(n, sign)

    box = play(draw, n=[1, 2, 3], sign=["plus", "minus"])
    slider, choice, shown = box.children
    assert asked == [(1, "plus")], "nothing is drawn before it is asked for"
    assert shown.value == squares(1).html()
    choice.value = "minus"
    slider.value = 2
    assert shown.value == squares(2, "minus").html()
    slider.value = 3
    assert "ValueError: n is &lt;3&gt;" in shown.value
    slider.value = 1
    assert shown.value == squares(1, "minus").html()


def test_frames_need_not_come_from_play():
    shown = frames_explorer({"k": [True, False]}, [squares(1), squares(2)])
    assert shown.spec["numeric"] == [False]
    assert shown.spec["labels"] == [["True", "False"]]
    assert isinstance(curve(1), Figure)
