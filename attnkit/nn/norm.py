"""Which normalisation a configuration asks for. Both are torch's own."""

from __future__ import annotations

from torch import nn

from attnkit.nn.config import Config


def make_norm(config: Config) -> nn.LayerNorm | nn.RMSNorm:
    """A norm over the last axis, of width `config.d_model`.

    - "layer": (x - mean) / sqrt(variance + eps) * weight + bias (Ba et al. 2016, arXiv:1607.06450, eq. 4), with the
      variance divided by d_model, not d_model - 1;
    - "rms": x / sqrt(mean(x²) + eps) * weight (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4). It has no bias.

    >>> from attnkit.nn import Config, make_norm
    >>> make_norm(Config(d_model=8, norm="rms", eps=1e-6))
    RMSNorm((8,), eps=1e-06, elementwise_affine=True)
    """
    if config.norm == "rms":
        return nn.RMSNorm(config.d_model, eps=config.eps)
    return nn.LayerNorm(config.d_model, eps=config.eps, bias=config.bias)
