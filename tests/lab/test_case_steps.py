"""Questions that ask for classes, in the notebook: scripts, their gradients, and what feedback says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnkit.lab.calling import InProcess, frameworks_of
from attnkit.lab.judge import judge
from attnkit.lab.question import Case, QuestionError, question
from attnkit.lab.reference import as_call, run_trusted
from attnkit.lab.steps import Build, Call, Get, Gradient, Held, Load

from .class_questions import QUESTIONS, RIGHT, LinearReference, draw


def defined(source: str, name: str):
    namespace: dict = {"__name__": "student"}
    exec(source, namespace)
    return namespace[name]


def outcome(name: str, source: str = "", seed: int = 0):
    asked = QUESTIONS[name]
    answer = defined(source or RIGHT[name], name)
    return judge(asked, InProcess(answer, asked), asked.cases(np.random.default_rng(seed)), frameworks_of(answer))


def changed(name: str, before: str, after: str) -> str:
    assert before in RIGHT[name]
    return RIGHT[name].replace(before, after)


@pytest.mark.parametrize("name", QUESTIONS)
def test_right_answers_pass_and_so_does_the_reference(name: str) -> None:
    asked = QUESTIONS[name]
    assert outcome(name).passed, outcome(name).as_text()
    trusted = judge(asked, as_call(asked.reference, asked), asked.cases(np.random.default_rng(1)), ("numpy",))
    assert trusted.passed, trusted.as_text()


def test_every_mistake_of_a_class_question_is_named() -> None:
    for asked in QUESTIONS.values():
        for mistake in asked.mistakes:
            found = judge(asked, as_call(mistake.wrong, asked), asked.cases(np.random.default_rng(1)), ("torch",))
            assert found.mistake is not None
            assert found.mistake.name == mistake.name
            assert found.points < asked.points


def test_central_differences_agree_with_torchs_own_gradients() -> None:
    """torch.nn.Linear and torch.nn.MultiheadAttention in double precision; ours are right to 1e-8."""
    modules = {"Linear": torch.nn.Linear(3, 2), "Attention": defined(RIGHT["Attention"], "Attention")(4, 2)}
    places = {"Linear": ["x"], "Attention": ["query", "memory"]}
    checked = 0
    for name, module in modules.items():
        asked = QUESTIONS[name]
        for case in asked.cases(np.random.default_rng(3)):
            last = case.steps[-1]
            if not isinstance(last, Gradient):
                continue
            weights = {key: torch.tensor(value).double() for key, value in case.steps[1].weights.items()}
            module.double().zero_grad()
            module.load_state_dict(weights)
            args = [torch.tensor(value).double().requires_grad_() for value in (*last.args, *last.kwargs.values())]
            output = module(*args)
            outputs, flows = (output, last.cotangent) if isinstance(output, tuple) else ((output,), (last.cotangent,))
            sum((o * torch.tensor(c)).sum() for o, c in zip(outputs, flows, strict=True) if c is not None).backward()
            want = [args[places[name].index(one)].grad for one in last.arguments]
            want += [dict(module.named_parameters())[one].grad for one in last.weights]
            (got,) = run_trusted(asked.reference, asked, case)
            for one, other in zip(got, want, strict=True):
                np.testing.assert_allclose(one, other.numpy(), rtol=1e-8, atol=1e-8)
                checked += 1
    assert checked == 3 + 6 + 1


def test_a_reference_may_give_its_own_gradients() -> None:
    class Own(LinearReference):
        def gradients(self, cotangent, x):
            return {"x": cotangent @ self.weight, "weight": cotangent.T @ x, "bias": cotangent.sum(0)}

    asked = QUESTIONS["Linear"]
    case = list(asked.cases(np.random.default_rng(0)))[-1]
    given, found = run_trusted(Own, asked, case), run_trusted(LinearReference, asked, case)
    for one, other in zip(given[0], found[0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_the_step_that_differs_is_named_and_the_script_shown() -> None:
    found = outcome("Linear", changed("Linear", "+ self.bias", ""))
    assert found.points == 0
    assert found.mistake.name == "the bias is forgotten"
    assert found.results[0].why.startswith("after step 3, `it(x)`: 2 of 2 values differ")
    text = found.as_text()
    lines = [line.strip() for line in text.splitlines()]
    at = lines.index("it = Linear(3, 2)")
    assert lines[at + 1 : at + 3] == ["it.load_state_dict({'weight': weight, 'bias': bias})", "it(x)"]
    assert any(line.startswith("weight = [[") for line in lines)
    assert any(line.startswith("your answer: [[") for line in lines)


def test_a_wrong_gradient_costs_its_part_and_is_shown_as_python() -> None:
    found = outcome("Linear", changed("Linear", "+ self.bias", "+ self.bias.detach()"))
    assert found.parts == {"ordinary": True, "gradients": False}
    assert "torch.autograd.grad(it(x), [x, it.weight, it.bias], cotangent)" in found.as_text()
    assert "the gradient of bias: 2 of 2 values differ; yours is zero everywhere" in found.counterexample.why
    assert found.counterexample.got == "[0, 0]"
    frozen = changed("Linear", "x @ self.weight.T + self.bias", "(x @ self.weight.T + self.bias).detach()")
    assert "zero everywhere" in outcome("Linear", frozen).counterexample.why


def test_weights_of_other_names_or_shapes_are_told() -> None:
    found = outcome("Linear", RIGHT["Linear"].replace("self.weight", "self.kernel"))
    message = found.failure.message
    assert "It should have: weight (2, 3)." in message
    assert "Yours has instead: kernel (2, 3)." in message
    assert found.failure.step == 2
    assert "Its last line fails. The weights of your class" in " ".join(found.as_text().split())
    other = outcome("Linear", changed("Linear", "torch.randn(d_out, d_in)", "torch.randn(d_in, d_out)"))
    assert "weight (3, 2), which should be (2, 3)" in other.failure.message
    more = outcome(
        "Linear",
        changed("Linear", "self.register_buffer", "self.extra = nn.Parameter(torch.ones(1));self.register_buffer"),
    )
    assert "Yours has, beyond what it should: extra (1,)." in more.failure.message


def test_a_buffer_takes_a_weight_that_is_named_for_it_and_is_left_alone_otherwise() -> None:
    asked, answer = QUESTIONS["Linear"], defined(RIGHT["Linear"], "Linear")
    weights = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    for more, want in (({}, [0.0]), ({"seen": np.array([5.0], np.float32)}, [5.0])):
        reply = InProcess(answer, asked)(Case(steps=(Build((3, 2)), Load({**weights, **more}), Get("seen"))), "torch")
        assert reply.value[0].tolist() == want


def test_frozen_parameters_have_a_gradient_of_zeros() -> None:
    found = outcome(
        "Linear", changed("Linear", "self.register_buffer", "self.weight.requires_grad_(False);self.register_buffer")
    )
    assert found.parts == {"ordinary": True, "gradients": False}
    assert "the gradient of weight: 6 of 6 values differ; yours is zero" in found.counterexample.why


def test_an_array_as_a_numpy_class_takes_weights_by_load_or_by_name() -> None:
    @question(points=1, answer="Scale")
    class Scale:
        """Scale."""

        class reference:
            def load(self, weights):
                self.by = weights["by"]

            def __call__(self, x):
                return x * self.by

        def cases(self, rng):
            yield Case(steps=(Build(), Load({"by": draw(rng, 3)}), Call((draw(rng, 2, 3),))))

    for body in ("by = None", "def load(self, weights): self.by = weights['by']"):
        source = f"class Scale:\n    {body}\n    def __call__(self, x): return x * self.by"
        call = InProcess(defined(source, "Scale"), Scale)
        assert judge(Scale, call, Scale.cases(np.random.default_rng(0)), ("numpy",)).passed
    source = "class Scale:\n    def __init__(self): self.factor = None\n    def __call__(self, x): return x"
    call = InProcess(defined(source, "Scale"), Scale)
    told = judge(Scale, call, Scale.cases(np.random.default_rng(0)), ("numpy",)).failure.message
    assert "by (3,)" in told


def test_objects_do_not_live_from_case_to_case() -> None:
    counting = (
        "class Cache:\n    def __init__(self, d):\n        self.n = 0\n    def length(self):\n        return self.n\n"
        "    def append(self, rows):\n        self.n += len(rows)\n"
        "    def crop(self, n):\n        self.n = n\n        return self\n"
    )
    found = outcome("Cache", counting)
    assert [result.passed for result in found.results] == [True, False, True, True]
    assert "AttributeError" in found.results[1].why


def test_what_is_missing_raises_or_is_not_written_is_told_by_its_step() -> None:
    found = outcome("Cache", changed("Cache", "return query @ self.keys.T", "raise NotImplementedError"))
    assert any(result.why == "not written yet" for result in found.results)
    found = outcome("Cache", changed("Cache", "self.keys = torch.zeros(0, d)", "raise ValueError('no ' + str(d))"))
    assert (found.failure.step, found.failure.message) == (1, "ValueError: no 3")
    assert "it = Cache(3)" in found.as_text()
    found = outcome("Cache", changed("Cache", "return self.keys.shape[0]", "pass"))
    assert found.failure.message.startswith("Your function returned None")
    assert found.failure.step == 2


def test_a_written_argument_is_noted_by_its_name() -> None:
    found = outcome(
        "Linear", changed("Linear", "return x", "x = x.mul_(1) if x.requires_grad else x.mul_(2)\n        return x")
    )
    assert any("changes its input (x)" in note for note in found.notes)


def test_a_cache_in_numpy_passes_too() -> None:
    source = (
        RIGHT["Cache"]
        .replace("torch.zeros(0, d)", "np.zeros((0, d), np.float32)")
        .replace("torch.cat", "np.concatenate")
    )
    answer = defined(source, "Cache")
    asked = QUESTIONS["Cache"]
    found = judge(asked, InProcess(answer, asked), asked.cases(np.random.default_rng(0)), ("torch", "numpy"))
    assert found.passed


def test_a_gradient_is_one_call_to_an_object_that_remembers() -> None:
    class Counts:
        def __init__(self):
            self.calls = 0

        def __call__(self, x):
            self.calls += 1
            return x * self.calls

    @question(points=1, answer="Counts")
    class Asked:
        """Counts its calls."""

        reference = Counts

        def cases(self, rng):
            x = draw(rng, 3)
            yield Case(steps=(Build(), Gradient((x,), arguments=("x",)), Call((x,)), Get("calls")))

    (case,) = Asked.cases(np.random.default_rng(0))
    flow, second, calls = run_trusted(Asked.reference, Asked, case)
    np.testing.assert_allclose(flow[0], [1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(second, 2 * case.steps[1].args[0])
    assert calls == 2
    assert judge(Asked, InProcess(Counts, Asked), [case], ("torch",)).passed


def test_a_call_may_return_what_is_compared_with_what_is_handed_on() -> None:
    found = outcome("Decoder", changed("Decoder", ".mean(0)", ".sum(0)"))
    assert "out, cache, out = it(x2, cache)" in found.as_text()
    assert "after step 4" in found.counterexample.why
    found = outcome("Decoder", changed("Decoder", ", cache, len(cache)", ", cache"))
    assert found.failure.message == "Your answer returned a tuple of 2; it should return a tuple of 3."


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((Call((1,)), Build()), "no object called 'it'"),
        ((Build(), Call((Held("other"),))), "no object called 'other'"),
        ((Build(), Call(keep="a b")), "no name in Python"),
        ((Build(), Call(keep="x")), "no step compares"),
        ((Build(), Load({})), "no weights"),
        ((Build(), Gradient((np.ones(1),))), "neither arguments nor weights"),
        ((Build(), Gradient((), weights=("w",))), "were not loaded before"),
    ],
)
def test_a_script_that_no_object_could_follow_is_its_authors_error(steps: tuple, words: str) -> None:
    with pytest.raises(QuestionError, match=words):
        Case(steps=steps)
    with pytest.raises(QuestionError, match="had args and steps"):
        Case((1,), steps=(Build(), Call()))


def test_a_reference_that_cannot_answer_is_its_authors_error() -> None:
    asked = QUESTIONS["Cache"]
    with pytest.raises(QuestionError, match="step 2 gives None"):
        run_trusted(asked.reference, asked, Case(steps=(Build((3,)), Call((np.ones((1, 3)),), method="append"))))

    @question(points=1, answer="relu")
    class Relu:
        """relu."""

        def reference(self, x):
            return np.maximum(x, 0)

        def cases(self, rng):
            yield Case((np.ones(1),))

    kink = Case(steps=(Gradient((np.array([1.0, 0.0]),), arguments=("x",)),))
    with pytest.raises(QuestionError, match=r"x\[1\] lies where there is no gradient"):
        run_trusted(Relu.reference, Relu, kink)
    with pytest.raises(QuestionError, match="should be one of"):
        run_trusted(Relu.reference, Relu, Case(steps=(Gradient((np.ones(1),), arguments=("y",)),)))


def test_a_module_takes_tensors_and_frameworks_are_kept_to() -> None:
    assert frameworks_of(defined(RIGHT["Linear"], "Linear")) == ("torch",)
    assert Get("keys") != Get("keys")
    with pytest.raises(QuestionError, match="frameworks was"):

        @question(points=1, answer="f")
        class Odd:
            """f."""

            frameworks = ("jax",)

            def reference(self, x):
                return x

            def cases(self, rng):
                yield Case((1.0,))


def test_a_class_that_is_only_a_numpy_one_hears_why_it_has_no_gradient() -> None:
    source = (
        "class Linear:\n    weight = bias = None\n    def __init__(self, d_in, d_out): pass\n"
        "    def __call__(self, x): return x @ self.weight.T + self.bias"
    )
    found = outcome("Linear", source)
    assert found.parts == {"ordinary": True, "gradients": False}
    assert "derive from torch.nn.Module" in " ".join(found.as_text().split())
