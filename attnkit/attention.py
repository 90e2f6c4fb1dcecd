"""attention(): the one front door. It validates, picks a backend and guards the meaning that all backends share."""

from __future__ import annotations

import inspect
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit import backends
from attnkit.backends.common import (
    Aux,
    BackendUnsupported,
    Options,
    Rows,
    ScoreMod,
    accumulator,
    indices,
    sizes_of,
    slopes_of,
)
from attnkit.backends.validate import check_options, check_tensors
from attnkit.masks import Mask, Sizes
from attnkit.positions.linear_bias import LinearBias

for _name in backends.ORDER:  # now, and not when first wanted: torch.compile cannot follow an import
    backends.load(_name)


# Shapes and types are checked by hand, since a caller deserves better than a type checker's message.
@no_type_check
def attention(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    *,
    mask: Mask | Bool[Tensor, "#batch #heads #q_len #k_len"] | None = None,
    bias: Float[Tensor, "#batch #heads #q_len #k_len"] | LinearBias | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    score_mod: ScoreMod | None = None,
    sink: Float[Tensor, " heads"] | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
    aux: tuple[str | Rows, ...] = (),
):
    """softmax(scale QK^T) V with a mask: (B, H, Lq, D), (B, Hkv, Lk, D), (B, Hkv, Lk, Dv) -> (B, H, Lq, Dv).

    The scores are `scale * query @ key^T`, then `softcap * tanh(scores / softcap)`, then `+ bias`, then what
    `score_mod` makes of them; then the mask hides.

    - `mask`: an object of `attnkit.masks`, or a bool tensor that broadcasts to (B, H, Lq, Lk), True = may attend.
      A hidden key has no influence, whatever it holds. A query that may attend to nothing gets output 0, lse -inf and
      gradient 0.
    - `bias`: floats added to the scores, of any shape that broadcasts to (B, H, Lq, Lk), or a
      `attnkit.positions.LinearBias`, of which no table is made where that can be helped. Gets a gradient.
    - `scale`: 1 / sqrt(D) unless given.
    - `score_mod`: any function (score, b, h, q, k) -> score, in FlexAttention's signature, made of tensor operations:
      it may be called with one score or with all at once. Tensors that it captures get a gradient.
    - `sink`: (H,), one more logit in each row's denominator. Gets a gradient.
    - `dropout`: the probability of dropping a weight; the others grow by 1 / (1 - dropout). `torch.manual_seed`
      repeats it, the same in every backend; torch.compile may draw another seed, as for torch's own dropout. There is
      no training flag: pass 0.0 when evaluating.
    - `Hkv` divides H: consecutive groups of H / Hkv query heads share a key and value head.
    - `backend`: "auto", or a name in `attnkit.backends.ORDER`. Half precision is summed in float32 by each.
    - `aux`: any of "lse", "weights", "entropy" (of each query's weights), "column_sums" (of each key's), and
      `Rows([...])` for the weights of some queries; when it is not empty, the result is `(out, Aux)`.

    Raises ValueError for arguments that do not fit together, and BackendUnsupported when a backend that was named
    cannot do what is asked. `explain(...)` takes the same arguments and says which backend is taken, and why.
    """
    options = {"mask": mask, "bias": bias, "scale": scale, "softcap": softcap, "score_mod": score_mod, "sink": sink}
    call = _prepare(query, key, value, backend, dropout=dropout, aux=aux, **options)
    module = backends.load(_choose(call) if backend == "auto" else _insist(call, backend))
    guarded = mask is None or getattr(module, "GUARDS_HIDDEN", False)
    with torch.autocast(query.device.type, enabled=False) if call.autocast else nullcontext():
        out, extra = module.attend(*call.arguments) if guarded else _shielded(module, call)
    return (out, extra) if aux else out


@no_type_check
def explain(query, key, value, *, backend="auto", **options) -> Explanation:
    """Which backend `attention` takes for these arguments, and why each other was not taken. Computes nothing."""
    unknown = options.keys() - inspect.signature(attention).parameters.keys()
    if unknown:
        raise TypeError(f"explain() got unexpected arguments: {', '.join(sorted(unknown))}")
    with torch.random.fork_rng(_generators_of(query)):  # the seed that dropout would draw is drawn by nobody
        call = _prepare(query, key, value, backend, **options)
    reasons = {}
    for name in backends.ORDER:
        module = backends.load(name)
        missing, waste = module.unsupported(*call.arguments), module.wasteful(*call.arguments)
        reasons[name] = f"cannot: {missing}" if missing else f"can, at a cost: {waste}" if waste else "can"
    taken = _choose(call) if backend == "auto" else backend if not reasons[backend].startswith("cannot") else None
    grounds = "the first in the order of 'auto' that fits" if backend == "auto" else "asked for"
    details = getattr(backends.load(taken), "details", None) if taken else None
    return Explanation(taken, grounds, reasons, tuple(details(*call.arguments)) if details else ())


def _generators_of(query: Tensor) -> list[torch.device]:
    """The devices, besides the CPU, whose random state a draw for these tensors would change."""
    return [query.device] if isinstance(query, Tensor) and query.device.type == "cuda" else []


@dataclass(frozen=True)
class Explanation:
    """The backend taken (None when the one asked for cannot do it), on what grounds, and a verdict for each backend.

    `details` are lines in which the backend taken says how it will do it.
    """

    taken: str | None
    grounds: str
    verdicts: dict[str, str]
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        first = (
            f"{self.taken} is taken: {self.grounds}"
            if self.taken
            else "BackendUnsupported: it was asked for and cannot"
        )
        return "\n".join([first, *(f"  {name:<7} {verdict}" for name, verdict in self.verdicts.items()), *self.details])


