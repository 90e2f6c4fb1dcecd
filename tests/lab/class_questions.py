"""Questions whose answers are classes: a linear map, attention, a cache, a mask; and a function's gradient."""

from __future__ import annotations

import numpy as np

from attnkit.lab.question import Case, Mistake, Tolerance, question
from attnkit.lab.steps import Build, Call, Get, Gradient, Held, Load

CLOSE = Tolerance(1e-4, 1e-5)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


class LinearReference:
    def __init__(self, d_in, d_out):
        self.weight, self.bias = np.zeros((d_out, d_in)), np.zeros(d_out)

    def load(self, weights):
        self.weight, self.bias = weights.get("weight", self.weight), weights.get("bias", self.bias)

    def __call__(self, x):
        return x @ self.weight.T + self.bias


class Transposed(LinearReference):
    def __call__(self, x):
        return x @ self.weight.reshape(self.weight.shape[::-1]) + self.bias


class BiasForgotten(LinearReference):
    def __call__(self, x):
        return x @ self.weight.T


@question(points=3, answer="Linear")
class LinearQuestion:
    """A linear map with a bias."""

    frameworks = ("torch",)
    reference = LinearReference
    parts = {"ordinary": 1, "gradients": 2}  # noqa: RUF012  # a question's class body reads as data
    tolerance = CLOSE
    mistakes = (
        Mistake("you read the weight by columns", Transposed, "The weight is (d_out, d_in)."),
        Mistake("the bias is forgotten", BiasForgotten, "Add it."),
    )

    def cases(self, rng):
        weights = {"weight": draw(rng, 2, 3), "bias": draw(rng, 2)}
        x = draw(rng, 1, 3)
        yield Case(steps=(Build((3, 2)), Load(weights), Call((x,))), note="one row")
        many = draw(rng, 2, 4, 3)
        yield Case(steps=(Build((), {"d_in": 3, "d_out": 2}), Load(weights), Call((many,))), note="a batch")
        steps = (Build((3, 2)), Load(weights), Gradient((x,), {}, ("x",), ("weight", "bias"), draw(rng, 1, 2)))
        yield Case(steps=steps, part="gradients", note="one row's gradients")


class AttentionReference:
    """Multi-head attention with torch.nn.MultiheadAttention's weights: its output and its weights by head."""

    def __init__(self, d_model, heads):
        self.heads, self.weights = heads, {}

    def load(self, weights):
        self.weights = {**self.weights, **weights}

    def __call__(self, query, memory):
        w = self.weights
        projections = zip(np.split(w["in_proj_weight"], 3), np.split(w["in_proj_bias"], 3), strict=True)
        q, k, v = (
            x @ a.T + b for x, (a, b) in zip((query, memory, memory), projections, strict=True)
        )  # (batch, length, d_model)
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2) for x in (q, k, v))
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        attend = np.exp(scores - scores.max(-1, keepdims=True))
        attend /= attend.sum(-1, keepdims=True)
        out = (attend @ v).swapaxes(1, 2).reshape(query.shape)
        return out @ w["out_proj.weight"].T + w["out_proj.bias"], attend


@question(points=1, answer="Attention")
class AttentionQuestion:
    """Multi-head attention, which returns a tuple."""

    frameworks = ("torch",)
    reference = AttentionReference
    tolerance = CLOSE
    NAMES = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")

    def cases(self, rng):
        shapes = ((12, 4), (12,), (4, 4), (4,))
        weights = {name: draw(rng, *shape) for name, shape in zip(self.NAMES, shapes, strict=True)}
        query, memory = draw(rng, 2, 3, 4), draw(rng, 2, 5, 4)
        flows = (draw(rng, 2, 3, 4), draw(rng, 2, 2, 3, 5))
        make = (Build((4, 2)), Load(weights))
        yield Case(steps=(*make, Call((query, memory))), note="three queries, five keys")
        both = Gradient((query,), {"memory": memory}, ("query", "memory"), self.NAMES, flows)
        yield Case(steps=(*make, both), note="gradients through both outputs")
        one = Gradient((query, memory), {}, ("memory",), (), (flows[0], None))
        yield Case(steps=(*make, one), note="gradients through the first output")


class CacheReference:
    def __init__(self, d):
        self.keys = np.zeros((0, d))

    def append(self, keys):
        self.keys = np.concatenate([self.keys, keys])

    def length(self):
        return len(self.keys)

    def scores(self, query):
        return query @ self.keys.T

    def crop(self, length):
        self.keys = self.keys[:length]
        return self


class Overwrites(CacheReference):
    def append(self, keys):
        self.keys = keys


