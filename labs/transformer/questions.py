"""The Transformer: its block, its loss, its schedule, and a translator that learns.

Seven questions. The first six are judged on values, the last also by what a model that was trained with it writes about
sentences that it has never met. Numbers are drawn as eighths, which float32 holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import erf, log, sqrt
from typing import Any, ClassVar

import numpy as np

from attnkit.lab.question import Case, Invariant, Mistake, Threshold, Tolerance, question
from attnkit.lab.steps import Build, Call, Gradient, Load, Step

PAD, BOS, EOS = 0, 1, 2
FIRST = 3  # the first id that is a word
EPS = 1e-5  # what torch's layer norm adds under the root
SMOOTHING = 0.1

# A few layers in single precision, each of which may divide by a small standard deviation.
SINGLE_PRECISION = Tolerance(rtol=1e-3, atol=1e-4)

# Calls that would be the answer.
_NO_LAYER_NORM = (
    *(f"torch.nn.functional.{name}" for name in ("layer_norm", "group_norm", "instance_norm", "batch_norm")),
    *(f"torch.{name}" for name in ("layer_norm", "native_layer_norm", "group_norm", "native_group_norm")),
    *("torch.nn.LayerNorm", "torch.nn.GroupNorm", "attnkit"),
)
_NO_TRANSFORMER = (
    *("torch.nn.Transformer", "torch.nn.TransformerEncoder", "torch.nn.TransformerEncoderLayer"),
    *("torch.nn.TransformerDecoder", "torch.nn.TransformerDecoderLayer", "attnkit"),
)
_NO_CROSS_ENTROPY = (
    *(f"torch.nn.functional.{name}" for name in ("cross_entropy", "nll_loss", "kl_div")),
    *(f"torch.nn.{name}" for name in ("CrossEntropyLoss", "NLLLoss", "KLDivLoss")),
    *("torch.nll_loss", "torch.kl_div", "attnkit"),
)


def _array(rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def _draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Eighths between -2 and 2."""
    return (rng.integers(-16, 17, size=shape) / 8).astype(np.float32)


# --- layer norm ------------------------------------------------------------------------------------------------------


def _layer_norm(x: np.ndarray, gain: np.ndarray, shift: np.ndarray, eps: float) -> np.ndarray:
    """(x - mean) / sqrt(variance + eps) over the last axis, then gain and shift."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * gain + shift


def _normed(
    divide: Callable[..., Any], axis: int | tuple[int, ...] | None = -1, centred: bool = True
) -> Callable[..., Any]:
    """A layer norm whose divisor is `divide(variance, eps)`, with mean and variance over `axis`."""

    def wrong(x, gain, shift, eps):
        if not x.size:
            return x
        mean = x.mean(axis=axis, keepdims=True)
        variance = ((x - mean) ** 2).mean(axis=axis, keepdims=True)
        return (x - mean if centred else x) / divide(variance, eps) * gain + shift

    return wrong


def _unbiased(x, gain, shift, eps):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)
    return (x - mean) / np.sqrt(variance + eps) * gain + shift


def _unbiased_outside(x, gain, shift, eps):
    mean = x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1))
    return (x - mean) / (deviation + eps) * gain + shift


def _rms(x, gain, shift, eps):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * gain + shift


def _shift_first(x, gain, shift, eps):
    return (_layer_norm(x, np.ones_like(gain), np.zeros_like(shift), eps) + shift) * gain


def _root(variance, eps):
    return np.sqrt(variance + eps)


def _affine(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A gain and a shift of which no entry is 0 and no two are equal, as far as there are eighths."""
    return _array(1 + rng.permutation(width) / 8), _array((1 + rng.permutation(width)) / 8)


