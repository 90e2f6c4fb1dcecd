"""What every backend is measured by: the list of edge cases, the oracle and the error bound.

Students' own kernels can be held to the same standard:

    for example in EXAMPLES:
        measured = run("online", example, torch.float32)
        print(example.name, *judge(measured, example, torch.float32), sep="\\n  ")
"""

from attnkit.testing.bound import Verdict, judge, oracle, run, run_without_gradients, yardstick
from attnkit.testing.examples import EXAMPLES, Example, example, inputs

__all__ = [
    "EXAMPLES",
    "Example",
    "Verdict",
    "example",
    "inputs",
    "judge",
    "oracle",
    "run",
    "run_without_gradients",
    "yardstick",
]
