"""What a question forbids is gone in the worker, under every name that a library has for it; the rest works."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnkit.grading import blocks as blocks_module
from attnkit.lab.bank import load_lab

WORDS = "is what this question asks you to write; it is not available here."
BLOCKS = Path(blocks_module.__file__)
LAB = load_lab("attention")
LATER = ("torch.nn.attention.flex_attention.flex_attention",)
SOFTMAX, ATTENTION = (list(LAB.questions[name].forbidden) for name in ("softmax", "attention"))

# Each expression runs in a fork, as a child of the zygote does: blocked there, and only there.
_SCRIPT = """
import importlib.util, json, os, sys
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
spec = importlib.util.spec_from_file_location("blocks", sys.argv[1])
blocks = importlib.util.module_from_spec(spec); spec.loader.exec_module(blocks)
blocks.prepare()
torch.set_num_threads(1)
x = torch.eye(3); q = torch.ones(1, 2, 4)
told = []
for names, source in json.loads(sys.stdin.read()):
    read, write = os.pipe()
    if os.fork() == 0:
        blocks.block(names)
        try:
            text = repr(eval(source))
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:4000])
        os._exit(0)
    os.close(write)
    told.append(os.fdopen(read).read())
    os.wait()
print(json.dumps(told))
"""


def tried(*pairs: tuple[list[str], str]) -> list[str]:
    """What each expression gives where these names are blocked."""
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(BLOCKS)],
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    return json.loads(run.stdout)


GONE = {
    "torch.softmax(x, -1)": SOFTMAX,
    "F.softmax(x, -1)": SOFTMAX,
    "x.softmax(-1)": SOFTMAX,
    "torch.Tensor.softmax(x, -1)": SOFTMAX,
    "nn.Parameter(x).softmax(-1)": SOFTMAX,
    "nn.Softmax(-1)(x)": SOFTMAX,
    "nn.modules.activation.Softmax(-1)(x)": SOFTMAX,
    "type('Mine', (nn.Softmax,), {})(-1)(x)": SOFTMAX,
    "torch.special.softmax(x, -1)": SOFTMAX,
    "torch._C._special.special_softmax(x, -1)": SOFTMAX,
    "torch._C._VariableFunctions.softmax(x, -1)": SOFTMAX,
    "torch._VF.softmax(x, -1)": SOFTMAX,
    "torch._C.TensorBase.softmax(x, -1)": SOFTMAX,
    "torch.ops.aten.softmax(x, -1)": SOFTMAX,
    "torch.ops.aten._softmax.default(x, -1, False)": SOFTMAX,
    "torch._softmax(x, -1, False)": SOFTMAX,
    "torch.log_softmax(x, -1).exp()": SOFTMAX,
    "F.log_softmax(x, -1).exp()": SOFTMAX,
    "F.gumbel_softmax(x)": SOFTMAX,
    "F.softmin(-x, -1)": SOFTMAX,
    "torch.distributions.Categorical(logits=x).probs": SOFTMAX,
    "__import__('torch').softmax(x, -1)": SOFTMAX,
    "F.scaled_dot_product_attention(q, q, q)": ATTENTION,
    "torch._C._nn.scaled_dot_product_attention(q, q, q)": ATTENTION,
    "torch.ops.aten.scaled_dot_product_attention(q, q, q)": ATTENTION,
    "nn.MultiheadAttention(4, 1)(q, q, q)": ATTENTION,
    "type('Mine', (nn.MultiheadAttention,), {})(4, 1)(q, q, q)": ATTENTION,
    "nn.TransformerEncoderLayer(4, 1)(q)": ATTENTION,
    "nn.Transformer(4, 1)(q, q)": ATTENTION,
    "F.multi_head_attention_forward(q, q, q, 4, 1)": ATTENTION,
    "np.exp(1.0)": ["numpy.exp"],
    "exec('from numpy import exp') or exec('import numpy; numpy.exp(1)')": ["numpy.exp"],
    "np.linalg.inv(np.eye(2))": ["numpy.linalg.inv"],
    "torch.fft.fft(x)": ["torch.fft"],
    "torch.nn.attention.sdpa_kernel([])": ["torch.nn.attention"],
    "exec('from torch.fft import fft; fft(x)')": ["torch.fft"],
    "exec('from torch.nn.attention.flex_attention import flex_attention as f; f(q, q, q)')": ATTENTION,
}
LEFT = {
    "float(x.exp().sum()) > 0": SOFTMAX,
    "float(torch.logsumexp(x, -1).sum()) > 0": SOFTMAX,
    "float(F.cross_entropy(x, torch.tensor([0, 1, 2]))) > 0": SOFTMAX,
    "float(nn.Linear(3, 2)(x).sum()) != 7": SOFTMAX,
    "float(F.relu(x).max() + F.layer_norm(x, (3,)).max()) > 0": SOFTMAX,
    "float(torch.from_numpy(np.ones(2)).detach().cpu().float().resolve_conj().numpy().sum()) == 2": SOFTMAX + ATTENTION,
    "float(torch.softmax(x, -1).sum()) == 3": ATTENTION,
    "float(nn.Softmax(-1)(x).sum()) == 3": ATTENTION,
    "len(torch.optim.SGD([nn.Parameter(x)], 0.1).param_groups) == 1": [*SOFTMAX, *ATTENTION, "torch.nn.attention"],
    "float(torch.autograd.grad(x.requires_grad_().exp().sum(), [x])[0].sum()) > 0": SOFTMAX + ATTENTION,
    "float(np.sin(0.0)) == 0": ["numpy.exp"],
    "__import__('json').loads('true')": ["json.loads", "builtins.len", "attnkit"],
    "float(x.softmax(-1).sum()) == 3": [],
}  # fmt: skip


@pytest.mark.slow
def test_what_is_forbidden_is_gone_under_every_name_and_says_why() -> None:
    told = tried(*((names, source) for source, names in GONE.items()))
    for source, text in zip(GONE, told, strict=True):
        assert text.startswith("RuntimeError: "), (source, text)
        assert text.endswith(WORDS), (source, text)


@pytest.mark.slow
def test_everything_else_still_works_also_in_the_fork_after_a_block() -> None:
    told = tried(*((names, source) for source, names in LEFT.items()))
    assert dict(zip(LEFT, told, strict=True)) == dict.fromkeys(LEFT, "True")


def test_a_package_that_is_loaded_later_is_seen_to_then(tmp_path: Path) -> None:
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy" / "__init__.py").write_text("")
    (tmp_path / "scipy" / "special.py").write_text("def softmax(x):\n    return x\n\ndef expit(x):\n    return x\n")
    import_it = f"(sys.path.insert(0, {str(tmp_path)!r}), __import__('scipy.special'), "
    found = tried(
        (SOFTMAX, import_it + "sys.modules['scipy.special'].expit(1))[-1]"),
        (SOFTMAX, import_it + "sys.modules['scipy.special'].softmax(1))[-1]"),
        (SOFTMAX, import_it + "exec('from scipy.special import softmax as s; s(1)'))[-1]"),
    )
    assert found[0] == "1"
    assert found[1] == found[2] == f"RuntimeError: scipy.special.softmax {WORDS}"


def test_every_name_that_the_lab_forbids_is_there_to_be_blocked_or_loaded_later() -> None:
    told = tried((SOFTMAX, "blocks.block(names)"), (ATTENTION, "blocks.block(names)"))
    assert [ast.literal_eval(text) for text in told] == [("scipy.special.softmax", "scipy.special.log_softmax"), LATER]
