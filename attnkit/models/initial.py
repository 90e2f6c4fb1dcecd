"""How a model begins: its weights, and what a published one does otherwise than a stack of `attnkit.nn`."""

from __future__ import annotations

import math

import torch
from torch import nn

from attnkit.nn import Encoder, FeedForward


def initialize(model: nn.Module, *, std: float = 0.02, layers: int = 0) -> None:
    """Every matrix and table from N(0, std^2), every bias 0; norms and tied embeddings as they are.

    With `layers`, what writes to the residual stream begins smaller by sqrt(2 * layers): so many branches are summed,
    two a layer (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3).
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            branch = layers > 0 and name.endswith((".attention.out", ".feed_forward.down"))
            nn.init.normal_(module.weight, std=std / math.sqrt(2 * layers) if branch else std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def as_published(
    encoder: Encoder, *, qkv: bool | None = None, out: bool | None = None, mlp: bool | None = None
) -> None:
    """Make a stack what the published models are where a Config has no word for it.

    None of them drops anything inside the feed-forward. `qkv`, `out` and `mlp` give a bias of zeros to the projections
    of that kind or take it from them; None leaves them as they are.
    """
    biased = {"query": qkv, "key": qkv, "value": qkv, "out": out, "up": mlp, "gate": mlp, "down": mlp}
    for name, module in encoder.named_modules():
        if isinstance(module, FeedForward):
            module.dropout.p = 0.0
        if isinstance(module, nn.Linear) and (wanted := biased[name.rpartition(".")[2]]) is not None:
            module.register_parameter("bias", nn.Parameter(torch.zeros(module.out_features)) if wanted else None)
