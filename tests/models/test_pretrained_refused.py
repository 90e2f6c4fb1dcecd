"""Files that are refused, each in its own words."""

from __future__ import annotations

import json
import socket
import sys

import huggingface_hub
import pytest
import torch

from attnkit.models import (
    GPT,
)
from tests.models.twins import WIDTH, apart, edit, ids, refused, saved, settings


def test_a_tied_copy_that_differs(folder) -> None:
    edit(folder, lambda tensors: tensors | {"lm_head.weight": tensors["transformer.wte.weight"] + 1})
    with pytest.raises(
        ValueError, match=r"lm_head.weight differs from transformer.wte.weight, though config.json says"
    ):
        GPT.from_pretrained(folder)


def test_everything_that_is_wrong_is_named_at_once(folder) -> None:
    def spoil(tensors):
        del tensors["transformer.h.1.ln_1.weight"], tensors["transformer.h.0.attn.c_attn.bias"]
        tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"][:, :31]
        tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].t()
        tensors["transformer.h.0.mlp.c_proj.bias"] = torch.zeros(())
        return tensors | {"transformer.h.2.ln_1.weight": torch.ones(WIDTH), "extra": torch.ones(2)}

    with pytest.raises(ValueError, match="does not fit GPT") as caught:
        GPT.from_pretrained(edit(folder, spoil))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    for line in (
        "missing (2):",
        "h.1.ln_1.weight (for decoder.layers.1.norm_attention.weight)",
        "h.0.attn.c_attn.bias (for decoder.layers.0.attention.query.bias, decoder.layers.0.attention.key.bias, "
        "decoder.layers.0.attention.value.bias)",
        "left over (2):",
        "extra",
        "transformer.h.2.ln_1.weight",
        "misshapen (3):",
        "transformer.wpe.weight has shape (24, 31); position.table.weight needs (24, 32)",
        "transformer.h.0.mlp.c_fc.weight has shape (128, 32), (32, 128) as decoder.layers.0.feed_forward.up.weight; "
        "decoder.layers.0.feed_forward.up.weight needs (128, 32)",
        "transformer.h.0.mlp.c_proj.bias has shape (); decoder.layers.0.feed_forward.down.bias needs (32,)",
    ):
        assert line in lines, f"{line}\nis not in\n{caught.value}"


def test_quantised_numbers_are_not_taken_for_weights(folder) -> None:
    edit(folder, lambda tensors: tensors | {"transformer.wpe.weight": torch.ones(24, WIDTH, dtype=torch.int8)})
    with pytest.raises(ValueError, match=r"transformer.wpe.weight holds I8; position.table.weight needs one of F64"):
        GPT.from_pretrained(folder)


