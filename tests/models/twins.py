"""Tiny models of Hugging Face Transformers with nothing left at its initial value, and how far ours is from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, modeling_rope_utils

WIDTH, HEADS, LAYERS, VOCAB = 32, 4, 2, 61


def stirred(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Every parameter moved at random: norms leave 1, biases leave 0, so that none can be mixed up unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter) * 0.2
    return model.eval()


def saved(model: PreTrainedModel, folder: Path, **options) -> Path:
    """Written by Transformers itself."""
    model.save_pretrained(folder, **options)
    return folder


def edit(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """Rewrite the tensors of a folder."""
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    save_file({name: x.contiguous().clone() for name, x in change(load_file(path)).items()}, path, metadata=notes)
    return folder


def settings(folder: Path, **entries) -> Path:
    """Change config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder


def ids(batch: int, length: int, seed: int = 1) -> Tensor:
    """Tokens at random."""
    return torch.randint(3, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The greatest difference; infinite when there is a NaN."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return (ours - theirs).abs().max().nan_to_num(float("inf")).item()


class _Doubling:
    """torch, as a module of Transformers sees it whose constants are to be computed in float64."""

    float = float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


def in_double(model: PreTrainedModel, monkeypatch) -> PreTrainedModel:
    """The model in float64 throughout: Llama's code rounds its angles and its norms to float32 whatever comes in."""
    model = model.double()
    model.set_attn_implementation("sdpa")  # "eager" rounds the softmax
    backbone = getattr(model, "model", None)
    for norm in (module for module in model.modules() if type(module).__name__.endswith("RMSNorm")):
        monkeypatch.setattr(norm, "forward", _norm(norm))
    if hasattr(backbone, "rotary_emb"):
        monkeypatch.setattr(modeling_rope_utils, "torch", _Doubling())
        monkeypatch.setattr(backbone.rotary_emb, "forward", _angles(backbone.rotary_emb))
    return model


def _norm(norm: nn.Module):
    return lambda x: nn.functional.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)


def _angles(rotary: nn.Module):
    """The tables of Transformers' own frequencies, for the longest position of the call."""
    config = rotary.config
    kind = config.rope_parameters["rope_type"]

    def forward(x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        if kind == "default":
            d, base = 2 * len(rotary.inv_freq), config.rope_parameters["rope_theta"]
            frequencies, grown = base ** -(torch.arange(0, d, 2, dtype=torch.float64) / d), 1.0
        else:
            make = modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind]
            frequencies, grown = make(config, x.device, seq_len=int(position_ids.max()) + 1)
        assert frequencies.dtype == torch.float64
        angle = position_ids[..., None].double() * frequencies
        table = torch.cat([angle, angle], dim=-1)
        return table.cos() * grown, table.sin() * grown

    return forward


def refused(model: type, folder: Path | str, error: type[Exception], sentence: str) -> None:
    """The error in its own words, with no other error behind it."""
    with pytest.raises(error, match=sentence) as caught:
        model.from_pretrained(folder)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
