"""Kernel regression against the quotient of sums that defines it, and against attention where they are the same."""

from __future__ import annotations

import doctest
import math
import sys

import pytest
import torch

from attnkit import attention
from attnkit.variants import kernel_regression


@pytest.mark.parametrize("width", [0.3, 1.0, 5.0])
def test_it_is_the_quotient_of_sums(width: float) -> None:
    query, key, value = torch.randn(4, 3).double(), torch.randn(9, 3).double(), torch.randn(9, 2).double()
    out, weights = kernel_regression(query, key, value, width)
    for i in range(4):
        near = [math.exp(-float(((query[i] - key[j]) ** 2).sum()) / (2 * width**2)) for j in range(9)]
        expected = sum(near[j] * value[j] for j in range(9)) / sum(near)
        torch.testing.assert_close(out[i], expected)
        torch.testing.assert_close(weights[i], torch.tensor(near).double() / sum(near))


def test_keys_of_one_norm_leave_dot_product_attention() -> None:
    query, value = torch.randn(4, 3).double(), torch.randn(9, 2).double()
    key = torch.nn.functional.normalize(torch.randn(9, 3).double(), dim=-1)
    out, _ = kernel_regression(query, key, value, 0.5)
    torch.testing.assert_close(out, attention(query[None, None], key[None, None], value[None, None], scale=4.0)[0, 0])
    longer = key * torch.arange(1, 10)[:, None]  # and keys of different norms do not
    out, _ = kernel_regression(query, longer, value, 0.5)
    assert not torch.allclose(out, attention(query[None, None], longer[None, None], value[None, None], scale=4.0)[0, 0])


def test_what_does_not_fit_is_named() -> None:
    points = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"width is 0\.0; it must be a number above 0"):
        kernel_regression(points, points, points, 0.0)
    with pytest.raises(ValueError, match=r"value has shape \(3,\); it must be \(length, width\)"):
        kernel_regression(points, points, torch.zeros(3), 1.0)


def test_the_example_in_the_docstring_is_right() -> None:
    found = doctest.testmod(sys.modules["attnkit.variants.kernel_regression"])
    assert found.attempted
    assert not found.failed
