"""attnkit is registered with Transformers once, and Transformers says nothing that is no error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from attnkit.integrations.transformers import register


@pytest.fixture(scope="session", autouse=True)
def _registered() -> None:
    transformers.logging.set_verbosity_error()
    register()


@pytest.fixture(autouse=True)
def _softmax_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager attention of many models rounds a float64 softmax to float32, so that 1e-10 could not be asked of it."""
    softmax = F.softmax

    def full(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return softmax(x, *args, **(options | {"dtype": x.dtype} if x.dtype == torch.float64 else options))

    monkeypatch.setattr(F, "softmax", full)