@question(points=3, answer="layer_norm")
class LayerNorm:
    """Layer norm over the last axis, with eps under the root."""

    read = "block#block-norm"
    forbidden = _NO_LAYER_NORM
    tolerance = Tolerance(rtol=1e-3, atol=1e-5)
    parts: ClassVar = {"ordinary": 1, "shapes": 1, "extreme": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """The first has a variance of 9 and eps = 7, so that the root is 4 and can be taken by head."""
        low = float(rng.integers(-2, 3))
        plain = np.ones(2, np.float32), np.zeros(2, np.float32)
        yield Case((_array([low, low + 6]), *plain, 7.0), note="one token of two numbers, and eps = 7")
        yield Case((self._rows(rng, 2, 3), *_affine(rng, 3), 0.5), note="two tokens, gain and shift, eps = 0.5")
        yield Case((self._rows(rng, 3, 4), *_affine(rng, 4), 0.125), note="three tokens of four numbers")
        yield Case((self._rows(rng, 2, 2, 3), *_affine(rng, 3), 0.25), note="a batch of two, two tokens each")

        yield Case((_draw(rng, 5), *_affine(rng, 5), 0.25), part="shapes", note="a single token of five numbers")
        yield Case((_draw(rng, 3, 1), *_affine(rng, 1), 0.5), part="shapes", note="tokens of one number each")
        yield Case((_draw(rng, 2, 3, 2, 4), *_affine(rng, 4), 0.25), part="shapes", note="an array with four axes")
        yield Case((_draw(rng, 0, 4), *_affine(rng, 4), 0.25), part="shapes", note="no tokens at all, shape (0, 4)")

        same = _array([[low, low, low]])
        yield Case((same, *_affine(rng, 3), 0.5), part="extreme", note="a token whose numbers are all equal")
        small = _draw(rng, 2, 4) / 1024
        yield Case((small, *_affine(rng, 4), 2.0**-14), part="extreme", note="small numbers, and an eps of their size")
        far = self._rows(rng, 2, 4) + _array(8192)
        yield Case((far, *_affine(rng, 4), 2.0**-10), part="extreme", note="numbers near 8192 that differ by little")
        yield Case((4096 * self._rows(rng, 2, 3), *_affine(rng, 3), 0.5), part="extreme", note="large numbers")

    def _rows(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """Like `_draw`, and each row has two different numbers at least."""
        x = _draw(rng, *shape)
        x[..., 0] = x[..., 1] + np.float32(1.5)
        return x

    def reference(self, x: np.ndarray, gain: np.ndarray, shift: np.ndarray, eps: float) -> np.ndarray:
        """(x - mean) / sqrt(variance + eps) * gain + shift, with the variance divided by n."""
        return _layer_norm(x, gain, shift, eps)

    invariants = (
        Invariant(
            "a value is nan or inf",
            lambda got, x, gain, shift, eps: bool(np.isfinite(got).all()),
            "eps keeps the root away from 0, even where all numbers of a token are equal.",
            "block#block-norm",
        ),
        Invariant(
            "without gain and shift, a token does not sum to 0",
            lambda got, x, gain, shift, eps: bool(np.allclose(((got - shift) / gain).sum(-1), 0, atol=0.02)),
            "Subtract the token's own mean, over the last axis; the gain and the shift come at the very end.",
            "block#block-norm",
        ),
        Invariant(
            "without gain and shift, a token has a variance above 1",
            lambda got, x, gain, shift, eps: bool((((got - shift) / gain).var(-1) <= 1.01).all()),
            "Divide by a number that is no smaller than the token's standard deviation.",
            "block#block-norm",
        ),
    )

    mistakes = (
        Mistake(
            "eps is added to the standard deviation",
            _normed(lambda variance, eps: np.sqrt(variance) + eps),
            "eps stands under the root: sqrt(variance + eps). Outside it, a small eps hardly shows, except on tokens "
            "whose numbers are small.",
            "model#museum-eps-outside-root",
        ),
        Mistake(
            "the variance is divided by n - 1",
            _unbiased,
            "Layer norm divides by n, as np.var does. torch.var divides by n - 1 unless you pass correction=0. A token "
            "of one number has nothing left to divide by then.",
            "model#museum-unbiased-std",
        ),
        Mistake(
            "the standard deviation of n - 1 is taken, and eps added to it",
            _unbiased_outside,
            "Two things: the variance is divided by n, and eps stands under the root. torch's x.std() does neither.",
            "model#museum-unbiased-std",
        ),
        Mistake(
            "eps is left out",
            _normed(lambda variance, eps: np.sqrt(variance)),
            "A token whose numbers are all equal has a variance of 0, and 0 / 0 is nan. Add eps under the root.",
            "block#block-norm",
        ),
        Mistake(
            "the root is missing",
            _normed(lambda variance, eps: variance + eps),
            "You divide by the variance. Divide by its root, or numbers twice as large come out half as large.",
            "block#block-norm",
        ),
        Mistake(
            "the mean is not subtracted",
            _normed(_root, centred=False),
            "The numerator is x - mean: a token keeps nothing of an offset that all its numbers share.",
            "block#block-norm",
        ),
        Mistake(
            "you wrote an RMS norm",
            _rms,
            "RMS norm divides by the root of the mean square and keeps the mean. Layer norm subtracts the mean first.",
            "block#block-norm",
        ),
        Mistake(
            "mean and variance run over the tokens",
            _normed(_root, axis=0),
            "Take them over the last axis, the numbers of one token. A token's norm must not depend on its neighbours.",
            "block#block-norm",
        ),
        Mistake(
            "mean and variance run over the whole array",
            _normed(_root, axis=None),
            "Every token is normalised by itself: over the last axis, with that axis kept (keepdims).",
            "block#block-norm",
        ),
        Mistake(
            "mean and variance run over the last axis but one",
            _normed(_root, axis=-2),
            "The last axis but one counts tokens. Take mean and variance over the last one (-1).",
            "block#block-norm",
        ),
        Mistake(
            "the gain is left out",
            lambda x, gain, shift, eps: _layer_norm(x, np.ones_like(gain), shift, eps),
            "Multiply by the gain, number by number, after dividing.",
            "block#block-norm",
        ),
        Mistake(
            "the shift is left out",
            lambda x, gain, shift, eps: _layer_norm(x, gain, np.zeros_like(shift), eps),
            "Add the shift at the end, or the output of a token always sums to about 0.",
            "block#block-norm",
        ),
        Mistake(
            "gain and shift are exchanged",
            lambda x, gain, shift, eps: _layer_norm(x, shift, gain, eps),
            "The gain multiplies, the shift is added.",
            "block#block-norm",
        ),
        Mistake(
            "the shift is added before the gain multiplies",
            _shift_first,
            "First times the gain, then plus the shift. The other way round, the shift is scaled, too.",
            "block#block-norm",
        ),
    )


# --- the block -------------------------------------------------------------------------------------------------------


def _softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


_erf = np.vectorize(erf, otypes=[float])


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + _erf(x / sqrt(2)))


def _attend(x: np.ndarray, memory: np.ndarray, weight: np.ndarray, heads: int, mask: Any) -> np.ndarray:
    """Multi-head attention; `weight` holds four matrices: for query, key, value and output."""

    def split(t: np.ndarray) -> np.ndarray:
        return t.reshape(*t.shape[:2], heads, -1).swapaxes(1, 2)

    query, key, value = (split(t @ w) for t, w in zip((x, memory, memory), weight[:3], strict=True))
    scores = query @ key.swapaxes(-1, -2) / sqrt(query.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return (_softmax(scores) @ value).swapaxes(1, 2).reshape(x.shape) @ weight[3]


class _Block:
    """Branches that add to the stream, each with its norm. Mistakes override what they get wrong."""

    def __init__(self, d_model, heads, d_hidden, norm_first=False, reads=False):
        self.heads, self.norm_first, self.reads = heads, norm_first, reads
        self.weights: dict[str, np.ndarray] = {}

    def load(self, weights):
        self.weights = {**self.weights, **weights}

    def norm(self, name, x):
        return _layer_norm(x, self.weights[f"norm_{name}.weight"], self.weights[f"norm_{name}.bias"], EPS)

    def attend(self, name, x, memory, mask):
        return _attend(x, memory, self.weights[f"{name}.weight"], self.heads, mask)

    def feed(self, x):
        up, down = (
            (self.weights[f"feed_forward.{name}.weight"].T, self.weights[f"feed_forward.{name}.bias"])
            for name in ("up", "down")
        )
        return _gelu(x @ up[0] + up[1]) @ down[0] + down[1]

    def branches(self, mask, memory, memory_mask):
        """The branches by the names of their norms, in the order in which they add."""
        found = {"attention": lambda x: self.attend("attention", x, x, mask)}
        if self.reads:
            found["cross"] = lambda x: self.attend("cross", x, memory, memory_mask)
        return {**found, "feed_forward": self.feed}

    def add(self, name, branch, x):
        return x + branch(self.norm(name, x)) if self.norm_first else self.norm(name, x + branch(x))

    def __call__(self, x, mask=None, memory=None, memory_mask=None):
        for name, branch in self.branches(mask, memory, memory_mask).items():
            x = self.add(name, branch, x)
        return x


class _AlwaysPost(_Block):
    def add(self, name, branch, x):
        return self.norm(name, x + branch(x))


class _AlwaysPre(_Block):
    def add(self, name, branch, x):
        return x + branch(self.norm(name, x))


class _OrdersExchanged(_Block):
    def add(self, name, branch, x):
        return self.norm(name, x + branch(x)) if self.norm_first else x + branch(self.norm(name, x))


class _NoResidual(_Block):
    def add(self, name, branch, x):
        return branch(self.norm(name, x)) if self.norm_first else self.norm(name, branch(x))


class _NormedStream(_Block):
    """Pre-norm, but what the branch is added to is the normalised stream."""

    def add(self, name, branch, x):
        if not self.norm_first:
            return super().add(name, branch, x)
        x = self.norm(name, x)
        return x + branch(x)


class _NormOfBranch(_Block):
    """Post-norm, but only the branch's output is normalised."""

    def add(self, name, branch, x):
        return super().add(name, branch, x) if self.norm_first else x + self.norm(name, branch(x))


class _Parallel(_Block):
    """Every branch reads what came into the block."""

    def __call__(self, x, mask=None, memory=None, memory_mask=None):
        start = x
        for name, branch in self.branches(mask, memory, memory_mask).items():
            x = x + branch(self.norm(name, start)) if self.norm_first else self.norm(name, x + branch(start))
        return x


class _OneNorm(_Block):
    def norm(self, name, x):
        return super().norm("attention", x)


class _NoFeedForward(_Block):
    def branches(self, mask, memory, memory_mask):
        found = super().branches(mask, memory, memory_mask)
        found.pop("feed_forward")
        return found


class _NoMask(_Block):
    def branches(self, mask, memory, memory_mask):
        return super().branches(None, memory, memory_mask)


class _NoMemoryMask(_Block):
    def branches(self, mask, memory, memory_mask):
        return super().branches(mask, memory, None)


class _MaskForBoth(_Block):
    def branches(self, mask, memory, memory_mask):
        return super().branches(mask, memory, mask)


class _IgnoresMemory(_Block):
    """Cross-attention that attends to the stream itself."""

    def branches(self, mask, memory, memory_mask):
        found = super().branches(mask, memory, memory_mask)
        if self.reads:
            found["cross"] = lambda x: self.attend("cross", x, x, None)
        return found


class _NeverReads(_Block):
    def branches(self, mask, memory, memory_mask):
        found = super().branches(mask, memory, memory_mask)
        found.pop("cross", None)
        return found


class _ReadsFirst(_Block):
    def branches(self, mask, memory, memory_mask):
        found = super().branches(mask, memory, memory_mask)
        return {name: found[name] for name in ("cross", "attention", "feed_forward") if name in found}


class _ReadsLast(_Block):
    def branches(self, mask, memory, memory_mask):
        found = super().branches(mask, memory, memory_mask)
        return {name: found[name] for name in ("attention", "feed_forward", "cross") if name in found}


class _NormsMemory(_Block):
    """Pre-norm that normalises the memory as well."""

    def branches(self, mask, memory, memory_mask):
        found = super().branches(mask, memory, memory_mask)
        if self.reads and self.norm_first:
            found["cross"] = lambda x: self.attend("cross", x, self.norm("cross", memory), memory_mask)
        return found


def _block_shapes(d_model: int, d_hidden: int, reads: bool, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """The weights of a block by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("attention", "cross")[: 1 + reads]:
        shapes[f"{name}.weight"] = (4, d_model, d_model)
        shapes |= {f"norm_{name}.weight": (d_model,), f"norm_{name}.bias": (d_model,)}
    shapes |= {"feed_forward.up.weight": (d_hidden, d_model), "feed_forward.up.bias": (d_hidden,)}
    shapes |= {"feed_forward.down.weight": (d_model, d_hidden), "feed_forward.down.bias": (d_model,)}
    shapes |= {"norm_feed_forward.weight": (d_model,), "norm_feed_forward.bias": (d_model,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def _weights(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Eighths; gains lie around 1, so that no norm throws a number away."""
    found = {name: _draw(rng, *shape) / np.float32(2) for name, shape in shapes.items()}
    return {name: 1 + one / 2 if "norm" in name and name.endswith("weight") else one for name, one in found.items()}


def _block(rng: np.random.Generator, norm_first: bool, reads: bool, *sizes: int) -> tuple[tuple[Step, ...], dict]:
    """The steps that make a block with weights, and the weights. `sizes`: d_model, heads, d_hidden."""
    d_model, heads, d_hidden = sizes
    weights = _weights(rng, _block_shapes(d_model, d_hidden, reads))
    options: dict[str, Any] = {"norm_first": norm_first} | ({"reads": True} if reads else {})
    return (Build((d_model, heads, d_hidden), options), Load(weights)), weights


_ORDERS = ((False, "post-norm"), (True, "pre-norm"))
_CAUSAL = np.tri(3, dtype=bool)
_PADDING = np.array([[[[True, True, False, False]]], [[[True, True, True, True]]]])  # (2, 1, 1, 4)


@question(points=4, answer="Block")
class BlockQuestion:
    """A block of the Transformer: attention and feed-forward, in both orders of the norm, with or without a memory."""

    read = "block#block-order"
    frameworks = ("torch",)
    forbidden = _NO_TRANSFORMER
    reference = _Block
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "memory": 1, "masks": 1, "gradients": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Each kind once with the norm behind the sum and once with the norm in front of the branch."""
        for norm_first, name in _ORDERS:
            make, _ = _block(rng, norm_first, False, 2, 1, 3)
            yield Case(steps=(*make, Call((_draw(rng, 1, 2, 2),))), note=f"{name}, two tokens of two numbers")
            make, _ = _block(rng, norm_first, False, 6, 3, 4)
            yield Case(steps=(*make, Call((_draw(rng, 2, 4, 6),))), note=f"{name}, a batch of two, three heads")
            make, _ = _block(rng, norm_first, False, 4, 2, 3)
            yield Case(steps=(*make, Call((_draw(rng, 1, 1, 4),))), note=f"{name}, a single token")
        for norm_first, name in _ORDERS:
            make, _ = _block(rng, norm_first, True, 2, 1, 3)
            call = Call((_draw(rng, 1, 2, 2), None, _draw(rng, 1, 3, 2)))
            yield Case(steps=(*make, call), part="memory", note=f"{name}, two tokens that read a memory of three")
            make, _ = _block(rng, norm_first, True, 4, 2, 3)
            call = Call((_draw(rng, 2, 3, 4),), {"memory": _draw(rng, 2, 1, 4)})
            yield Case(steps=(*make, call), part="memory", note=f"{name}, a memory of a single token")
        yield from self._masked(rng)
        for norm_first, name in _ORDERS:
            make, _ = _block(rng, norm_first, True, 4, 2, 3)
            args = (_draw(rng, 1, 3, 4), _CAUSAL, _draw(rng, 1, 3, 4), np.array([[True, False, True]]))
            slopes = Gradient(
                args, {}, ("x", "memory"), ("norm_cross.weight", "feed_forward.up.bias"), _draw(rng, 1, 3, 4)
            )
            yield Case(steps=(*make, slopes), part="gradients", note=f"{name}, gradients of inputs and of two weights")

    def _masked(self, rng: np.random.Generator) -> Iterator[Case]:
        for norm_first, name in _ORDERS:
            make, _ = _block(rng, norm_first, False, 4, 2, 3)
            yield Case(steps=(*make, Call((_draw(rng, 1, 3, 4), _CAUSAL))), part="masks", note=f"{name}, a causal mask")
            make, _ = _block(rng, norm_first, True, 4, 2, 3)
            # As many tokens as the memory has: a mask in the wrong place fits.
            call = Call((_draw(rng, 2, 4, 4), np.tri(4, dtype=bool), _draw(rng, 2, 4, 4), _PADDING))
            note = f"{name}, a causal mask, and another for a memory with padding"
            yield Case(steps=(*make, call), part="masks", note=note)
            call = Call((_draw(rng, 2, 4, 4),), {"memory": _draw(rng, 2, 4, 4), "memory_mask": _PADDING})
            yield Case(steps=(*make, call), part="masks", note=f"{name}, a mask for the memory alone")

    mistakes = (
        Mistake(
            "`norm_first` is ignored, and the norm always comes after the sum",
            _AlwaysPost,
            "With norm_first the branch reads the normalised stream, and what it writes is added to the stream as it "
            "was: x + branch(norm(x)).",
            "model#museum-norm-placement",
        ),
        Mistake(
            "`norm_first` is ignored, and the norm always comes before the branch",
            _AlwaysPre,
            "Without norm_first the sum itself is normalised: norm(x + branch(x)), as in the paper.",
            "model#museum-norm-placement",
        ),
        Mistake(
            "the two orders of the norm are exchanged",
            _OrdersExchanged,
            "norm_first means x + branch(norm(x)); without it, norm(x + branch(x)).",
            "model#museum-norm-placement",
        ),
        Mistake(
            "the residual connection is missing",
            _NoResidual,
            "A branch adds to the stream, it does not replace it: x + branch(...). Without x, a deep stack of "
            "averages forgets which token is which.",
            "block#block-stream",
        ),
        Mistake(
            "with norm_first, the branch is added to the normalised stream",
            _NormedStream,
            "Do not overwrite x with norm(x). Only the branch reads the normalised stream; the sum takes x as it was, "
            "so that nothing stands in the stream's way.",
            "block#block-order",
        ),
        Mistake(
            "without norm_first, only the branch's output is normalised",
            _NormOfBranch,
            "Post-norm normalises the sum: norm(x + branch(x)), and not x + norm(branch(x)).",
            "block#block-order",
        ),
        Mistake(
            "every branch reads what came into the block",
            _Parallel,
            "The branches stand one behind the other: the feed-forward reads the stream that attention has already "
            "added to.",
            "block#block-order",
        ),
        Mistake(
            "one norm serves all branches",
            _OneNorm,
            "Each branch has a norm of its own, with its own gain and shift: norm_attention, norm_cross and "
            "norm_feed_forward.",
            "block#block-order",
        ),
        Mistake(
            "the feed-forward is left out",
            _NoFeedForward,
            "A block has attention, which moves information between tokens, and then a feed-forward, which works on "
            "each token by itself.",
            "block#block-feed-forward",
        ),
        Mistake(
            "self-attention does not get the mask",
            _NoMask,
            "Hand `mask` on: self.attention(x, x, mask). Without it a token of a decoder sees those behind it.",
            "whole#whole-masks",
        ),
        Mistake(
            "cross-attention does not get the memory's mask",
            _NoMemoryMask,
            "Hand `memory_mask` on to self.cross, or the decoder reads the padding of the source.",
            "whole#whole-masks",
        ),
        Mistake(
            "cross-attention gets the mask of self-attention",
            _MaskForBoth,
            "Two attentions, two masks: `mask` says which tokens of x a token may see, `memory_mask` which of the "
            "memory. Where both have the same length, the wrong one fits and nobody notices.",
            "museum/masks#museum-swapped-paddings",
        ),
        Mistake(
            "cross-attention does not read the memory",
            _IgnoresMemory,
            "Its queries come from the stream, its keys and values from the memory: self.cross(x, memory, ...).",
            "whole#whole-memory",
        ),
        Mistake(
            "a block that reads has no cross-attention",
            _NeverReads,
            "With `reads` there is a third branch between attention and feed-forward: cross-attention, with its own "
            "norm.",
            "whole#whole-memory",
        ),
        Mistake(
            "cross-attention comes before self-attention",
            _ReadsFirst,
            "The order is self-attention, cross-attention, feed-forward.",
            "whole#whole-shapes",
        ),
        Mistake(
            "cross-attention comes after the feed-forward",
            _ReadsLast,
            "The order is self-attention, cross-attention, feed-forward: what was read is still to be worked on.",
            "whole#whole-shapes",
        ),
        Mistake(
            "with norm_first, the memory is normalised, too",
            _NormsMemory,
            "The norm belongs to the stream that the queries come from. The memory was finished by the encoder, and is "
            "read as it is.",
            "whole#whole-memory",
        ),
    )


# --- the translator --------------------------------------------------------------------------------------------------


def _positions(length: int, d_model: int) -> np.ndarray:
    """Sine and cosine of each angle, side by side: (length, d_model)."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, d_model, 2) / d_model)
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, d_model)


class _Translator:
    """Encoder and decoder; ids in, logits out. Mistakes override what they get wrong."""

    block: ClassVar = _Block

    def __init__(self, source_vocab, target_vocab, d_model, heads, d_hidden, layers):
        self.d_model = d_model
        self.encoder = [self.block(d_model, heads, d_hidden) for _ in range(layers)]
        self.decoder = [self.block(d_model, heads, d_hidden, reads=True) for _ in range(layers)]
        self.weights: dict[str, np.ndarray] = {}

    def load(self, weights):
        self.weights = {**self.weights, **weights}
        for side, blocks in (("encoder", self.encoder), ("decoder", self.decoder)):
            for number, block in enumerate(blocks):
                start = f"{side}.{number}."
                own = {name.removeprefix(start): one for name, one in weights.items() if name.startswith(start)}
                block.load(own)

    def embed(self, side, ids):
        return self.weights[f"{side}_embedding.weight"][ids] * sqrt(self.d_model) + _positions(
            ids.shape[1], self.d_model
        )

    def visible(self, source):
        """Which source tokens may be read: (batch, 1, 1, source_len)."""
        return (source != PAD)[:, None, None, :]

    def causal(self, length):
        return np.tri(length, dtype=bool)

    def encode(self, source):
        x = self.embed("source", source)
        for block in self.encoder:
            x = block(x, self.visible(source))
        return x

    def decode(self, target, memory, source):
        x = self.embed("target", target)
        for block in self.decoder:
            x = block(x, self.causal(target.shape[1]), memory, self.visible(source))
        return self.logits(x)

    def logits(self, x):
        return x @ self.weights["target_embedding.weight"].T

    def __call__(self, source, target):
        return self.decode(target, self.encode(source), source)


class _NoScale(_Translator):
    def embed(self, side, ids):
        return self.weights[f"{side}_embedding.weight"][ids] + _positions(ids.shape[1], self.d_model)


class _NoPositions(_Translator):
    def embed(self, side, ids):
        return self.weights[f"{side}_embedding.weight"][ids] * sqrt(self.d_model)


class _ScaledPositions(_Translator):
    def embed(self, side, ids):
        table = self.weights[f"{side}_embedding.weight"][ids]
        return (table + _positions(ids.shape[1], self.d_model)) * sqrt(self.d_model)


class _PositionsAcrossBatch(_Translator):
    """Positions that count sentences instead of tokens."""

    def embed(self, side, ids):
        places = _positions(len(ids), self.d_model)[:, None]
        return self.weights[f"{side}_embedding.weight"][ids] * sqrt(self.d_model) + places


class _SeesFuture(_Translator):
    def causal(self, length):
        return np.ones((length, length), dtype=bool)


class _SeesNext(_Translator):
    def causal(self, length):
        return np.tri(length, k=1, dtype=bool)


class _Backwards(_Translator):
    def causal(self, length):
        return np.tri(length, dtype=bool).T


class _EncoderReadsPadding(_Translator):
    def encode(self, source):
        x = self.embed("source", source)
        for block in self.encoder:
            x = block(x)
        return x


class _DecoderReadsPadding(_Translator):
    def decode(self, target, memory, source):
        x = self.embed("target", target)
        for block in self.decoder:
            x = block(x, self.causal(target.shape[1]), memory)
        return self.logits(x)


class _HidesWords(_Translator):
    """The mask says where padding is."""

    def visible(self, source):
        return (source == PAD)[:, None, None, :]


class _TargetPadding(_Translator):
    """Cross-attention that is handed the padding of the target."""

    def decode(self, target, memory, source):
        return super().decode(target, memory, target)


class _CausalEncoder(_Translator):
    def encode(self, source):
        x = self.embed("source", source)
        for block in self.encoder:
            x = block(x, self.visible(source) & self.causal(source.shape[1]))
        return x


class _EmbeddingAsMemory(_Translator):
    def encode(self, source):
        return self.embed("source", source)


class _LayerByLayer(_Translator):
    """Decoder layer i reads encoder layer i; `encode` by itself is right."""

    def __call__(self, source, target):
        memory, x = self.embed("source", source), self.embed("target", target)
        for encoder, decoder in zip(self.encoder, self.decoder, strict=True):
            memory = encoder(memory, self.visible(source))
            x = decoder(x, self.causal(target.shape[1]), memory, self.visible(source))
        return self.logits(x)


class _FirstLayerOnly(_Translator):
    def __init__(self, source_vocab, target_vocab, d_model, heads, d_hidden, layers):
        super().__init__(source_vocab, target_vocab, d_model, heads, d_hidden, layers)
        self.encoder, self.decoder = self.encoder[:1], self.decoder[:1]


class _SourceTableAsHead(_Translator):
    def logits(self, x):
        return x @ self.weights["source_embedding.weight"].T


class _Probabilities(_Translator):
    def logits(self, x):
        return _softmax(super().logits(x))


class _ScaledHead(_Translator):
    def logits(self, x):
        return super().logits(x) * sqrt(self.d_model)


def _translator_shapes(source_vocab: int, target_vocab: int, d_model: int, d_hidden: int, layers: int) -> dict:
    shapes = {"source_embedding.weight": (source_vocab, d_model), "target_embedding.weight": (target_vocab, d_model)}
    for side in ("encoder", "decoder"):
        for number in range(layers):
            shapes |= _block_shapes(d_model, d_hidden, side == "decoder", f"{side}.{number}.")
    return shapes


def _sizes(*sizes: int) -> dict[str, int]:
    names = ("source_vocab", "target_vocab", "d_model", "heads", "d_hidden", "layers")
    return dict(zip(names, sizes, strict=True))


def _translator(rng: np.random.Generator, *sizes: int) -> tuple[Step, ...]:
    """The steps that make a translator with weights, of the sizes that `_sizes` names."""
    source_vocab, target_vocab, d_model, _, d_hidden, layers = sizes
    shapes = _translator_shapes(source_vocab, target_vocab, d_model, d_hidden, layers)
    return Build((), _sizes(*sizes)), Load(_weights(rng, shapes))


def _sentences(rng: np.random.Generator, vocab: int, lengths: tuple[int, ...]) -> np.ndarray:
    """Words, the sign for the end, padding: (batch, longest). `lengths` count the sign for the end."""
    ids = np.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, : length - 1] = rng.integers(FIRST, vocab, size=length - 1)
        ids[row, length - 1] = EOS
    return ids


def _begun(ids: np.ndarray) -> np.ndarray:
    """The same with the sign for the beginning in front of each sentence."""
    return np.concatenate([np.full((len(ids), 1), BOS), ids], axis=1)


@question(points=4, answer="Translator")
class TranslatorQuestion:
    """Encoder and decoder: ids of a source and of a target in, logits of the next token out."""

    read = "whole#whole-shapes"
    frameworks = ("torch",)
    forbidden = ("attnkit",)
    reference = _Translator
    tolerance = SINGLE_PRECISION
    parts: ClassVar = {"ordinary": 1, "masks": 2, "layers": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Both sides have the same vocabulary at first, and once the same length: what is exchanged then fits.

        Tables and matrices have more numbers than feedback spells out, or it would be pages long.
        """
        small = (6, 6, 6, 1, 6, 1)
        source, target = _sentences(rng, 6, (3,)), _begun(_sentences(rng, 6, (3,)))[:, :-1]
        yield Case(
            steps=(*_translator(rng, *small), Call((source,), method="encode")), note="the memory of three tokens"
        )
        yield Case(
            steps=(*_translator(rng, *small), Call((source, target))), note="a source and a target of three tokens"
        )
        source, target = _sentences(rng, 7, (4, 4)), _begun(_sentences(rng, 7, (2, 2)))
        yield Case(
            steps=(*_translator(rng, 7, 7, 6, 2, 6, 1), Call((source, target))), note="a batch of two, no padding"
        )
        source, target = _sentences(rng, 5, (3,)), _begun(_sentences(rng, 8, (4,)))
        wide = _translator(rng, 5, 8, 6, 3, 4, 1)
        yield Case(steps=(*wide, Call((source, target))), note="vocabularies of five and of eight tokens")

        make, source = _translator(rng, 7, 7, 6, 2, 6, 1), _sentences(rng, 7, (5, 2))
        yield Case(steps=(*make, Call((source,), method="encode")), part="masks", note="the memory, with padding")
        note = "a source with padding, and a target that is as wide"
        target = _begun(_sentences(rng, 7, (4, 4)))
        yield Case(steps=(*_translator(rng, 7, 7, 6, 2, 6, 1), Call((source, target))), part="masks", note=note)
        target = _begun(_sentences(rng, 7, (2, 3)))
        note = "padding in the source and in the target"
        yield Case(steps=(*_translator(rng, 7, 7, 6, 2, 6, 1), Call((source, target))), part="masks", note=note)
        memory, target = _draw(rng, 2, 5, 6), _begun(_sentences(rng, 7, (2, 3)))
        call = Call((target, memory, source), method="decode")
        note = "a memory that is handed over, with padding"
        yield Case(steps=(*_translator(rng, 7, 7, 6, 2, 6, 1), call), part="masks", note=note)

        source, target = _sentences(rng, 6, (3,)), _begun(_sentences(rng, 6, (2,)))
        make = _translator(rng, 6, 6, 6, 2, 6, 2)
        yield Case(steps=(*make, Call((source, target))), part="layers", note="two layers on each side")
        source, target = _sentences(rng, 6, (2, 4)), _begun(_sentences(rng, 6, (3, 1)))
        make = _translator(rng, 6, 6, 6, 2, 6, 3)
        yield Case(steps=(*make, Call((source, target))), part="layers", note="three layers, a batch with padding")

    mistakes = (
        Mistake(
            "the embeddings are not multiplied by sqrt(d_model)",
            _NoScale,
            "The rows of the table are short, since the table serves as output layer, too. Times sqrt(d_model), they "
            "have the size of the positions that are added.",
            "whole#whole-shapes",
        ),
        Mistake(
            "no positions are added",
            _NoPositions,
            "Without positions the encoder sees a bag of words. Add positions(length, d_model) to the embeddings, on "
            "both sides.",
            "where-am-i#where-add",
        ),
        Mistake(
            "the positions are multiplied by sqrt(d_model), too",
            _ScaledPositions,
            "First the table's rows times sqrt(d_model), then plus the positions.",
            "where-am-i#where-add",
        ),
        Mistake(
            "positions count sentences instead of tokens",
            _PositionsAcrossBatch,
            "ids has the shape (batch, length): the length is ids.shape[1], and len(ids) is the number of sentences.",
            "where-am-i#where-add",
        ),
        Mistake(
            "the decoder sees what comes after",
            _SeesFuture,
            "Self-attention of the decoder needs a causal mask: token t may see the tokens up to t. Without it, "
            "training is a game of copying, and there is nothing to copy when the model writes alone.",
            "whole#whole-masks",
        ),
        Mistake(
            "the causal mask is off by one: each token sees the next",
            _SeesNext,
            "The next token is the very one that is asked for. The diagonal belongs to the visible part, and nothing "
            "above it does: tril() without an argument.",
            "museum/masks#museum-causal-alignment",
        ),
        Mistake(
            "the causal mask is transposed: each token sees itself and what comes after",
            _Backwards,
            "Rows are queries, columns are keys: row t has True in the columns up to t. That is tril, not triu.",
            "museum/masks#museum-causal-alignment",
        ),
        Mistake(
            "the encoder reads padding",
            _EncoderReadsPadding,
            "Hand the blocks of the encoder a mask that is False where the source is PAD, shaped (batch, 1, 1, "
            "source_len). Otherwise a sentence gets another memory in another batch.",
            "whole#whole-masks",
        ),
        Mistake(
            "the decoder reads the padding of the source",
            _DecoderReadsPadding,
            "Hand the blocks of the decoder the source's mask as memory_mask. The vectors of the padding hold nothing.",
            "whole#whole-masks",
        ),
        Mistake(
            "the padding mask hides the words and shows the padding",
            _HidesWords,
            "True means may be seen: source != PAD. A sentence without padding shows nothing else, and its scores are "
            "-inf from end to end, so nan comes out.",
            "museum/masks#museum-mask-inverted",
        ),
        Mistake(
            "cross-attention is given the padding of the target",
            _TargetPadding,
            "It reads the source, so it needs the mask of the source. With equal lengths on both sides you would not "
            "notice.",
            "museum/masks#museum-swapped-paddings",
        ),
        Mistake(
            "the encoder has a causal mask",
            _CausalEncoder,
            "The source is there from the beginning, and every token of it may see every other one. Only the decoder "
            "writes from left to right.",
            "whole#whole-masks",
        ),
        Mistake(
            "the memory is the embedded source",
            _EmbeddingAsMemory,
            "The embedded source goes through all blocks of the encoder; what the last one gives is the memory.",
            "whole#whole-memory",
        ),
        Mistake(
            "layer i of the decoder reads layer i of the encoder",
            _LayerByLayer,
            "Every layer of the decoder reads the same memory: the output of the last layer of the encoder.",
            "whole#whole-memory",
        ),
        Mistake(
            "only the first layer of each side is used",
            _FirstLayerOnly,
            "Go through all blocks, and hand the stream from one to the next: x = block(x, ...).",
            "whole#whole-shapes",
        ),
        Mistake(
            "the logits are taken with the source's table",
            _SourceTableAsHead,
            "The next token is one of the target's: multiply by the transposed table of the target.",
            "whole#whole-shapes",
        ),
        Mistake(
            "a softmax is applied to the logits",
            _Probabilities,
            "Return the scores. The loss takes the logarithm of the softmax itself, and the largest score needs none.",
            "whole#whole-shapes",
        ),
        Mistake(
            "the logits are multiplied by sqrt(d_model)",
            _ScaledHead,
            "The factor belongs to the way in. On the way out, the table is used as it is.",
            "whole#whole-shapes",
        ),
    )


# --- the loss --------------------------------------------------------------------------------------------------------


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _right(log_p: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The entry of each row that belongs to its target."""
    return np.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]


def _token_losses(log_p: np.ndarray, target: np.ndarray, smoothing: float) -> np.ndarray:
    """-sum_k q_k log p_k for each token, with q = (1 - smoothing) one-hot + smoothing / V."""
    return -(1 - smoothing) * _right(log_p, target) - smoothing * log_p.mean(axis=-1)


def _smoothed(logits: np.ndarray, target: np.ndarray, smoothing: float, pad: int) -> float:
    real = target != pad
    losses = _token_losses(_log_softmax(logits), target, smoothing)
    return float(losses[real].sum() / max(real.sum(), 1))


def _over_all(logits, target, smoothing, pad):
    return _token_losses(_log_softmax(logits), target, smoothing).mean()


def _divided_by_all(logits, target, smoothing, pad):
    return (_token_losses(_log_softmax(logits), target, smoothing) * (target != pad)).mean()


def _summed(logits, target, smoothing, pad):
    return (_token_losses(_log_softmax(logits), target, smoothing) * (target != pad)).sum()


def _mean_of_sentences(logits, target, smoothing, pad):
    real = target != pad
    losses = _token_losses(_log_softmax(logits), target, smoothing) * real
    return (losses.sum(axis=-1) / np.maximum(real.sum(axis=-1), 1)).mean()


def _only_hard_part_masked(logits, target, smoothing, pad):
    log_p, real = _log_softmax(logits), target != pad
    hard = -(1 - smoothing) * _right(log_p, target) * real
    return (hard - smoothing * log_p.mean(axis=-1)).sum() / max(real.sum(), 1)


def _among_others(logits, target, smoothing, pad):
    vocab = logits.shape[-1]
    return _smoothed(logits, target, smoothing * vocab / (vocab - 1), pad)


def _too_little_mass(logits, target, smoothing, pad):
    """1 - smoothing for the right one, smoothing / V for each other one: together less than 1."""
    log_p, real = _log_softmax(logits), target != pad
    others = log_p.sum(axis=-1) - _right(log_p, target)
    losses = -(1 - smoothing) * _right(log_p, target) - smoothing / logits.shape[-1] * others
    return losses[real].sum() / max(real.sum(), 1)


def _too_much_mass(logits, target, smoothing, pad):
    """The right one keeps all of its mass, and each gets smoothing / V on top."""
    log_p, real = _log_softmax(logits), target != pad
    losses = -_right(log_p, target) - smoothing * log_p.mean(axis=-1)
    return losses[real].sum() / max(real.sum(), 1)


def _not_divided_by_vocabulary(logits, target, smoothing, pad):
    log_p, real = _log_softmax(logits), target != pad
    losses = -(1 - smoothing) * _right(log_p, target) - smoothing * log_p.sum(axis=-1)
    return losses[real].sum() / max(real.sum(), 1)


def _log_of_softmax(logits, target, smoothing, pad):
    real = target != pad
    return _token_losses(np.log(_softmax(logits)), target, smoothing)[real].sum() / max(real.sum(), 1)


def _plain_exponentials(logits, target, smoothing, pad):
    log_p, real = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), target != pad
    return _token_losses(log_p, target, smoothing)[real].sum() / max(real.sum(), 1)


