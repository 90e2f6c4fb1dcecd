"""generate(): the one front door. It reads the prompts, checks that they fit the model and runs a method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from attnkit.generation.beam import Beam
from attnkit.generation.greedy import Greedy, Stop, Stream
from attnkit.generation.prompts import Prompts, Rows, read_prompts
from attnkit.generation.protocol import LanguageModel
from attnkit.generation.result import Generated, Hypothesis
from attnkit.generation.sampling import Sample
from attnkit.generation.stepper import Stepper

KINDS = ("dynamic", "static", "sliding")


# Arguments are checked by hand, since a caller deserves better than a type checker's message.
@no_type_check
def generate(
    model: LanguageModel,
    prompt: Rows,
    *,
    max_new: int,
    method: Greedy | Sample | Beam | None = None,
    eos: int | Sequence[int] | None = None,
    pad: int = 0,
    lengths: Sequence[int] | Tensor | None = None,
    cache: Any = "dynamic",
    window: int | None = None,
    sinks: int = 0,
    stream: Stream | None = None,
) -> Generated:
    """Continue prompts by `max_new` tokens at most.

    - `prompt`: token ids; one prompt or several, of different lengths (`read_prompts`). They are padded on the left
      with `pad`, any id, hidden from the model. `lengths` cuts the rows of a tensor that is padded on the right.
    - `method`: `Greedy()` unless given, `Sample(...)` or `Beam(...)`.
    - `eos`: one or several tokens after which a continuation has ended. It keeps that token.
    - `cache`: "dynamic", "static" (as long as needed, allocated once) or None (everything is computed again at every
      step) give the same tokens; "sliding" holds only the first `sinks` and the last `window` tokens. Or a cache made
      by `model.new_cache`: what it holds comes before the prompt, and it then holds all but the last new token.
    - `stream`: called after each step with the new token of each row, None for rows that have ended.

    The model is put into eval mode meanwhile, and no gradient is recorded. Raises ValueError for an empty prompt, and
    when prompt and new tokens need more positions than the model has: nothing is cut off in silence.
    """
    if isinstance(max_new, bool) or not isinstance(max_new, int) or max_new < 0:
        raise ValueError(f"max_new is {max_new!r}; it must be a whole number, 0 or more")
    method = Greedy() if method is None else method
    if not hasattr(method, "decode"):
        raise TypeError(f"method is {method!r}; it must be Greedy(), Sample(...) or Beam(...)")
    stop = Stop(max_new, _eos(eos))
    prompts = read_prompts(prompt, lengths, pad, _device(model))
    _check_ids(prompts, model)
    cache = _cache(model, cache, prompts, max_new, window, sinks)
    _check_context(prompts, model, max_new, cache)
    if max_new == 0:
        return Generated([[Hypothesis()] for _ in prompts.lengths])
    with torch.inference_mode(), evaluating(model):
        return Generated(method.decode(Stepper(model, prompts, max_new, cache), stop, stream))


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode meanwhile; each submodule returns to the mode that it was in."""
    training = [m for root in _modules(model) for m in root.modules() if m.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@no_type_check
def _eos(eos: int | Sequence[int] | None) -> tuple[int, ...]:
    """The tokens that end a continuation."""
    tokens = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
    if any(isinstance(token, bool) or not isinstance(token, int) or token < 0 for token in tokens):
        raise ValueError(f"eos is {eos!r}; it must be a token id, several of them, or None")
    return tuple(dict.fromkeys(tokens))


def _modules(model: Any) -> list[nn.Module]:
    """The model, or the modules that it holds when it is none itself, as a translator that has read its sources."""
    if isinstance(model, nn.Module):
        return [model]
    return [held for held in getattr(model, "__dict__", {}).values() if isinstance(held, nn.Module)]


def _device(model: Any) -> torch.device | None:
    """Where the model's weights are, if it can be told."""
    return next((p.device for root in _modules(model) for p in root.parameters()), None)


def _check_ids(prompts: Prompts, model: Any) -> None:
    """Raise ValueError for ids that the model has no embedding for, as far as it says how many it has."""
    vocab = getattr(model, "vocab", None)
    low, high = (int(x) for x in prompts.ids.aminmax())
    if low < 0 or (isinstance(vocab, int) and high >= vocab):
        raise ValueError(
            f"prompt (or pad) holds the token {low if low < 0 else high}; "
            f"the model's tokens are 0 to {vocab - 1 if isinstance(vocab, int) else '(vocabulary size - 1)'}"
        )


def _check_context(prompts: Prompts, model: Any, max_new: int, cache: Any) -> None:
    """Raise ValueError when the longest prompt, and what is to come, has more positions than the model."""
    context = getattr(model, "context", None)
    if context is None or any(not slot.self.rotated for slot in _slots(cache)):  # or positions start anew in the cache
        return
    held = 0 if cache is None else cache.length
    longest = max(prompts.lengths)
    before = f" after the {held} in the cache" if held else ""
    if held + longest > context:
        raise ValueError(
            f"prompt {prompts.lengths.index(longest)} has {longest} tokens{before}; the model's context is {context}"
        )
    needed = held + longest + max(max_new - 1, 0)  # the last token is never read
    if needed > context:
        raise ValueError(
            f"max_new is {max_new}: with a prompt of {longest} tokens{before} that takes {needed} positions, and the "
            f"model's context is {context}; max_new may be {context - held - longest + 1} at most"
        )


@no_type_check
def _cache(model: LanguageModel, cache: Any, prompts: Prompts, max_new: int, window: int | None, sinks: int) -> Any:
    """The cache to use, or None."""
    if isinstance(cache, str) and cache not in KINDS:
        raise ValueError(f"cache is {cache!r}; it must be one of {KINDS}, None, or a cache of the model's")
    if cache != "sliding" and (window is not None or sinks):
        raise ValueError(f"window and sinks belong to cache='sliding'; cache is {cache!r}")
    if cache == "sliding" and window is None:
        raise ValueError("cache='sliding' needs window=, the number of tokens to hold")
    if cache == "dynamic":
        return model.new_cache("dynamic")
    if cache == "static":
        return model.new_cache("static", length=prompts.ids.shape[1] + max(max_new - 1, 0))
    if cache == "sliding":
        cache = model.new_cache("sliding", window=window, sinks=sinks)
    if cache is not None and prompts.ragged:
        _check_ragged(cache, prompts)
    return cache


def _check_ragged(cache: Any, prompts: Prompts) -> None:
    """Raise ValueError for a cache in which the padding of shorter prompts would not stay out of sight."""
    if cache.length:
        raise ValueError(
            f"prompts of lengths {prompts.lengths} cannot continue a cache that holds {cache.length} tokens already; "
            "give them one length"
        )
    if any(getattr(slot.self, "sinks", 0) for slot in _slots(cache)):
        raise ValueError(
            f"prompts of lengths {prompts.lengths} cannot share a sliding cache with sinks: those of the shorter ones "
            "would be padding; generate them one by one"
        )


def _slots(cache: Any) -> list[Any]:
    """The layers' caches, of a cache that lets them be seen."""
    return list(cache) if hasattr(cache, "__iter__") else []
