"""The feed-forward: each position for itself, through a wider layer and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import no_type_check

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnkit.nn.config import ACTIVATIONS, Activation
from attnkit.nn.linear import Linear

# The function of each name. In a gated feed-forward it shapes the gate.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swiglu": F.silu,
    "geglu": F.gelu,
}
GATED = ("swiglu", "geglu")


class FeedForward(nn.Module):
    """down(f(up(x))), or with a gate: down(f(gate(x)) * up(x)).

    - "relu": max(0, x W1 + b1) W2 + b2 (Vaswani et al. 2017, arXiv:1706.03762, eq. 2);
    - "gelu": x Φ(x), exact; "gelu_tanh": its tanh approximation (Hendrycks and Gimpel 2016, arXiv:1606.08415), as in
      GPT-2; "silu": x sigmoid(x);
    - "swiglu", "geglu": gated (Shazeer 2020, arXiv:2002.05202, eq. 6). Three matrices instead of two: with
      2/3 of the hidden width there are as many parameters as without a gate.

    `dropout` falls on the hidden vector, as in torch.nn.TransformerEncoderLayer. Raises ValueError for an activation
    that has no name here.

    >>> import torch
    >>> from attnkit.nn import FeedForward
    >>> FeedForward(8, 32, activation="swiglu", bias=False)(torch.ones(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    activation: str
    up: nn.Linear
    gate: nn.Linear | None
    down: nn.Linear
    dropout: nn.Dropout

    @no_type_check  # wrong arguments are refused in words
    def __init__(
        self, d_model: int, d_hidden: int, *, activation: Activation = "relu", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; it must be one of {', '.join(map(repr, ACTIVATIONS))}")
        self.activation = activation
        self.up = Linear(d_model, d_hidden, bias=bias)
        self.gate = Linear(d_model, d_hidden, bias=bias) if activation in GATED else None
        self.down = Linear(d_hidden, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform weights, biases of zero."""
        for linear in self.children():
            if isinstance(linear, nn.Linear):
                nn.init.xavier_uniform_(linear.weight)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "batch len d_model"]) -> Float[Tensor, "batch len d_model"]:
        """The same function at each position."""
        f, up = FUNCTIONS[self.activation], self.up(x)  # (batch, len, d_hidden)
        hidden = f(up) if self.gate is None else f(self.gate(x)) * up
        return self.down(self.dropout(hidden))

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}"
