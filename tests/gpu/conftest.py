"""What only a device can show: `ATTNKIT_DEVICE=cuda python -m pytest tests/backends/test_conformance.py tests/gpu`."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture
def cuda() -> str:
    """The device to run on. Under Triton's interpreter there is none, even where there is a GPU."""
    if os.environ.get("ATTNKIT_DEVICE") != "cuda" or not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"
