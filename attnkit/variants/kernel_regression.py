"""Kernel regression: attention fifty years before its name."""

from __future__ import annotations

from typing import no_type_check

from jaxtyping import Float
from torch import Tensor

from attnkit.attention import attention


@no_type_check  # wrong arguments are refused in words
def kernel_regression(
    query: Float[Tensor, "q_len d"], key: Float[Tensor, "k_len d"], value: Float[Tensor, "k_len d_v"], width: float
) -> tuple[Float[Tensor, "q_len d_v"], Float[Tensor, "q_len k_len"]]:
    """The mean of the values, each weighted by how near its key is: a Gaussian of standard deviation `width`.

    f(q) = sum_j K(q - k_j) v_j / sum_j K(q - k_j), K(u) = exp(-|u|^2 / (2 width^2)): the estimator of Nadaraya 1964 (On
    Estimating Regression, Theory of Probability and Its Applications 9(1), 141-142) and of Watson 1964 (Smooth
    Regression Analysis, Sankhya A 26(4), 359-372). Written as attention, for its weights are a softmax over the keys of

        -|q - k|^2 / (2 width^2) = q . k / width^2 - |k|^2 / (2 width^2) - |q|^2 / (2 width^2),

    of which the last term is the same for every key, the middle one a bias for each key, the first a scaled dot
    product. Where all keys have the same norm, nothing is left but dot-product attention.

    `width` is in the units of query and key. Returns the estimates and the weights.

    >>> import torch
    >>> keys, values = torch.tensor([[-1.0], [1.0]]), torch.tensor([[2.0], [4.0]])
    >>> kernel_regression(torch.tensor([[0.0]]), keys, values, width=1.0)[0]
    tensor([[3.]])
    """
    if not width > 0:
        raise ValueError(f"width is {width!r}; it must be a number above 0, in the units of query and key")
    for name, table in (("query", query), ("key", key), ("value", value)):
        if table.ndim != 2:
            raise ValueError(f"{name} has shape {tuple(table.shape)}; it must be (length, width), one point a row")
    bias = -key.square().sum(-1) / (2 * width**2)
    out, aux = attention(
        query[None, None],
        key[None, None],
        value[None, None],
        scale=width**-2,
        bias=bias.expand(len(query), -1)[None, None],
        aux=("weights",),
    )
    return out[0, 0], aux.weights[0, 0]
