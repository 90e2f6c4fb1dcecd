"""Classes graded over the wire: built, loaded, called, differentiated in the jail, judged outside it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
import pytest

from attnkit.grading import jail
from attnkit.grading.asking import Worker
from attnkit.grading.cells import plan
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure
from attnkit.lab.question import Case
from attnkit.lab.steps import Build, Call, Get, Load
from tests.grading.conftest import notebook_bytes
from tests.lab.class_questions import QUESTIONS, RIGHT

SEED = "0" * 64


@pytest.fixture(scope="module")
def zygote(jailed: None) -> Iterator[Zygote]:
    with Zygote("jail", jail.Limits(seconds=3.0, load_seconds=5.0)) as zygote:
        yield zygote


def graded(zygote: Zygote, name: str, source: str) -> Graded:
    cells = read_submission(notebook_bytes(f"# question: {name}\n{textwrap.dedent(source)}"))
    return grade_question(zygote, QUESTIONS[name], cells, SEED)


def changed(name: str, *pairs: tuple[str, str]) -> str:
    source = RIGHT[name]
    for before, after in pairs:
        assert before in source
        source = source.replace(before, after)
    return source


def told(result: Graded) -> str:
    return " ".join(" ".join(text for _, text in result.told).split())


@pytest.mark.parametrize("name", QUESTIONS)
def test_right_classes_get_full_marks(zygote: Zygote, name: str) -> None:
    result = graded(zygote, name, RIGHT[name])
    assert (result.points, result.status) == (QUESTIONS[name].points, "full"), result.told


def test_a_class_in_numpy_gets_them_too(zygote: Zygote) -> None:
    source = changed("Cache", ("torch.zeros(0, d)", "np.zeros((0, d), np.float32)"), ("torch.cat", "np.concatenate"))
    source = source.replace(
        "def append(self, keys):", "def append(self, keys):\n        assert type(keys) is np.ndarray"
    )
    result = graded(zygote, "Cache", source)
    assert (result.points, result.framework) == (2, "numpy")


def test_a_mistake_is_recognised_and_its_script_is_shown(zygote: Zygote) -> None:
    result = graded(zygote, "Cache", changed("Cache", ("torch.cat([self.keys, keys])", "keys")))
    assert "you replace what was there. Append behind it." in told(result)
    example = next(text for kind, text in result.told if kind == "example")
    assert "  it = Cache(3)\n  it.append(keys)\n  it.append(keys2)\n" in example
    assert "after step 4, `it.scores(query)`" in example


def test_part_of_the_points_without_the_gradients(zygote: Zygote) -> None:
    result = graded(zygote, "Linear", changed("Linear", ("x @ self", "x.detach() @ self")))
    assert (result.points, result.status) == (1, "partial")
    assert "torch.autograd.grad(it(x), [x, it.weight, it.bias], cotangent)" in told(result)


def test_other_weights_than_asked_for_are_told_with_names_and_shapes(zygote: Zygote) -> None:
    result = graded(zygote, "Linear", RIGHT["Linear"].replace("weight", "kernel"))
    assert "It should have: weight (2, 3). Yours has instead: kernel (2, 3)." in told(result)
    result = graded(zygote, "Linear", changed("Linear", ("torch.randn(d_out, d_in)", "torch.randn(d_in, d_out)")))
    assert "weight (3, 2), which should be (2, 3)" in told(result)


def test_a_class_that_is_not_written_is_blank_and_one_of_its_methods_is_told(zygote: Zygote) -> None:
    stub = (
        "class Cache:\n    def append(self, keys):\n        raise NotImplementedError\n"
        "    def length(self):\n        pass\n"
    )
    assert graded(zygote, "Cache", stub).status == "blank"
    assert graded(zygote, "Cache", "class Cache:\n    raise NotImplementedError('Cache')").status == "blank"
    result = graded(zygote, "Cache", changed("Cache", ("return self.keys.shape[0]", "raise NotImplementedError")))
    assert (result.points, result.status) == (0, "not-implemented")


# Each deserves no point; none may stop the grader, and the next question is graded as if nothing had been.
HOSTILE = {
    "raises when made": changed("Cache", ("self.keys = torch.zeros(0, d)", "raise SystemExit(0)")),
    "raises when dropped": changed(
        "Cache",
        ("return self.keys.shape[0]", "return 7"),
        ("def crop", "def __del__(self):\n        1 / 0\n\n    def crop"),
    ),
    "ends the process when dropped": changed(
        "Cache",
        ("return self.keys.shape[0]", "return 7"),
        ("def crop", "def __del__(self):\n        import os\n        os._exit(0)\n\n    def crop"),
    ),
    "hangs when dropped": changed(
        "Cache",
        ("return self.keys.shape[0]", "return 7"),
        ("def crop", "def __del__(self):\n        while True: pass\n\n    def crop"),
    ),
    "lies about its class": changed(
        "Cache",
        ("def crop", "@property\n    def __class__(self):\n        return torch.nn.Module\n\n    def crop"),
        ("return self.keys.shape[0]", "return 7"),
    ),
    "equal to anything": changed(
        "Cache",
        (
            "return self.keys.shape[0]",
            "class Same(np.ndarray):\n            def __eq__(self, other): return True\n"
            "            def __array_ufunc__(self, *a, **k): return True\n"
            "        return np.zeros((), np.float32).view(Same)",
        ),
    ),
    "a tensor that answers for itself": changed(
        "Cache",
        (
            "return self.keys.shape[0]",
            "class Same(torch.Tensor):\n            @classmethod\n"
            "            def __torch_function__(cls, *a, **k): return True\n"
            "        return torch.zeros(()).as_subclass(Same)",
        ),
    ),
    "remembers by the class": changed(
        "Cache",
        ("self.keys = torch.zeros(0, d)", "pass"),
        ("class Cache:", "class Cache:\n    keys = torch.zeros(0, 3)\n"),
        ("self.keys = torch.cat", "Cache.keys = torch.cat"),
        ("self.keys = self.keys[:length]", "Cache.keys = self.keys[:length]"),
    ),
    "returns an object": changed("Cache", ("return self.keys.shape[0]", "return self")),
    "returns far too much": changed("Cache", ("return self.keys.shape[0]", "return torch.zeros(2**25)")),
    "asks for its answer": changed(
        "Cache",
        (
            "return self.keys.shape[0]",
            "import sys\n        worker = sys.modules['_attnkit_worker']\n        import gc\n"
            "        table = [o for o in gc.get_objects() if type(o).__name__ == 'Objects'][0]\n"
            "        table.held.clear()\n        return 7",
        ),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("hangs") else ()) for name in HOSTILE]
)
def test_no_class_gets_what_it_does_not_deserve(zygote: Zygote, name: str) -> None:
    assert graded(zygote, "Cache", HOSTILE[name]).points == 0
    assert graded(zygote, "softmax", RIGHT["softmax"]).points == 1


def test_a_module_that_changes_its_own_weights_is_wrong_from_the_second_call(zygote: Zygote) -> None:
    source = changed(
        "Linear",
        (
            "return x @ self.weight.T + self.bias",
            "y = x @ self.weight.T + self.bias\n        self.bias.data += 1\n        return y",
        ),
    )
    cells = read_submission(notebook_bytes(f"# question: Linear\n{source}"))
    weights = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    x = np.ones((1, 3), np.float32)
    worker = Worker(zygote, plan(cells, "Linear"), QUESTIONS["Linear"])
    try:
        reply = worker(Case(steps=(Build((3, 2)), Load(weights), Call((x,)), Call((x,)))), "torch")
        fresh = worker(Case(steps=(Build((3, 2)), Load(weights), Call((x,)), Get("bias"))), "torch")
    finally:
        worker.close()
    assert isinstance(reply, Answer)
    assert [one.tolist() for one in reply.value] == [[[3, 3]], [[4, 4]]]
    assert [one.tolist() for one in fresh.value] == [[[3, 3]], [1, 1]]


def test_weights_beyond_what_the_wire_takes_are_the_questions_error(zygote: Zygote) -> None:
    cells = read_submission(notebook_bytes(f"# question: Linear\n{RIGHT['Linear']}"))
    many = {f"weight{i}": np.zeros(1, np.float32) for i in range(300)}
    worker = Worker(zygote, plan(cells, "Linear"), QUESTIONS["Linear"])
    try:
        with pytest.raises(ValueError, match="at most 256 arrays"):
            worker(Case(steps=(Build((3, 2)), Load(many), Call())), "torch")
        # two hundred weights of a module as deep as they come do travel
        deep = {f"decoder.layers.{i}.self_attention.projection.weight": np.zeros(1, np.float32) for i in range(200)}
        reply = worker(Case(steps=(Build((3, 2)), Load(deep), Call())), "torch")
    finally:
        worker.close()
    assert isinstance(reply, Failure)
    assert reply.step == 2
    assert "and 196 more" in reply.message


def test_replies_are_not_kept_without_end(zygote: Zygote) -> None:
    source = changed("Cache", ("return self.keys.shape[0]", "return torch.zeros(2**22)"))
    cells = read_submission(notebook_bytes(f"# question: Cache\n{source}"))
    worker = Worker(zygote, plan(cells, "Cache"), QUESTIONS["Cache"])
    try:
        reply = worker(Case(steps=(Build((3,)), *[Call(method="length")] * 10)), "torch")
    finally:
        worker.close()
    assert isinstance(reply, Failure)
    assert (reply.kind, reply.step) == ("malformed", 8)


def test_feedback_on_a_class_tells_no_secret(zygote: Zygote) -> None:
    """With other secret inputs the student reads the same words."""
    source = changed("Linear", ("return x @", "raise ValueError(repr(x) + repr(self.weight))\n        return x @"))
    cells = read_submission(notebook_bytes(f"# question: Linear\n{source}"))
    results = [grade_question(zygote, QUESTIONS["Linear"], cells, digit * 64) for digit in "01"]
    assert results[0].told == results[1].told
    assert str(results[0].outcome) != str(results[1].outcome)