@question(points=2, answer="Cache")
class CacheQuestion:
    """A cache that grows."""

    reference = CacheReference
    tolerance = CLOSE
    mistakes = (Mistake("you replace what was there", Overwrites, "Append behind it."),)

    def cases(self, rng):
        first, second, query = draw(rng, 2, 3), draw(rng, 1, 3), draw(rng, 1, 3)
        add = [Call((rows,), method="append", keep="_") for rows in (first, second)]
        yield Case(steps=(Build((3,)), Call(method="length"), add[0], Call(method="length")), note="one append")
        grown = (Build((3,)), *add, Call((query,), method="scores"), Get("keys"))
        yield Case(steps=grown, note="two appends")
        two = (Build((3,), name="one"), Build((3,), name="other"), Call((first,), method="append", on="one", keep="_"))
        yield Case(steps=(*two, Call(method="length", on="other")), note="two caches")
        cropped = Call((1,), method="crop", keep="short")
        yield Case(steps=(Build((3,)), *add, cropped, Call(method="length", on="short")), note="a crop")


class MaskReference:
    def __init__(self, shift=0):
        self.shift = shift
        self.others = ()

    def __and__(self, other):
        both = MaskReference(self.shift)
        both.others = (*self.others, other)
        return both

    def visible(self, rows, columns):
        seen = np.arange(columns) <= np.arange(rows)[:, None] + self.shift
        for other in self.others:
            seen = seen & other.visible(rows, columns)
        return seen

    def apply(self, scores, also=None):
        seen = self.visible(*scores.shape)
        if also is not None:
            seen = seen & also.visible(*scores.shape)
        return np.where(seen, scores, -np.inf)


@question(points=1, answer="Mask")
class MaskQuestion:
    """A mask that combines with others."""

    reference = MaskReference

    def cases(self, rng):
        scores = draw(rng, 3, 3)
        yield Case(steps=(Build(), Call((2, 3), method="visible")), note="a causal mask")
        two = (Build(name="near"), Build((), {"shift": 1}, name="far"))
        held = Call((scores, Held("near")), method="apply", on="far")
        yield Case(steps=(*two, held), note="a mask given to another")
        both = Call((Held("far"),), method="__and__", on="near", keep="both")
        yield Case(steps=(*two, both, Call((scores,), method="apply", on="both")), note="two masks at once")


class DecoderReference:
    """One step of decoding: the running mean of what it has seen, with a cache that is handed from call to call."""

    def start(self):
        return CacheReference(2)

    def __call__(self, x, cache):
        cache.append(x)
        return cache.keys.mean(0), cache, cache.length()


@question(points=1, answer="Decoder")
class DecoderQuestion:
    """A call that returns what to compare and what to hand to the next call."""

    reference = DecoderReference
    tolerance = CLOSE

    def cases(self, rng):
        rows = [draw(rng, 1, 2) for _ in range(3)]
        steps = [Call((x, Held("cache")), keep=("", "cache", "")) for x in rows]
        yield Case(steps=(Build(), Call(method="start", keep="cache"), *steps), note="three steps")


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@question(points=1, answer="softmax")
class SoftmaxGradient:
    """Softmax and its gradient."""

    tolerance = CLOSE

    def reference(self, x):
        return _softmax(x)

    def cases(self, rng):
        x = draw(rng, 2, 3)
        yield Case((x,), note="two rows")
        yield Case(steps=(Call((x,)), Gradient((x,), arguments=("x",), cotangent=draw(rng, 2, 3))), note="its gradient")


ASKED = (LinearQuestion, AttentionQuestion, CacheQuestion, MaskQuestion, DecoderQuestion, SoftmaxGradient)
QUESTIONS = {one.name: one for one in ASKED}

# Right answers as a student writes them: torch and, where the question allows it, NumPy.
RIGHT = {
    "Linear": """
import torch
from torch import nn

class Linear(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_out, d_in))
        self.bias = nn.Parameter(torch.randn(d_out))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        return x @ self.weight.T + self.bias
""",
    "Attention": """
import torch

class Attention(torch.nn.MultiheadAttention):
    def __init__(self, d_model, heads):
        super().__init__(d_model, heads, batch_first=True)

    def forward(self, query, memory):
        return super().forward(query, memory, memory, average_attn_weights=False)
""",
    "Cache": """
import numpy as np
import torch

class Cache:
    def __init__(self, d):
        self.keys = torch.zeros(0, d)

    def append(self, keys):
        self.keys = torch.cat([self.keys, keys])

    def length(self):
        return self.keys.shape[0]

    def scores(self, query):
        return query @ self.keys.T

    def crop(self, length):
        self.keys = self.keys[:length]
        return self
""",
    "Mask": """
import torch

class Mask:
    def __init__(self, shift=0):
        self.see = lambda rows, columns: torch.ones(rows, columns, dtype=bool).tril(shift)

    def __and__(self, other):
        both = Mask()
        both.see = lambda rows, columns: self.see(rows, columns) & other.see(rows, columns)
        return both

    def visible(self, rows, columns):
        return self.see(rows, columns)

    def apply(self, scores, also=None):
        seen = (self & also if also else self).see(*scores.shape)
        return scores.masked_fill(~seen, float("-inf"))
""",
    "Decoder": """
import torch

class Decoder:
    def start(self):
        return []

    def __call__(self, x, cache):
        cache = [*cache, x]
        return torch.cat(cache).mean(0), cache, len(cache)
""",
    "softmax": "import torch\ndef softmax(x):\n    return torch.softmax(x, -1)\n",
}
