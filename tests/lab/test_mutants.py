"""Mutation test of the questions: small changes to the reference solution must not get full marks.

Mutants that compute the same are no mutants: they are found by comparing with the reference on many drawn cases
at double precision, and left out of the count.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

import numpy as np
import pytest

from attnkit.authoring.labs import find_masters, reference_answers

from .conftest import SPEC, judged

SWAPPED_NAMES = {"query": "key", "key": "value", "value": "key", "axis": "axis"}
OPERATORS = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div, ast.Add],
    ast.Div: [ast.Mult, ast.Sub],
    ast.MatMult: [ast.Mult],
    ast.BitOr: [ast.BitAnd, ast.BitXor],
    ast.BitAnd: [ast.BitOr],
}
METHODS = {"max": ["min", "sum", "mean"], "sum": ["max", "mean", "prod"], "any": ["all"], "all": ["any"]}
FUNCTIONS = {"exp": ["expm1", "exp2", "abs"], "sqrt": ["log", "square"]}


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Replacements for one node of the tree: another operator, axis, name, a term dropped."""
    if isinstance(node, ast.BinOp):
        for operator in OPERATORS.get(type(node.op), []):
            yield ast.BinOp(node.left, operator(), node.right)
        yield node.left
        yield node.right
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        for change in (-1, 1):
            yield ast.Constant(node.value + change)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) is float:
        yield ast.Constant(node.value + 1.0)
    elif isinstance(node, ast.Attribute) and node.attr in METHODS | FUNCTIONS:
        for name in (METHODS | FUNCTIONS)[node.attr]:
            yield ast.Attribute(node.value, name, node.ctx)
    elif isinstance(node, ast.Name) and node.id in SWAPPED_NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Name(SWAPPED_NAMES[node.id], node.ctx)
    if isinstance(node, ast.Call) and node.args:
        yield node.args[0]
        if len(node.args) == 3:  # np.where, np.swapaxes
            yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], node.keywords)
            yield node.args[1]
        for i in range(len(node.keywords)):
            yield ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])


def mutants(source: str) -> Iterator[str]:
    """Every single replacement in the body of the function that `source` defines."""
    tree = ast.parse(source)
    for number in range(sum(1 for _ in ast.walk(tree))):
        for choice in range(6):
            fresh = copy.deepcopy(tree)
            target = list(ast.walk(fresh))[number]
            options = list(variants(target))
            if choice >= len(options):
                break
            yield ast.unparse(ast.fix_missing_locations(Replace(target, options[choice]).visit(fresh)))


class Replace(ast.NodeTransformer):
    def __init__(self, target, replacement):
        self.target, self.replacement = target, replacement

    def visit(self, node):
        return self.replacement if node is self.target else super().visit(node)


def defined(sources: dict[str, str], name: str, mutant: str):
    """The function `name` of `mutant`, among the unchanged functions of the lab."""
    space: dict = {"np": np}
    for source in sources.values():
        exec(source, space)
    exec(mutant, space)
    return space[name]


def equivalent(function, question) -> bool:
    """Whether `function` gives the reference's values, in double precision, on many drawn cases."""
    for seed in range(100, 110):
        for case in question.cases(np.random.default_rng(seed)):
            args = [a.astype(float) if a.dtype.kind == "f" else a.copy() for a in case.args]
            with np.errstate(all="ignore"):
                got = np.asarray(function(*args))
                want = question.reference(*args)
            if got.shape != want.shape or not np.allclose(got, want, rtol=1e-9, atol=1e-12):
                return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SPEC.questions))
def test_mutants_of_the_reference_do_not_get_full_marks(root, name: str, record_property) -> None:
    question = SPEC.questions[name]
    sources = reference_answers(find_masters(root, "attention")[0])
    found = {mutant for mutant in mutants(sources[name]) if mutant != ast.unparse(ast.parse(sources[name]))}
    killed, alive, same = 0, [], 0
    for mutant in sorted(found):
        function = defined(sources, name, mutant)
        if judged(question, function, seed=1, frameworks=("numpy",)).points < question.points:
            killed += 1
        elif equivalent(function, question):
            same += 1
        else:
            alive.append(mutant)
    rate = killed / (killed + len(alive))
    print(f"{name}: {killed} of {killed + len(alive)} mutants caught ({rate:.0%}); {same} compute the same")
    record_property("kill rate", rate)
    assert killed >= 20, "the mutants should be many"
    assert rate >= 0.95, "\n\n".join(alive)