@dataclass(frozen=True, slots=True)
class _Call:
    """A validated call."""

    arguments: tuple[Tensor, Tensor, Tensor, Options]
    autocast: bool

    def wants_gradient(self) -> bool:
        """May there be a backward pass? What a score_mod captures is not known."""
        *three, options = self.arguments
        tensors = (*three, options.bias, slopes_of(options), options.sink)
        wanted = options.score_mod is not None or any(x is not None and x.requires_grad for x in tensors)
        return wanted and torch.is_grad_enabled()


def _prepare(query, key, value, backend, **options) -> _Call:
    """Validate; under autocast bring query, key and value to its dtype, as torch's own attention does."""
    if backend != "auto":
        backends.load(backend)
    autocast = isinstance(query, Tensor) and _is_autocast_on(query.device.type)
    if autocast:
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (_autocast(x, dtype) for x in (query, key, value))
    sizes = check_tensors(query, key, value)
    return _Call((query, key, value, check_options(query, sizes, **options)), autocast)


def _is_autocast_on(device_type: str) -> bool:
    """False also for devices that have no autocast, such as "meta", where asking is an error."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def _autocast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """What autocast does with an argument: floats narrower than float64 take its dtype."""
    narrow = isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float64
    return x.to(dtype) if narrow else x


def _choose(call: _Call) -> str:
    """The first backend that can do this without waste, else the first that can."""
    fallback = None
    for name in backends.ORDER:
        module = backends.load(name)
        if module.unsupported(*call.arguments) is None:
            if module.wasteful(*call.arguments) is None:
                return name
            fallback = fallback or name
    assert fallback is not None, "the definition can do everything"
    return fallback


def _insist(call: _Call, backend: str) -> str:
    """The backend that was named, or BackendUnsupported with its reason."""
    reason = backends.load(backend).unsupported(*call.arguments)
    if reason is not None:
        raise BackendUnsupported(f"backend {backend!r} cannot do this: {reason}")
    return backend


def _may_look(x: Tensor) -> bool:
    """May the host read numbers here? Not while torch.compile or a CUDA graph records what is to be done with them."""
    return not torch.compiler.is_compiling() and not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def _finite(*tensors: Tensor) -> bool:
    """No NaN or infinity, told by the sum, the cheapest pass there is. One that overflows only costs the slow way."""
    if tensors[0].is_meta:
        return True
    return all(math.isfinite(x.detach().sum(dtype=accumulator(x.dtype)).item()) for x in tensors)


def _telling_rows(out: Tensor, mask: Mask, sizes: Sizes) -> Tensor:
    """The rows of the output in which a NaN of any key would show: the last alone, where it weighs every key."""
    last = range(max(sizes.q_len - 1, 0), sizes.q_len)
    return out[:, :, -1:] if mask.cover(last, range(sizes.k_len), sizes) == "full" else out


def _shielded(module, call: _Call) -> tuple[Tensor, Aux]:
    """Run a backend so that a hidden key has no influence even when it holds NaN or infinity.

    Hiding gives a key the weight 0, but 0 * NaN is NaN. So such keys are emptied first, and only the rows that may
    attend to one of them become NaN, as they would without a mask.
    """
    query, key, value, options = call.arguments
    assert options.mask is not None
    if not _may_look(query):
        pass  # keys are emptied whether they need it or not
    elif call.wants_gradient():
        if _finite(key, value):
            return module.attend(query, key, value, options)
    else:  # without a backward pass a leak could only show as NaN in the output
        result = module.attend(query, key, value, options)
        if value.shape[3] and _finite(_telling_rows(result[0], options.mask, sizes_of(query, key))):
            return result
    sick = ~(key.isfinite().all(-1) & value.isfinite().all(-1))
    out, extra = module.attend(query, *(x.masked_fill(sick[..., None], 0.0) for x in (key, value)), options)
    touched = _touched(options.mask, sick, sizes_of(query, key))
    return _poisoned(out, extra, torch.zeros_like(touched, dtype=out.dtype).masked_fill(touched, math.nan), options)


def _touched(
    mask: Mask, sick: Bool[Tensor, "batch kv_heads k_len"], sizes: Sizes
) -> Bool[Tensor, "#batch heads q_len"]:
    """The rows that may attend to one of the keys marked."""
    groups = sizes.heads // max(sick.shape[1], 1)
    if not _may_look(sick):  # how many are marked is not known: ask about all
        seen = mask.rule(*indices(sizes, sick.device), sizes)
        return (seen & sick.repeat_interleave(groups, dim=1)[:, :, None]).any(-1)
    where = sick.any(dim=0).any(dim=0).nonzero()[:, 0]  # (sick keys,)
    sick = sick.repeat_interleave(groups, dim=1)[:, :, None, where]
    b, h, q, _ = indices(sizes, sick.device)
    return (mask.rule(b, h, q, where, sizes) & sick).any(-1)


def _poisoned(out: Tensor, extra: Aux, poison: Float[Tensor, "batch heads q_len"], options: Options) -> tuple:
    """The results with NaN in all that belongs to the rows where `poison` is NaN; elsewhere it is 0."""
    added = {"lse": poison, "weights": poison[..., None], "entropy": poison}
    added["column_sums"] = poison.sum(-1, keepdim=True)
    if options.rows is not None:
        added["row_weights"] = poison[:, :, options.rows, None]
    return out + poison[..., None], Aux(**{name: getattr(extra, name) + added[name] for name in options.aux})
