"""Generating with a model of GPT-2's size: ours beside `generate` of Transformers, with the same weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from attnkit._optional import require
from attnkit.bench.measure import interleaved
from attnkit.bench.report import Row
from attnkit.generation import Greedy, generate
from attnkit.models import GPT

GOAL = 0.83  # of their time per token: 1.2 times as many tokens a second
PEER = "Transformers, sdpa"


def suite(rounds: int = 3, prompt: int = 32, new: int = 96, **smaller: int) -> list[Row]:
    """Milliseconds per generated token, for one sequence and for four; `smaller` changes the sizes of GPT-2."""
    ours, peer = models(**smaller)
    rows = []
    for batch in (1, 4):
        ids = torch.randint(ours.vocab, (batch, prompt), generator=torch.Generator().manual_seed(0))
        pair = ours_call(ours, ids, new), peer_call(peer, ids, new)
        mine, theirs = ([one / (batch * new) for one in side] for side in interleaved(*pair, rounds))
        name = f"GPT-2 size, greedy, {new} tokens after {prompt}, B{batch}, time per token"
        rows.append(
            Row(name, mine, theirs, PEER, goal=GOAL, note="dynamic cache, no end of sequence, prefill included")
        )
    return rows


def models(**smaller: int) -> tuple[Any, Any]:
    """(ours, theirs) in evaluation mode, with the same random weights, handed over as a checkpoint in a folder."""
    hf = require("transformers", extra="hf")
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = hf.GPT2Config(**{"bos_token_id": 0, "eos_token_id": 0} | smaller)
    peer = hf.GPT2LMHeadModel._from_config(config, attn_implementation="sdpa").eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        return GPT.from_pretrained(folder).eval(), peer


def ours_call(model: Any, ids: Int[Tensor, "batch len"], new: int) -> Callable[[], Tensor]:
    """The new tokens, as a function without arguments."""

    def run() -> Tensor:
        return generate(model, ids, max_new=new, method=Greedy(), cache="dynamic").padded(pad=0)

    return run


def peer_call(model: Any, ids: Int[Tensor, "batch len"], new: int) -> Callable[[], Tensor]:
    """The same of Transformers: its default dynamic cache, nothing sampled, and no end before the end."""
    settings = {"do_sample": False, "use_cache": True, "max_new_tokens": new, "min_new_tokens": new}
    model.generation_config.eos_token_id = None  # so that it need not look for it

    def run() -> Tensor:
        with torch.inference_mode():
            done = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings)
        return done[:, ids.shape[1] :]

    return run
