"""A tiny GPT-2 and its folder, for the tests of files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.models.twins import HEADS, LAYERS, VOCAB, WIDTH, saved, stirred


@pytest.fixture(scope="session")
def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 24, "vocab_size": VOCAB}
    return stirred(GPT2LMHeadModel(GPT2Config(**sizes)))


@pytest.fixture
def folder(gpt2, tmp_path) -> Path:
    """A checkpoint as Transformers writes it."""
    return saved(gpt2, tmp_path / "gpt2")