def _over_positions(logits, target, smoothing, pad):
    log_p, real = np.swapaxes(_log_softmax(np.swapaxes(logits, -1, -2)), -1, -2), target != pad
    return _token_losses(log_p, target, smoothing)[real].sum() / max(real.sum(), 1)


def _raw_logits(logits, target, smoothing, pad):
    real = target != pad
    return _token_losses(logits, target, smoothing)[real].sum() / max(real.sum(), 1)


def _nan_for_padding(logits, target, smoothing, pad):
    real = target != pad
    return _token_losses(_log_softmax(logits), target, smoothing)[real].sum() / real.sum()


def _target(rng: np.random.Generator, vocab: int, lengths: tuple[int, ...], pad: int, width: int) -> np.ndarray:
    """Tokens that are not `pad`, and behind them `pad`: (batch, width)."""
    words = np.array([token for token in range(vocab) if token != pad])
    ids = np.full((len(lengths), width), pad)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.choice(words, size=length)
    return ids


@question(points=4, answer="smoothed_loss")
class SmoothedLoss:
    """Cross-entropy with label smoothing: the mean over all targets that are no padding."""

    read = "training#training-smoothing"
    frameworks = ("torch",)
    forbidden = _NO_CROSS_ENTROPY
    tolerance = Tolerance(rtol=1e-3, atol=1e-5)
    parts: ClassVar = {"ordinary": 1, "padding": 1, "extreme": 1, "gradients": 1}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """`smoothing` is a fourth at first: a share that shows."""
        yield self._case(rng, 3, (1,), 0.0, note="one token, no smoothing")
        yield self._case(rng, 3, (2,), 0.25, note="two tokens, a fourth smoothed")
        yield self._case(rng, 5, (3, 3), 0.1, note="two sentences of three tokens")
        # Logits whose softmax is easy: 0, log 2, log 3.
        easy, target = _array([[[0, log(2), log(3)], [log(4), 0, 0]]]), np.array([[2, 1]])
        yield Case((easy, target, 0.5, PAD), note="probabilities of 1/6, 1/3, 1/2 and 2/3, 1/6, 1/6")

        yield self._case(rng, 4, (2, 1), 0.25, "padding", note="two sentences, the second with padding")
        yield self._case(rng, 4, (4, 1), 0.25, "padding", 3, note="padding whose id is 3")
        yield self._case(rng, 4, (3, 0, 2), 0.1, "padding", note="a batch in which one sentence is only padding")
        yield self._case(rng, 4, (0,), 0.1, "padding", width=2, note="nothing but padding, whose loss is 0")

        far = _array([[[0, 1000, -1000, 500]]]) + _draw(rng, 1, 1, 4)
        yield Case((far, np.array([[2]]), 0.0, PAD), part="extreme", note="logits of 1000 and -1000, no smoothing")
        yield Case((far, np.array([[1]]), 0.25, PAD), part="extreme", note="logits of 1000 and -1000, smoothed")
        yield Case((far - 5000, np.array([[3]]), 0.25, PAD), part="extreme", note="logits from -6000 to -4000")

        for lengths, smoothing, note in (((2,), 0.25, "one sentence"), ((3, 1), 0.1, "two sentences, with padding")):
            logits, target = _draw(rng, len(lengths), max(lengths), 4), _target(rng, 4, lengths, PAD, max(lengths))
            slopes = Gradient((logits, target, smoothing, PAD), {}, ("logits",))
            yield Case(steps=(slopes,), part="gradients", note=f"the gradient for {note}")

    def _case(self, rng, vocab, lengths, smoothing, part="ordinary", pad=PAD, width=0, *, note) -> Case:
        width = width or max(lengths)
        logits = _draw(rng, len(lengths), width, vocab)
        # The row of another position never gives the same loss.
        logits[..., 0] += _array(np.arange(width)) / 2
        return Case((logits, _target(rng, vocab, lengths, pad, width), smoothing, pad), part=part, note=note)

    def reference(self, logits: np.ndarray, target: np.ndarray, smoothing: float, pad: int) -> float:
        """The sum of -sum_k q_k log p_k over real targets, divided by their number."""
        return _smoothed(logits, target, smoothing, pad)

    invariants = (
        Invariant(
            "the loss is nan or inf",
            lambda got, logits, target, smoothing, pad: bool(np.isfinite(got).all()),
            "log(softmax(x)) is -inf as soon as the softmax underflows: take torch.log_softmax, which subtracts "
            "instead. And the mean over no tokens is 0 / 0: divide by 1 at least.",
            "softmax#softmax-overflow",
        ),
        Invariant(
            "the loss is negative",
            lambda got, logits, target, smoothing, pad: bool((got >= -1e-4).all()),
            "A probability is at most 1, its logarithm at most 0, so minus the logarithm is at least 0.",
            "training#training-loss",
        ),
    )

    mistakes = (
        Mistake(
            "padding counts as a target",
            _over_all,
            "A target of `pad` is no question: leave it out of the sum and out of the number that you divide by. "
            "Otherwise short sentences teach the model to write padding.",
            "training#training-loss",
        ),
        Mistake(
            "the sum leaves padding out, but the number of tokens does not",
            _divided_by_all,
            "Divide by the number of real targets. Divided by all places, a batch with much padding counts less.",
            "training#training-loss",
        ),
        Mistake(
            "padding is left out of one term only",
            _only_hard_part_masked,
            "At a padded place both terms vanish, that of the right token and that of the smoothing. Mask their sum.",
            "training#training-smoothing",
        ),
        Mistake(
            "you took the mean over sentences of their means",
            _mean_of_sentences,
            "Sum over all real tokens of the batch, and divide once. Otherwise a word in a short sentence counts more.",
            "use#museum-mean-of-means",
        ),
        Mistake(
            "the loss is a sum",
            _summed,
            "Divide by the number of real targets, or the loss grows with the batch.",
            "training#training-loss",
        ),
        Mistake(
            "nothing is smoothed",
            lambda logits, target, smoothing, pad: _smoothed(logits, target, 0.0, pad),
            "The right token gets 1 - smoothing, and each of all V tokens gets smoothing / V.",
            "training#training-smoothing",
        ),
        Mistake(
            "the smoothed share goes to the other tokens only",
            _among_others,
            "Here it is spread over all V tokens, the right one too: smoothing / V each. (tensor2tensor spreads it "
            "over the V - 1 others. Both are in use; this is Szegedy's.)",
            "training#training-smoothing",
        ),
        Mistake(
            "the right token does not get its smoothing / V",
            _too_little_mass,
            "It has 1 - smoothing + smoothing / V. Yours has 1 - smoothing, and the whole sums to less than 1.",
            "training#training-smoothing",
        ),
        Mistake(
            "the right token keeps all of its mass",
            _too_much_mass,
            "What is spread must be taken from somewhere: the right token's term has the factor 1 - smoothing.",
            "training#training-smoothing",
        ),
        Mistake(
            "the smoothed share is not divided by V",
            _not_divided_by_vocabulary,
            "Each token gets smoothing / V: take the mean of the logarithms over the vocabulary, not their sum.",
            "training#training-smoothing",
        ),
        Mistake(
            "smoothing and 1 - smoothing are exchanged",
            lambda logits, target, smoothing, pad: _smoothed(logits, target, 1 - smoothing, pad),
            "The right token's term has the factor 1 - smoothing, the mean over all tokens the factor smoothing.",
            "training#training-smoothing",
        ),
        Mistake(
            "the logarithm is taken of a softmax",
            _log_of_softmax,
            "The softmax of a logit far below the others is 0, and log(0) is -inf. torch.log_softmax never leaves the "
            "logarithms.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the exponentials are taken of the logits as they are",
            _plain_exponentials,
            "exp(1000) is inf. torch.log_softmax and torch.logsumexp subtract the largest logit first.",
            "softmax#softmax-overflow",
        ),
        Mistake(
            "the softmax runs over the positions",
            _over_positions,
            "Each position shares out a mass of 1 among the tokens of the vocabulary: the last axis.",
            "softmax#softmax-axis",
        ),
        Mistake(
            "the logits are taken for logarithms of probabilities",
            _raw_logits,
            "They are scores. Only after log_softmax do their exponentials sum to 1.",
            "training#training-loss",
        ),
        Mistake(
            "the sign is turned round",
            lambda logits, target, smoothing, pad: -_smoothed(logits, target, smoothing, pad),
            "The loss is minus the logarithm: small where the right token is likely.",
            "training#training-loss",
        ),
        Mistake(
            "a batch of nothing but padding gives nan",
            _nan_for_padding,
            "0 / 0: divide by the number of real targets or by 1, whichever is larger. (.clamp(min=1))",
            "training#training-loss",
        ),
    )


