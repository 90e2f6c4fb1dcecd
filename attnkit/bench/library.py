"""The library beside what it stands for: multi-head attention, a step of training, generation, the import.

Both sides hold the same weights. Attention without a gradient is measured in eval() under
torch.inference_mode, where nn.MultiheadAttention takes its native fast path, which is the harder peer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnkit.bench import generation_speed, importing, learning
from attnkit.bench.measure import interleaved
from attnkit.bench.report import Row
from attnkit.masks import Causal
from attnkit.nn import MultiHeadAttention, Transformer

SIZES = ((1, 1024), (4, 512))  # batch, length
INFERENCE = "eval(), inference_mode"
PEER = "nn.MultiheadAttention"


def suite(rounds: int = 15) -> list[Row]:
    """Every row, in one run."""
    return [
        *attention_forward(rounds),
        attention_training(rounds),
        *training_step(rounds),
        *generation_speed.suite(max(rounds // 5, 1)),
        *importing.suite(max(rounds // 2, 1)),
        *learning.suite(),
    ]


def attention_pair(d_model: int, heads: int) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """(ours, torch's) with the same weights."""
    torch.manual_seed(0)
    peer = nn.MultiheadAttention(d_model, heads, batch_first=True)
    return MultiHeadAttention.from_torch(peer), peer


def attention_forward(
    rounds: int, sizes: tuple[tuple[int, int], ...] = SIZES, d_model: int = 512, heads: int = 8
) -> list[Row]:
    """Self-attention without a gradient; without weights, and with.

    Ours are those of each head. Torch's default is their mean, which takes a pass more; it is measured both ways.
    """
    ours, peer = (module.eval() for module in attention_pair(d_model, heads))
    rows = []
    for batch, length in sizes:
        x, size = _vectors(batch, length, d_model), f"B{batch} L{length} D{d_model} H{heads}, {INFERENCE}"
        plain = _inference(ours, x), _inference(peer, x, x, x, need_weights=False)
        with_weights = _inference(ours, x, aux=("weights",))
        each, mean = (_inference(peer, x, x, x, average_attn_weights=average) for average in (False, True))
        rows += [
            Row(f"MHA forward, {size}", *interleaved(*plain, 2 * rounds), PEER, goal=1.0),
            Row(f"MHA with weights, {size}", *interleaved(with_weights, mean, 2 * rounds), f"{PEER}, mean", goal=0.95),
            Row(
                f"the same, theirs of each head, {size}", *interleaved(with_weights, each, 2 * rounds), PEER, goal=0.95
            ),
        ]
    return rows


def attention_training(rounds: int, size: tuple[int, int] = SIZES[-1], d_model: int = 512, heads: int = 8) -> Row:
    """Forward and backward in training mode, without weights and dropout."""
    ours, peer = attention_pair(d_model, heads)
    x = _vectors(*size, d_model).requires_grad_()
    samples = interleaved(
        _backward(ours, lambda: ours(x)), _backward(peer, lambda: peer(x, x, x, need_weights=False)[0]), 2 * rounds
    )
    name = f"MHA forward + backward, B{size[0]} L{size[1]} D{d_model} H{heads}, training mode"
    return Row(name, *samples, PEER, goal=1.0)


def transformer_pair(d_model: int, layers: int, dropout: float) -> tuple[Transformer, nn.Transformer]:
    """(ours, torch's) with the same weights, in training mode."""
    torch.manual_seed(0)
    peer = nn.Transformer(d_model, 8, layers, layers, 4 * d_model, dropout, batch_first=True)
    return Transformer.from_torch(peer), peer


def training_step(rounds: int, batch: int = 8, length: int = 64, d_model: int = 256, layers: int = 3) -> list[Row]:
    """Forward, loss, backward and Adam's step of an encoder-decoder on vectors, causal in the target."""
    rows = []
    for dropout in (0.0, 0.1):
        ours, peer = transformer_pair(d_model, layers, dropout)
        source, target, goal = (_vectors(batch, length, d_model, seed) for seed in range(3))
        hidden = nn.Transformer.generate_square_subsequent_mask(length)
        pair = (
            _step(ours, _bind(ours, source, target, target_mask=Causal()), goal),
            _step(peer, _bind(peer, source, target, tgt_mask=hidden, tgt_is_causal=True), goal),
        )
        size = f"B{batch} L{length}+{length} D{d_model}, {layers}+{layers} layers"
        name = f"Transformer training step with Adam, dropout {dropout:g}, {size}"
        rows.append(Row(name, *interleaved(*pair, rounds), "nn.Transformer", goal=1.0))
    return rows


def _vectors(batch: int, length: int, width: int, seed: int = 0) -> Float[Tensor, "{batch} {length} {width}"]:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))


def _bind(module: nn.Module, *inputs: Tensor, **options: object) -> Callable[[], Tensor]:
    """The module with its arguments: a function to call."""
    return lambda: module(*inputs, **options)


def _inference(module: nn.Module, *inputs: Tensor, **options: object) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return module(*inputs, **options)

    return run


def _backward(module: nn.Module, call: Callable[[], Tensor]) -> Callable[[], object]:
    """Forward, and the gradient of every parameter."""

    def run() -> object:
        module.zero_grad(set_to_none=True)
        return call().sum().backward()

    return run


def _step(module: nn.Module, call: Callable[[], Tensor], goal: Tensor) -> Callable[[], object]:
    """One step of training towards `goal`."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)

    def run() -> object:
        optimizer.zero_grad(set_to_none=True)
        (call() - goal).square().mean().backward()
        return optimizer.step()

    return run
