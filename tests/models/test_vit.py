"""ViT against ViTForImageClassification, weights copied through files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import ViTConfig as TheirConfig
from transformers import ViTForImageClassification, ViTModel

from attnkit.models import ViT, ViTConfig
from attnkit.nn import recording
from tests.models.twins import HEADS, LAYERS, WIDTH, apart, in_double, saved, stirred

SMALL = {"d_model": 16, "heads": 2, "layers": 1, "d_hidden": 32}


def published(kind=ViTForImageClassification, **settings):
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 40,
        "image_size": 12,
        "patch_size": 4,
        "num_labels": 5,
    }
    torch.manual_seed(0)
    return stirred(kind(TheirConfig(**sizes | settings, attn_implementation="eager")))


def images(channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, channels, 12, 12, generator=torch.Generator().manual_seed(2), dtype=dtype)


@pytest.mark.parametrize(
    "settings",
    [{}, {"qkv_bias": False}, {"num_channels": 1, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "patch_size": 3}],
    ids=str,
)
@torch.no_grad()
def test_logits_are_those_of_transformers(settings, tmp_path, monkeypatch) -> None:
    theirs, channels = published(**settings), settings.get("num_channels", 3)
    folder = saved(theirs, tmp_path)
    assert apart(ViT.from_pretrained(folder)(images(channels)), theirs(images(channels)).logits) <= 1e-5
    exact, double = ViT.from_pretrained(folder, dtype=torch.float64), images(channels, torch.float64)
    assert apart(exact(double), in_double(theirs, monkeypatch)(double).logits) <= 1e-11


@torch.no_grad()
def test_attention_maps_are_those_of_transformers(tmp_path) -> None:
    theirs = published()
    ours = ViT.from_pretrained(saved(theirs, tmp_path))
    with recording(ours) as maps:
        ours(images())
    expected = theirs(images(), output_attentions=True).attentions
    assert len(maps) == LAYERS
    for (found,), other in zip(maps.values(), expected, strict=True):
        assert apart(found, other) <= 1e-6


def test_a_new_head_on_a_file_without_one(tmp_path) -> None:
    folder = saved(published(ViTModel), tmp_path)
    with pytest.raises(ValueError, match=r"classifier.weight \(for head.weight\)"):
        ViT.from_pretrained(folder)
    assert ViT.from_pretrained(folder, fresh=("head",), labels=9)(images()).shape == (2, 9)


@torch.no_grad()
def test_the_mean_of_the_patches_does_not_depend_on_their_order_once_positions_are_gone() -> None:
    torch.manual_seed(0)
    model = ViT(ViTConfig(image=12, patch=4, labels=5, pool="mean", **SMALL)).eval()
    assert model.class_token is None
    assert model.position.table.weight.shape == (9, 16)
    model.position.table.weight.zero_()
    turned = images().roll(4, dims=2)  # by one patch
    assert apart(model(images()), model(turned)) <= 1e-6
    assert apart(model(images()), model(images().roll(2, dims=2))) > 1e-5


def test_base_has_its_published_size() -> None:
    with torch.device("meta"):
        model = ViT(ViTConfig())
    assert sum(p.numel() for p in model.parameters()) == 86_567_656


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image": 10, "patch": 4}, "ViTConfig: image is 10; it must be a multiple of patch = 4"),
        ({"pool": "max"}, "pool is 'max'; it must be one of 'class', 'mean'"),
    ],
)
def test_settings_that_do_not_fit(settings, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        ViTConfig(**settings)


def test_an_image_of_another_size() -> None:
    model = ViT(ViTConfig(image=12, patch=4, labels=5, **SMALL))
    with pytest.raises(ValueError, match=r"images have shape \(2, 3, 12, 16\); this ViT needs \(batch, 3, 12, 12\)"):
        model(torch.zeros(2, 3, 12, 16))


def test_an_oblong_image_is_refused(tmp_path) -> None:
    theirs = published()
    theirs.config.image_size = [12, 8]
    theirs.config.save_pretrained(saved(theirs, tmp_path))
    with pytest.raises(ValueError, match=r"image_size = \[12, 8\]; it must be square"):
        ViT.from_pretrained(tmp_path)
