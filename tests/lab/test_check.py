"""The student's side: what a check says, and that nothing a student returns stops it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from attnkit.lab import Heatmap, Lab

from .right.attention import attention_numpy, masked_numpy, softmax_numpy, softmax_torch


@pytest.fixture
def lab() -> Lab:
    return Lab("attention")


def test_a_right_answer_hears_so_and_nothing_else(lab: Lab) -> None:
    feedback = lab.check("softmax", softmax_numpy)
    assert feedback.passed
    assert str(feedback).startswith("softmax: 3 of 3 points. All cases pass.")
    assert "Read" not in str(feedback)


def test_a_known_mistake_hears_its_name_the_smallest_case_and_where_to_read(lab: Lab) -> None:
    def softmax(x):
        e = np.exp(x - x.max(axis=0, keepdims=True)) if x.size else x
        return e / e.sum(axis=0, keepdims=True)

    text = str(lab.check(softmax))
    assert "0 of 3 points" in text
    assert "Your answer fails on two rows of two logits" in text
    assert "It looks as if you normalised over the first axis. Each row must sum to 1" in text
    assert "Read in the book: softmax.html#softmax-axis" in text


def test_the_function_is_found_by_its_name(lab: Lab) -> None:
    def softmax(x):
        return torch.softmax(x, -1)

    assert lab.check(softmax).passed


def test_the_untouched_stub_is_not_written_yet(lab: Lab, capsys) -> None:
    def attention(query, key, value):
        raise NotImplementedError("attention")

    feedback = lab.check(attention)
    assert feedback.outcome.points == 0
    assert str(feedback).splitlines()[0] == "attention: 0 of 3 points. Not written yet."
    assert "FAILED" not in str(feedback)
    assert not lab.ready(attention)
    assert "run this cell again" in capsys.readouterr().out


def test_an_exception_shows_the_students_own_line_and_none_of_ours(lab: Lab) -> None:
    def helper(x):
        return x @ np.ones((17, 17), np.float32)

    def softmax(x):
        return helper(x)

    text = str(lab.check(softmax))
    assert "ValueError: matmul" in text
    assert "of helper: return x @ np.ones((17, 17), np.float32)" in text
    assert "calling.py" not in text


def test_an_answer_that_calls_an_unwritten_one_hears_which(lab: Lab) -> None:
    def softmax(x):
        raise NotImplementedError("softmax")

    def attention(query, key, value):
        return softmax(query @ key.swapaxes(-1, -2)) @ value

    text = str(lab.check(attention))
    assert "Not written yet" not in text
    assert "NotImplementedError: softmax" in text
    assert "of softmax: raise NotImplementedError" in text


def test_a_picture_needs_no_check_before_it(lab: Lab) -> None:
    """NumPy code that names no library: only trying tells which arrays it takes."""

    def attention(query, key, value):
        return softmax_numpy(query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5) @ value

    assert lab.ready(attention)
    np.testing.assert_allclose(lab.run(attention, np.eye(2), np.eye(2), np.zeros((2, 3))), np.zeros((2, 3)))


class Hostile:
    """Raises at whatever is done to it."""

    def __getattribute__(self, name):
        raise RuntimeError("no " + name)

    def __eq__(self, other):
        raise RuntimeError("no equality")

    __hash__ = None


class HostileArray(np.ndarray):
    def __array_finalize__(self, obj):
        pass

    def __eq__(self, other):
        return np.ones(3, bool)

    def __sub__(self, other):
        return np.zeros(3)


def raise_odd(x):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    raise Odd


RETURNS = {
    "nothing": (lambda x: None, "Is a `return` missing?"),
    "a list": (lambda x: x.tolist(), "returned a list"),
    "a tuple": (lambda x: (x, x), "tuple of 2"),
    "a generator": (lambda x: (v for v in x), "`yield`"),
    "a function": (lambda x: softmax_numpy, "parentheses"),
    "a string": (lambda x: "weights", "returned a str"),
    "objects": (lambda x: np.array([object()] * 2), "dtype object"),
    "text": (lambda x: np.array(["a"]), "dtype <U1"),
    "complex": (lambda x: np.array([1j]), "dtype complex"),
    "a huge view": (lambda x: np.broadcast_to(np.float32(1), (10**6, 10**6)), "far too large"),
    "a huge tensor": (lambda x: torch.zeros(1).expand(10**6, 10**6), "far too large"),
    "a number": (lambda x: 0.5, "shape ()"),
    "the sum": (lambda x: x.sum(), "shape ()"),
    "a hostile object": (lambda x: Hostile(), "returned a"),
    "a hostile array": (lambda x: np.zeros(2).view(HostileArray), "expected"),
    "a sparse tensor": (lambda x: torch.eye(2).to_sparse(), "0 of 3"),
    "a tensor without data": (lambda x: torch.empty(2, device="meta"), "0 of 3"),
    "itself": (lambda x: sys.modules[__name__], "returned a module"),
    "an exit": (lambda x: sys.exit(3), "SystemExit: 3"),
    "an odd exception": (raise_odd, "Odd"),
    "no end": (lambda x: (lambda f: f(f))(lambda f: f(f)), "RecursionError"),
    "no arguments": (lambda: 1, "positional argument"),
}


@pytest.mark.parametrize("name", RETURNS)
def test_nothing_that_a_student_returns_stops_the_check(lab: Lab, name: str) -> None:
    function, says = RETURNS[name]
    feedback = lab.check("softmax", function)
    assert feedback.outcome.points == 0
    assert says in str(feedback)
    assert feedback._repr_html_()


def test_a_student_can_stop_a_loop_that_never_ends(lab: Lab) -> None:
    def softmax(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.check(softmax)


def test_integers_and_tensors_that_need_a_gradient_are_answers(lab: Lab) -> None:
    assert lab.check("softmax", lambda x: torch.softmax(x, -1).requires_grad_()).passed
    assert lab.check("softmax", lambda x: np.zeros(x.shape, dtype=int)).outcome.failure is None


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_writing_into_the_input_spoils_no_later_case_and_is_mentioned(lab: Lab, kind: str) -> None:
    def in_numpy(x):
        x -= np.max(x, axis=-1, keepdims=True)
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    def in_torch(x):
        x.sub_(torch.amax(x, -1, keepdim=True))
        return torch.softmax(x, -1)

    feedback = lab.check("softmax", in_numpy if kind == "numpy" else in_torch)
    assert feedback.passed
    assert "changes its input (x)" in str(feedback)
    assert "changes its input" not in str(lab.check("softmax", softmax_torch))


def test_what_the_function_prints_is_kept_out_and_mentioned(lab: Lab, capsys) -> None:
    def softmax(x):
        print("hello", x)
        return softmax_torch(x)

    assert "prints is hidden" in str(lab.check(softmax))
    assert capsys.readouterr().out == ""


def test_warnings_stay_out_of_the_output(lab: Lab, recwarn) -> None:
    lab.check("softmax", lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True))
    assert not recwarn.list


def test_checking_twice_says_the_same(lab: Lab) -> None:
    def wrong(x):
        return torch.exp(x)

    assert str(lab.check("softmax", wrong)) == str(Lab("attention").check("softmax", wrong))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_html_says_the_same_words_and_lets_no_markup_through(lab: Lab) -> None:
    def softmax(x):
        raise ValueError("<script>alert(1)</script>")

    feedback = lab.check(softmax)
    seen = Tags()
    seen.feed(feedback._repr_html_())
    assert set(seen.tags) == {"div", "strong"}
    assert seen.text == str(feedback)
    assert "<script>" in seen.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("softmax",), "pass the function itself"),
        ((np.zeros(3),), "without calling it"),
        ((lambda x: x,), "another name"),
        (("sofmax", softmax_numpy), r'check\("softmax"'),
    ],
)
def test_a_check_of_the_wrong_thing_says_what_to_pass(lab: Lab, arguments, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lab.check(*arguments)


def test_progress_and_submit_count_the_points_of_the_last_checks(lab: Lab) -> None:
    assert repr(lab.progress()).startswith("0 of 10 points")
    lab.check("softmax", softmax_numpy)
    lab.check("attention", lambda q, k, v: (q @ k.mT).softmax(-1) @ v)
    assert repr(lab.progress()).splitlines() == [
        "3 of 10 points on the practice cases",
        "  softmax           3 of 3 points, done",
        "  attention         0 of 3 points, not finished",
        "  masked_attention  0 of 4 points, not checked yet",
    ]
    lab.check("attention", attention_numpy)
    lab.check("masked_attention", masked_numpy)
    assert repr(lab.submit()).startswith("10 of 10 points")
    assert "attention.ipynb" in repr(lab.submit())


def test_submit_knows_colab(lab: Lab, monkeypatch) -> None:
    assert "Save Notebook" in repr(lab.submit())
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert "Download .ipynb" in repr(lab.submit())


def test_run_hands_over_what_the_function_takes(lab: Lab) -> None:
    x = np.array([[0.0, 1.0], [2.0, 2.0]])
    for function in (softmax_numpy, softmax_torch):
        function.__name__ = "softmax"
        lab.check(function)
        result = lab.run(function, x)
        assert isinstance(result, np.ndarray)
        np.testing.assert_allclose(result, [[0.2689, 0.7311], [0.5, 0.5]], atol=1e-4)


def test_a_check_does_not_load_torch_for_a_student_who_has_not() -> None:
    code = """
        import sys
        import numpy as np
        from attnkit.lab import Lab
        def softmax(x):
            e = np.exp(x - x.max(axis=-1, keepdims=True))
            return e / e.sum(axis=-1, keepdims=True)
        assert Lab("attention").check(softmax).passed
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_heat_map_is_a_table_with_headers_and_readable_ink() -> None:
    picture = Heatmap(np.array([[0.0, 1.0], [0.25, 0.75]]), ["first", "<second>"], ["a", "b"], "Who & what")
    assert repr(picture).splitlines()[0] == "Who & what"
    assert "0.25" in repr(picture)
    html = picture._repr_html_()
    assert html.count('scope="row"') == html.count('scope="col"') == 2
    assert "&lt;second&gt;" in html
    assert "rgb(255,255,255);color:#000000" in html
    assert "rgb(8,64,129);color:#ffffff" in html
    with pytest.raises(ValueError, match="weights: shape was"):
        Heatmap(np.zeros((2, 3)), ["one"], ["a", "b", "c"])


def test_the_ink_of_a_heat_map_can_be_read_on_every_ground() -> None:
    """WCAG asks for a contrast of 4.5."""

    def luminance(rgb):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for share in np.linspace(0, 1, 101):
        cell = Heatmap(np.array([[share]]), ["r"], ["c"])._repr_html_().split("background:rgb(")[1]
        ground = luminance([int(v) for v in cell.split(")")[0].split(",")])
        ink = luminance((255, 255, 255) if "color:#ffffff" in cell else (0, 0, 0))
        assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 4.5, share


def test_time_is_no_part_of_the_feedback(lab: Lab) -> None:
    def softmax(x):
        time.sleep(0.001)
        return softmax_torch(x)

    assert str(lab.check(softmax)) == str(lab.check("softmax", softmax_torch))