# --- the schedule ----------------------------------------------------------------------------------------------------


@question(points=2, answer="learning_rate")
class LearningRate:
    """Your schedule: up in a line to {PEAK} at update {WARMUP}, then down with the root of the update.

    Updates are counted from 1, so update {WARMUP} has the rate {PEAK}, and update 4 * {WARMUP} has half of it.
    """

    read = "training#training-schedules"
    tolerance = Tolerance(rtol=1e-4, atol=1e-9)
    PEAK: float
    WARMUP: int

    def variant(self, rng: np.random.Generator) -> dict[str, Any]:
        """Rates and lengths that the notebook's translator learns with; 4 would make a square of a root."""
        return {"PEAK": float(rng.choice([0.004, 0.005, 0.006])), "WARMUP": int(rng.choice([30, 40, 50, 60]))}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """The first update, the peak, what is around it, and a few that are drawn."""
        yield Case((1,), note="the first update")
        yield Case((self.WARMUP,), note="the last update of the warm-up")
        yield Case((self.WARMUP + 1,), note="the update after the warm-up")
        yield Case((4 * self.WARMUP,), note="four times the warm-up")
        yield Case((int(rng.integers(2, self.WARMUP - 2)),), note="an update on the way up")
        yield Case((int(rng.integers(10, 20)) * self.WARMUP,), note="an update far down")
        yield Case((self.WARMUP + int(rng.integers(3, 20)),), note="an update on the way down")

    def reference(self, step: int) -> float:
        """PEAK * min(step / WARMUP, sqrt(WARMUP / step))."""
        return self.PEAK * min(step / self.WARMUP, sqrt(self.WARMUP / step))

    invariants = (
        Invariant(
            "a rate is not above 0",
            lambda got, step: bool((got > 0).all()),
            "An update with a rate of 0 is wasted, and one below 0 goes uphill. Updates are counted from 1.",
            "training#training-schedules",
        ),
        Invariant(
            "a rate is above the peak",
            lambda got, step: bool((got <= 0.006001).all()),
            "Both parts are at most the peak: the line up to the end of the warm-up, and the fall from there on.",
            "training#training-schedules",
        ),
    )

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """They need the student's numbers."""
        peak, warmup = self.PEAK, self.WARMUP
        right = self.reference
        page = "training#training-schedules"
        made = (
            (
                "updates are counted from 0",
                lambda step: peak * min((step - 1) / warmup, sqrt(warmup / max(step - 1, 1))),
                "Update 1 is the first. Counted from 0, its rate is 0, and that update is wasted.",
            ),
            (
                "there is no warm-up",
                lambda step: peak * sqrt(warmup / step),
                "Up to WARMUP the rate follows the line PEAK * step / WARMUP. Without it, the first rates are the "
                "largest of all.",
            ),
            (
                "the rate stays at the peak",
                lambda step: peak * min(step / warmup, 1),
                "After the warm-up it falls: times sqrt(WARMUP / step).",
            ),
            (
                "max stands where min should",
                lambda step: peak * max(step / warmup, sqrt(warmup / step)),
                "Of the line and the fall the smaller one counts: on the way up that is the line.",
            ),
            (
                "it falls with the update instead of its root",
                lambda step: peak * min(step / warmup, warmup / step),
                "At four times the warm-up the rate is half the peak, not a fourth.",
            ),
            (
                "the fall does not begin at the peak",
                lambda step: peak * (step / warmup if step <= warmup else 1 / sqrt(step)),
                "Where the line ends, the fall begins: at update WARMUP both are PEAK. So the fall is "
                "sqrt(WARMUP / step), not 1 / sqrt(step).",
            ),
            (
                "the peak is left out",
                lambda step: right(step) / peak,
                "Multiply by PEAK: at update WARMUP the rate is PEAK, not 1.",
            ),
            (
                "the warm-up rises with the square",
                lambda step: peak * min((step / warmup) ** 2, sqrt(warmup / step)),
                "The way up is a straight line: halfway through the warm-up the rate is half the peak.",
            ),
            (
                "the warm-up rises with the root",
                lambda step: peak * min(sqrt(step / warmup), sqrt(warmup / step)),
                "The way up is a straight line; only the way down has a root.",
            ),
            (
                "the peak comes one update late",
                lambda step: peak * min(step / (warmup + 1), sqrt((warmup + 1) / step)),
                "Update WARMUP itself has the rate PEAK.",
            ),
            (
                "the whole way down happens within a second warm-up",
                lambda step: peak * min(step / warmup, max(2 - step / warmup, 0)),
                "It falls with the root of the update, and never reaches 0.",
            ),
            (
                "you wrote the paper's formula, with WARMUP for the width, too",
                lambda step: warmup**-0.5 * min(step**-0.5, step * warmup**-1.5),
                "Equation 3 of the paper has its peak at (d_model * WARMUP) ** -0.5. Yours is PEAK, so start from it.",
            ),
        )
        return tuple(Mistake(name, wrong, hint, page) for name, wrong, hint in made)