def test_a_tensor_that_is_there_twice(folder) -> None:
    edit(folder, lambda tensors: tensors | {"wte.weight": tensors["transformer.wte.weight"]})
    with pytest.raises(ValueError, match=r"there twice \(1\):\n    transformer.wte.weight and wte.weight"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True; only False is supported"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn = True; only False is supported"),
        ({"scale_attn_weights": False}, "scale_attn_weights = False; only True is supported"),
        ({"add_cross_attention": True}, "add_cross_attention = True; only False is supported"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False; only True is supported"),
        ({"embd_pdrop": 0.5}, "embd_pdrop = 0.5; only 0.1 is supported"),
        ({"activation_function": "gelu_10"}, "activation_function = 'gelu_10'; supported are relu, gelu, gelu_python"),
        ({"rotary_dim": 64}, "not supported: rotary_dim = 64; each might change what the model computes"),
        ({"model_type": "gptj"}, "describes a model of type 'gptj'; GPT reads gpt2"),
        ({"n_head": 5}, "heads"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_would_compute_something_else(folder, entries, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        GPT.from_pretrained(settings(folder, **entries))


def test_no_folder(tmp_path, folder) -> None:
    refused(GPT, tmp_path / "nowhere", FileNotFoundError, "there is no folder .*nowhere")
    refused(GPT, "./nowhere", FileNotFoundError, r"there is no folder \./nowhere")
    refused(
        GPT, folder / "model.safetensors", NotADirectoryError, "model.safetensors is a file; give the folder that holds"
    )
    (tmp_path / "empty").mkdir()
    refused(GPT, tmp_path / "empty", FileNotFoundError, "empty has no config.json; it holds nothing")


def test_unreadable_settings(folder) -> None:
    path = folder / "config.json"
    path.write_text('{"n_embd": 32,')
    refused(GPT, folder, ValueError, "config.json is not readable as JSON: Expecting property name")
    path.write_bytes(b"\xff\xfe")
    refused(GPT, folder, ValueError, "config.json is not readable as JSON: .*decode")
    path.write_text("[1, 2]")
    refused(GPT, folder, ValueError, "config.json holds a JSON list; it must hold an object")


def test_unreadable_weights(folder) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:50], b"", b"x" * 100):
        path.write_bytes(broken)
        refused(GPT, folder, ValueError, "model.safetensors is damaged, or no safetensors file")
    path.unlink()
    refused(GPT, folder, FileNotFoundError, "has neither model.safetensors nor model.safetensors.index.json")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_not_read(folder, name) -> None:
    (folder / "model.safetensors").rename(folder / name)
    refused(
        GPT, folder, ValueError, f"holds {name} and no safetensors: pickled weights can run code when they are opened"
    )


def test_shards(gpt2, tmp_path) -> None:
    saved(gpt2, tmp_path, max_shard_size="20KB")
    index_file = tmp_path / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    shards = sorted(set(index["weight_map"].values()))
    count = len(shards)
    assert apart(GPT.from_pretrained(tmp_path)(ids(1, 5)), gpt2(ids(1, 5)).logits) <= 1e-5
    name = next(name for name, shard in index["weight_map"].items() if shard == shards[0])

    def said(**entries):
        index_file.write_text(json.dumps({"weight_map": index["weight_map"] | entries}))

    said(**{name: shards[1]})
    refused(GPT, tmp_path, ValueError, f"its shards disagree about: {name} in {shards[0]}, {name} in {shards[1]}")
    said(**{name: "../secret.safetensors"})
    refused(GPT, tmp_path, ValueError, r"names \.\./secret.safetensors; a shard is a file of the same folder")
    index_file.write_text("{}")
    refused(GPT, tmp_path, ValueError, "index.json has no weight_map")
    said()
    (tmp_path / shards[1]).unlink()
    refused(GPT, tmp_path, FileNotFoundError, f"lacks 1 of {count} shards: {shards[1]}")


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_a_name_without_network(name, monkeypatch, tmp_path) -> None:
    """One sentence, whether the hub's client was told to stay offline or the network is not there."""

    def unplugged(*_, **__):
        raise OSError("no network in tests")

    sentence = f"there is no folder '{name}' here, and it could not be fetched from the Hugging Face hub .*: without"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "socket", unplugged)
    monkeypatch.setattr(socket, "getaddrinfo", unplugged)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused(GPT, name, FileNotFoundError, sentence)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    refused(GPT, name, FileNotFoundError, sentence)


def test_a_name_that_the_hub_has(monkeypatch, gpt2, folder) -> None:
    """What is fetched: settings and safetensors, and nothing else."""
    asked = {}

    def fetched(name, **options):
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert apart(GPT.from_pretrained("some/model")(ids(1, 5)), gpt2(ids(1, 5)).logits) <= 1e-5
    assert asked["name"] == "some/model"
    patterns = asked["allow_patterns"]
    wanted = list(
        huggingface_hub.utils.filter_repo_objects(
            [
                "config.json",
                "model.safetensors",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "pytorch_model.bin",
                "onnx/model.safetensors",
                "tf_model.h5",
                "modeling.py",
            ],
            allow_patterns=patterns,
        )
    )
    assert wanted == [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
    ]


def test_without_the_package_of_the_hub(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'huggingface-hub: pip install "attnkit\[models\]"'):
        GPT.from_pretrained("gpt2")