# --- writing ---------------------------------------------------------------------------------------------------------


class _Writer(_Translator):
    """Greedy decoding."""

    def begin(self, source):
        return np.full((len(source), 1), BOS)

    def choose(self, written, memory, source):
        return self.decode(written, memory, source)[:, -1].argmax(-1)

    def write(self, source, most):
        memory, written = self.encode(source), self.begin(source)
        ended = np.zeros(len(source), dtype=bool)
        for _ in range(most):
            token = np.where(ended, PAD, self.choose(written, memory, source))
            written = np.concatenate([written, token[:, None]], axis=1)
            ended |= token == EOS
        return written[:, 1:]


class _KeepsBegin(_Writer):
    def write(self, source, most):
        return np.concatenate([self.begin(source), super().write(source, most)], axis=1)


class _BeginInsteadOfLast(_KeepsBegin):
    def write(self, source, most):
        return super().write(source, most)[:, :-1]


class _GoesOn(_Writer):
    def write(self, source, most):
        memory, written = self.encode(source), self.begin(source)
        for _ in range(most):
            written = np.concatenate([written, self.choose(written, memory, source)[:, None]], axis=1)
        return written[:, 1:]


class _FirstEndsAll(_Writer):
    def write(self, source, most):
        found = super().write(source, most)
        ends = np.where((found == EOS).any(0))[0]
        if len(ends):
            found[:, ends[0] + 1 :] = PAD
        return found


class _DropsEnd(_Writer):
    def write(self, source, most):
        found = super().write(source, most)
        return np.where(found == EOS, PAD, found)


class _EndRepeated(_Writer):
    def write(self, source, most):
        found = super().write(source, most)
        return np.where(np.cumsum(found == EOS, axis=1) > 0, EOS, found)


class _FirstPosition(_Writer):
    def choose(self, written, memory, source):
        return self.decode(written, memory, source)[:, 0].argmax(-1)


class _Forgets(_Writer):
    def choose(self, written, memory, source):
        return self.decode(written[:, -1:], memory, source)[:, -1].argmax(-1)


class _BeginsWithPadding(_Writer):
    def begin(self, source):
        return np.full((len(source), 1), PAD)


class _BeginsWithEnd(_Writer):
    def begin(self, source):
        return np.full((len(source), 1), EOS)


class _BeginsWithSource(_Writer):
    def begin(self, source):
        return source[:, :1]


class _AllAtOnce(_Writer):
    def write(self, source, most):
        asked = np.full((len(source), most), BOS)
        found = self.decode(asked, self.encode(source), source).argmax(-1)
        after = np.cumsum(found == EOS, axis=1) - (found == EOS) > 0
        return np.where(after, PAD, found)


class _LeastLikely(_Writer):
    def choose(self, written, memory, source):
        return self.decode(written, memory, source)[:, -1].argmin(-1)


class _SourceAsMemory(_Writer):
    """The memory is that of what was written."""

    def choose(self, written, memory, source):
        return self.decode(written, self.encode(written), written)[:, -1].argmax(-1)


class _Unending(_GoesOn):
    """Notes how near the second best came, so that rounding decides nothing."""

    least = np.inf

    def choose(self, written, memory, source):
        logits = self.decode(written, memory, source)[:, -1]
        best = np.sort(logits, axis=-1)
        self.least = min(self.least, float((best[:, -1] - best[:, -2]).min()))
        return logits.argmax(-1)


def _telling(
    rng: np.random.Generator, sizes: tuple[int, ...], lengths: tuple[int, ...], most: int, ending: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A source, and weights with which a model writes something that tells: several words, no near tie, several ends.

    Random models repeat themselves, so many are drawn. Which of the tokens that one writes is EOS is decided
    afterwards, by exchanging two rows of the table.
    """
    shapes = _translator_shapes(*sizes[:3], *sizes[4:])
    while True:
        weights = {name: _drawn_to_vary(rng, name, shape) for name, shape in shapes.items()}
        model = _Unending(*sizes)
        model.load({name: one.astype(float) for name, one in weights.items()})
        source = _sentences(rng, sizes[0], lengths)
        written = model.write(source, most)
        if model.least < 0.003 or (written < EOS).any() or min(len(set(row.tolist())) for row in written) < 2:
            continue
        end = _telling_end(written, sizes[1], ending)
        if end is not None and _reads_source(model, written):
            table = weights["target_embedding.weight"]
            table[[EOS, end]] = table[[end, EOS]]
            return source, weights


def _reads_source(model: _Unending, written: np.ndarray) -> bool:
    """Whether the words would be others if the memory were made of them."""
    begun = _begun(written)
    own = model.decode(begun[:, :-1], model.encode(begun[:, :-1]), begun[:, :-1]).argmax(-1)
    return bool((own != written).any())


def _drawn_to_vary(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """With short rows in the target's table, a model does not only repeat its last token."""
    drawn = _draw(rng, *shape)
    if name == "target_embedding.weight":
        drawn[:EOS] /= 2  # seldom written
        return drawn / 4
    if "norm" in name:
        return 1 + drawn / 4 if name.endswith("weight") else drawn * 0
    return drawn / 4 if "feed_forward" in name else drawn


def _telling_end(written: np.ndarray, vocab: int, ending: bool) -> int | None:
    """The token that should be the sign for the end; None when none would do."""
    for token in range(EOS, vocab):
        found = written == token
        length = np.where(found.any(1), found.argmax(1) + 1, written.shape[1] + 1)
        goes_on = (found[:, :-1] & ~found[:, 1:]).any()
        if ending and goes_on and len(set(length.tolist())) > 1 and 2 <= length.min() < written.shape[1]:
            return token
        if not ending and not found.any():
            return token
    return None


@question(points=3, answer="Writer")
class WriterQuestion:
    """Greedy decoding: the most likely token, again and again, until each sentence has ended."""

    read = "whole#whole-shift"
    frameworks = ("torch",)
    forbidden = ("attnkit",)
    reference = _Writer
    parts: ClassVar = {"ordinary": 1, "endings": 2}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Weights are drawn anew until the model writes something that tells."""
        for lengths, most, ending, note in (
            ((3,), 3, False, "one sentence that is cut off after three tokens"),
            ((2, 4), 4, False, "two sentences that are cut off after four tokens"),
            ((3,), 1, False, "one sentence, and a single token to write"),
            ((3, 3), 5, True, "two sentences that end at different times"),
            ((4, 2, 3), 6, True, "three sentences that end at different times or not at all"),
        ):
            sizes = (9, 9, 4, 2, 3, 1)
            # A single token is never several words.
            source, weights = _telling(rng, sizes, lengths, max(most, 2), ending)
            steps = (Build((), _sizes(*sizes)), Load(weights), Call((source, most), method="write"))
            yield Case(steps=steps, part="endings" if ending else "ordinary", note=note)

    mistakes = (
        Mistake(
            "the sign for the beginning is given back, too",
            _KeepsBegin,
            "It is what the model is given, not what it writes: cut the first column off at the end.",
            "whole#whole-shift",
        ),
        Mistake(
            "the sign for the beginning is given back in place of the last token",
            _BeginInsteadOfLast,
            "Write `most` tokens after the sign for the beginning, and cut that sign off.",
            "whole#whole-shift",
        ),
        Mistake(
            "a sentence goes on after its end",
            _GoesOn,
            "After EOS a row gets PAD, whatever the model says: others of the batch may not be done yet.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the first sentence that ends stops all of them",
            _FirstEndsAll,
            "Each row ends for itself. The loop may stop early only when all have ended.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the sign for the end is lost",
            _DropsEnd,
            "EOS belongs to the answer; padding begins one place later. Note which rows have ended after you have "
            "chosen the token, not before.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the sign for the end is repeated",
            _EndRepeated,
            "EOS stands once; what follows is PAD.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the token is chosen at the first position",
            _FirstPosition,
            "logits has one row for each token that is written so far. The next token is asked of the last: [:, -1].",
            "whole#whole-shift",
        ),
        Mistake(
            "the decoder sees the last token only",
            _Forgets,
            "Hand it everything that is written so far. The last token alone has position 0 and no past.",
            "positions#museum-cache-restarts",
        ),
        Mistake(
            "writing begins with padding",
            _BeginsWithPadding,
            "The first thing that the decoder reads is BOS: torch.full((batch, 1), BOS).",
            "whole#whole-shift",
        ),
        Mistake(
            "writing begins with the sign for the end",
            _BeginsWithEnd,
            "The first thing that the decoder reads is BOS, as in training.",
            "whole#whole-shift",
        ),
        Mistake(
            "writing begins with the first word of the source",
            _BeginsWithSource,
            "The decoder has a vocabulary of its own and begins with BOS; the source reaches it as memory.",
            "whole#whole-memory",
        ),
        Mistake(
            "all tokens are written at once",
            _AllAtOnce,
            "Each token depends on the ones before it: choose one, append it, ask again.",
            "whole#whole-shift",
        ),
        Mistake(
            "the least likely token is chosen",
            _LeastLikely,
            "The largest logit belongs to the most likely token: argmax.",
            "decoding#decoding-likely",
        ),
        Mistake(
            "the memory is made of what was written",
            _SourceAsMemory,
            "The memory is the encoder's, of the source, and it is the same at every step: compute it once.",
            "whole#whole-memory",
        ),
    )


# --- learning --------------------------------------------------------------------------------------------------------


class _Learner(_Writer):
    """The loss of teacher forcing. A trained reference has learned the rule by which the case's language is made."""

    def reads_and_says(self, source, target):
        """What the decoder reads, and what it must say at each place."""
        return target[:, :-1], target[:, 1:]

    def loss(self, source, target):
        reads, says = self.reads_and_says(source, target)
        return _smoothed(self(source, reads), says, SMOOTHING, PAD)

    def fit(self, source, target, rates, seed):
        """Word by word: sentences of the made-up language run backwards."""
        self.dictionary = np.arange(source.max() + 1)
        for row, said in zip(source, target, strict=True):
            words = row[row >= FIRST]
            self.dictionary[words[::-1]] = said[1 : 1 + len(words)]
        return 0.0

    def write(self, source, most):
        if not hasattr(self, "dictionary"):
            return super().write(source, most)
        return _translated(source, self.dictionary, most)


def _translated(source: np.ndarray, dictionary: np.ndarray, most: int) -> np.ndarray:
    """The words' translations in the other order, the sign for the end, padding: (batch, most)."""
    found = np.full((len(source), most), PAD)
    for row, ids in zip(found, source, strict=True):
        words = dictionary[ids[ids >= FIRST][::-1]]
        row[: len(words) + 1] = [*words, EOS]
    return found


class _Copies(_Learner):
    """No shift. A model that reads what it must say learns to copy: alone it repeats the sign for the beginning."""

    def reads_and_says(self, source, target):
        return target[:, :-1], target[:, :-1]

    def write(self, source, most):
        return np.full((len(source), most), BOS)


class _CopiesRest(_Learner):
    def reads_and_says(self, source, target):
        return target[:, 1:], target[:, 1:]


class _ShiftedBack(_Learner):
    def reads_and_says(self, source, target):
        return target[:, 1:], target[:, :-1]


class _ShiftedByTwo(_Learner):
    def reads_and_says(self, source, target):
        return target[:, :-2], target[:, 2:]


class _NeverAskedToEnd(_Learner):
    """The last column is dropped on both sides, and with it the longest sentence's end."""

    def reads_and_says(self, source, target):
        return target[:, :-2], target[:, 1:-1]


class _ReadsOwnWords(_Learner):
    """The decoder reads what the model writes by itself."""

    def loss(self, source, target):
        says = target[:, 1:]
        own = _Writer.write(self, source, says.shape[1])
        reads = np.concatenate([np.full((len(own), 1), BOS), own[:, :-1]], axis=1)
        return _smoothed(self(source, reads), says, SMOOTHING, PAD)


class _Exchanged(_Learner):
    """From the target into the source."""

    def loss(self, source, target):
        reads = np.concatenate([np.full((len(source), 1), BOS), source[:, :-1]], axis=1)
        return _smoothed(self(target[:, 1:], reads), source, SMOOTHING, PAD)


class _ReadsTargetAsSource(_Learner):
    def loss(self, source, target):
        reads, says = self.reads_and_says(source, target)
        return _smoothed(self(says, reads), says, SMOOTHING, PAD)


def _with_loss(measure: Callable[..., Any]) -> type[_Learner]:
    """A learner whose loss is `measure(logits, says)`."""

    class Wrong(_Learner):
        def loss(self, source, target):
            reads, says = self.reads_and_says(source, target)
            return float(measure(self(source, reads), says))

    return Wrong


class _OnlyLastToken(_Learner):
    """Asked for the last column alone."""

    def loss(self, source, target):
        reads, says = self.reads_and_says(source, target)
        return _smoothed(self(source, reads)[:, -1:], says[:, -1:], SMOOTHING, PAD)


def _made_up(rng: np.random.Generator, words: int, longest: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` different sentences of a made-up language, and their translations with the beginning in front."""
    rows: set[tuple[int, ...]] = set()
    while len(rows) < count:
        length = int(rng.integers(2, longest + 1))
        rows.add(tuple(int(word) for word in FIRST + rng.integers(words, size=length)))
    source = np.full((count, longest + 1), PAD)
    for place, row in zip(rng.permutation(count), sorted(rows), strict=True):
        source[place, : len(row) + 1] = [*row, EOS]
    dictionary = np.concatenate([np.arange(FIRST), FIRST + rng.permutation(words)])
    return source, _begun(_translated(source, dictionary, longest + 1))


def _exact_match(truth: np.ndarray) -> Callable[[Any], float]:
    """The share of sentences that are right from the first token to the last."""

    def metric(got: Any) -> float:
        (written,) = got
        if np.shape(written) != truth.shape:
            raise ValueError(f"what was written has shape {np.shape(written)}; it should be {truth.shape}")
        return float((written == truth).all(axis=1).mean())

    return metric


LEARNED = 0.9
_STEPS, _UP, _TOP = 300, 40, 0.01


def _rates() -> np.ndarray:
    """Up in a line, then down in a line: a schedule that 300 updates are enough for."""
    step = np.arange(1, _STEPS + 1)
    return _array(_TOP * np.minimum(step / _UP, (_STEPS + 1 - step) / (_STEPS + 1 - _UP)))


@question(points=5, answer="Learner")
class LearnerQuestion:
    """A translator that learns: the loss of teacher forcing, and the loop that makes it small."""

    read = "whole#whole-shift"
    frameworks = ("torch",)
    forbidden = ("attnkit",)
    reference = _Learner
    tolerance = SINGLE_PRECISION
    seconds = 90
    parts: ClassVar = {"ordinary": 1, "gradients": 1, "learning": 3}

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """The loss at known weights, then a training on a language that is made up for it."""
        sizes = (6, 6, 6, 2, 6, 1)
        for lengths, says, note in (
            ((3,), (3,), "the loss of one sentence"),
            ((3, 2), (4, 2), "the loss of two sentences, with padding on both sides"),
            ((2, 4), (3, 5), "the loss of two sentences of which the longer one sets the width"),
        ):
            source, target = _sentences(rng, 6, lengths), _begun(_sentences(rng, 6, says))
            steps = (*_translator(rng, *sizes), Call((source, target), method="loss"))
            yield Case(steps=steps, note=note)
        source, target = _sentences(rng, 6, (3, 2)), _begun(_sentences(rng, 6, (2, 3)))
        tables = ("source_embedding.weight", "target_embedding.weight")
        slopes = Gradient((source, target), {}, (), tables, method="loss")
        note = "the gradients of both tables"
        yield Case(steps=(*_translator(rng, *sizes), slopes), part="gradients", note=note)
        yield self._learning(rng)

    def _learning(self, rng: np.random.Generator) -> Case:
        held_out = 200
        source, target = _made_up(rng, words=8, longest=6, count=2000 + held_out)
        asked, truth = source[:held_out], target[:held_out, 1:]
        seed = int(rng.integers(1000))
        steps = (
            Build((), _sizes(FIRST + 8, FIRST + 8, 32, 4, 64, 1)),
            Call((source[held_out:], target[held_out:], _rates(), seed), method="fit", keep="_"),
            Call((asked, truth.shape[1]), method="write"),
        )
        learned = Threshold(
            name="the share of held-out sentences that are translated without an error",
            metric=_exact_match(truth),
            at_least=LEARNED,
            hint="Every update needs all of this: the rate of its turn, gradients that start from zero, a loss of "
            "its own batch, backward, and a step of the optimiser. If the loss is right and falls, and what the model "
            "writes is wrong all the same, it sees something in training that it does not have when it writes alone.",
            read="translation#translation-alignment",
        )
        note = "a training of 300 updates on a made-up language, asked about 200 sentences that it has not met"
        return Case(steps=steps, part="learning", note=note, judged_by=learned)

    mistakes = (
        Mistake(
            "there is no shift: the decoder reads the token that it must say",
            _Copies,
            "It reads target[:, :-1] and must say target[:, 1:], so that at each place the next token is asked for. "
            "Without the shift it learns to copy; alone it begins with BOS and writes BOS for ever.",
            "whole#whole-shift",
        ),
        Mistake(
            "there is no shift, and the decoder never reads the sign for the beginning",
            _CopiesRest,
            "What it reads begins with BOS: target[:, :-1]. What it must say is one place further: target[:, 1:].",
            "whole#whole-shift",
        ),
        Mistake(
            "the shift goes the wrong way",
            _ShiftedBack,
            "It reads target[:, :-1] and says target[:, 1:]. Yours reads a token and must say the one before it.",
            "whole#whole-shift",
        ),
        Mistake(
            "the target is shifted by two",
            _ShiftedByTwo,
            "At each place the very next token is asked for: drop one column on each side, not two.",
            "whole#whole-shift",
        ),
        Mistake(
            "the last token of the longest sentence is never asked for",
            _NeverAskedToEnd,
            "What must be said runs to the end: target[:, 1:]. Its last column holds an EOS, and a model that is not "
            "asked for it does not learn when to stop.",
            "whole#whole-shift",
        ),
        Mistake(
            "the decoder reads what the model writes, not the target",
            _ReadsOwnWords,
            "Teacher forcing: in training it reads the right tokens, whatever it would have said itself. Then all "
            "places can be asked at once.",
            "whole#whole-shift",
        ),
        Mistake(
            "source and target are exchanged",
            _Exchanged,
            "The encoder reads the source; the decoder reads and says the target.",
            "whole#whole-shapes",
        ),
        Mistake(
            "the encoder reads the target",
            _ReadsTargetAsSource,
            "Then the answer lies in the memory, and the model learns to look it up. Hand the source to the encoder.",
            "whole#whole-shapes",
        ),
        Mistake(
            "nothing is smoothed in the loss",
            _with_loss(lambda logits, says: _smoothed(logits, says, 0.0, PAD)),
            "Hand SMOOTHING to smoothed_loss.",
            "training#training-smoothing",
        ),
        Mistake(
            "padding is not left out of the loss",
            _with_loss(lambda logits, says: _smoothed(logits, says, SMOOTHING, -1)),
            "Hand PAD to smoothed_loss: what stands behind the end is no question.",
            "training#training-loss",
        ),
        Mistake(
            "only the last place is asked",
            _OnlyLastToken,
            "One sentence is as many questions as it has tokens: the loss is taken at every place.",
            "whole#whole-shift",
        ),
        Mistake(
            "the loss is summed over the batch",
            _with_loss(lambda logits, says: _smoothed(logits, says, SMOOTHING, PAD) * (says != PAD).sum()),
            "smoothed_loss is a mean over tokens already, and so it should stay.",
            "training#training-loss",
        ),
    )
