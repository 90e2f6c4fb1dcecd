"""Files: what is read, what is refused and in which words, and what is written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM
from transformers import LlamaConfig as TheirLlamaConfig

from attnkit.models import BERT, GPT, GPTConfig, Llama, LlamaConfig, MaskedLanguageModel
from attnkit.models.weights import files
from tests.models.twins import HEADS, LAYERS, VOCAB, WIDTH, apart, ids, saved, stirred

SIZES = {"d_model": WIDTH, "heads": HEADS, "layers": LAYERS, "d_hidden": 40}


@pytest.fixture(scope="module")
def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return stirred(
        GPT2LMHeadModel(GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=24, vocab_size=VOCAB))
    )


@pytest.fixture
def folder(gpt2, tmp_path) -> Path:
    """A checkpoint as Transformers writes it."""
    return saved(gpt2, tmp_path / "gpt2")


def edit(folder: Path, change) -> Path:
    """Rewrite the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    save_file({name: x.contiguous().clone() for name, x in change(tensors).items()}, folder / "model.safetensors")
    return folder


def settings(folder: Path, **entries) -> Path:
    """Change config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder


# What is published differs from what Transformers writes today.


@torch.no_grad()
def test_gpt2_as_it_was_published(gpt2, folder) -> None:
    """Without a prefix, with the causal mask as a buffer in every layer, and with a copy of the tied head."""

    def older(tensors):
        plain = {name.removeprefix("transformer."): x for name, x in tensors.items()}
        for layer in range(LAYERS):
            plain[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
            plain[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        return plain | {"lm_head.weight": plain["wte.weight"]}

    extras = {
        "n_ctx": 24,
        "task_specific_params": {"text-generation": {"do_sample": True}},
        "transformers_version": None,
    }
    ours = GPT.from_pretrained(settings(edit(folder, older), **extras))
    assert apart(ours(ids(2, 9)), gpt2(ids(2, 9)).logits) <= 1e-5


@torch.no_grad()
def test_a_tied_tensor_under_its_other_name_alone(gpt2, folder) -> None:
    def headed(tensors):
        return {"lm_head.weight": tensors.pop("transformer.wte.weight")} | tensors

    assert apart(GPT.from_pretrained(edit(folder, headed))(ids(2, 9)), gpt2(ids(2, 9)).logits) <= 1e-5


@torch.no_grad()
def test_bert_as_it_was_published(tmp_path) -> None:
    """gamma and beta, the position numbers as a buffer, and the tied decoder once more."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 40}
    theirs = stirred(BertForPreTraining(BertConfig(**sizes, vocab_size=VOCAB, max_position_embeddings=24)))

    def older(tensors):
        named = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
            for name, x in tensors.items()
        }
        assert any("gamma" in name for name in named)
        return named | {
            "bert.embeddings.position_ids": torch.arange(24)[None],
            "cls.predictions.decoder.weight": named["bert.embeddings.word_embeddings.weight"],
            "cls.predictions.decoder.bias": named["cls.predictions.bias"],
        }

    folder = settings(edit(saved(theirs, tmp_path), older), gradient_checkpointing=False, pooler_type="first_token")
    expected = theirs(ids(2, 9)).prediction_logits
    assert apart(MaskedLanguageModel.from_pretrained(folder)(ids(2, 9)), expected) <= 1e-5
    assert BERT.from_pretrained(folder).pooler is not None


@torch.no_grad()
def test_llama_as_it_was_published(tmp_path) -> None:
    """In shards, each layer with the rotary frequencies as a buffer."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 40}
    theirs = stirred(LlamaForCausalLM(TheirLlamaConfig(**sizes, vocab_size=VOCAB)))
    saved(theirs, tmp_path, max_shard_size="12KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    first = load_file(shards[0]) | {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(LAYERS)
    }
    save_file(first, shards[0])
    index["weight_map"] |= dict.fromkeys(first, shards[0].name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert apart(Llama.from_pretrained(tmp_path)(ids(2, 9)), theirs(ids(2, 9)).logits) <= 1e-5


# What is refused.


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


def refused(folder: Path | str, error: type[Exception], sentence: str, model: type = GPT) -> None:
    """The error in its own words, with no other error behind it."""
    with pytest.raises(error, match=sentence) as caught:
        model.from_pretrained(folder)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_no_folder(tmp_path, folder) -> None:
    refused(tmp_path / "nowhere", FileNotFoundError, "there is no folder .*nowhere")
    refused("./nowhere", FileNotFoundError, r"there is no folder \./nowhere")
    refused(folder / "model.safetensors", NotADirectoryError, "model.safetensors is a file; give the folder that holds")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", FileNotFoundError, "empty has no config.json; it holds nothing")


def test_unreadable_settings(folder) -> None:
    path = folder / "config.json"
    path.write_text('{"n_embd": 32,')
    refused(folder, ValueError, "config.json is not readable as JSON: Expecting property name")
    path.write_bytes(b"\xff\xfe")
    refused(folder, ValueError, "config.json is not readable as JSON: .*decode")
    path.write_text("[1, 2]")
    refused(folder, ValueError, "config.json holds a JSON list; it must hold an object")


def test_unreadable_weights(folder) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:50], b"", b"x" * 100):
        path.write_bytes(broken)
        refused(folder, ValueError, "model.safetensors is damaged, or no safetensors file")
    path.unlink()
    refused(folder, FileNotFoundError, "has neither model.safetensors nor model.safetensors.index.json")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_not_read(folder, name) -> None:
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, ValueError, f"holds {name} and no safetensors: pickled weights can run code when they are opened")


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
    refused(tmp_path, ValueError, f"its shards disagree about: {name} in {shards[0]}, {name} in {shards[1]}")
    said(**{name: "../secret.safetensors"})
    refused(tmp_path, ValueError, r"names \.\./secret.safetensors; a shard is a file of the same folder")
    index_file.write_text("{}")
    refused(tmp_path, ValueError, "index.json has no weight_map")
    said()
    (tmp_path / shards[1]).unlink()
    refused(tmp_path, FileNotFoundError, f"lacks 1 of {count} shards: {shards[1]}")


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
    refused(name, FileNotFoundError, sentence)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    refused(name, FileNotFoundError, sentence)


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


# Precision.


def test_dtype_is_the_files_unless_given(gpt2, folder) -> None:
    assert GPT.from_pretrained(folder).embedding.weight.dtype == torch.float32
    assert GPT.from_pretrained(folder, dtype=torch.float64).embedding.weight.dtype == torch.float64
    edit(folder, lambda tensors: {name: x.bfloat16() for name, x in tensors.items()})
    assert {p.dtype for p in GPT.from_pretrained(folder).parameters()} == {torch.bfloat16}
    edit(folder, lambda tensors: {name: x.half() if "wte" in name else x for name, x in tensors.items()})
    mixed = GPT.from_pretrained(folder)  # bfloat16 and float16 have only float32 in common
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}
    stored = gpt2.transformer.wte.weight.bfloat16().half().float()
    assert torch.equal(mixed.embedding.weight, stored)


def test_changes_and_mode(folder) -> None:
    model = GPT.from_pretrained(folder, dropout=0.5, backend="naive")
    assert not model.training
    assert (model.config.dropout, model.dropout.p, model.config.backend) == (0.5, 0.5, "naive")
    with pytest.raises(ValueError, match="GPTConfig has no field 'colour'"):
        GPT.from_pretrained(folder, colour="red")
    with pytest.raises(ValueError, match="fresh names embeding; GPT has no such module"):
        GPT.from_pretrained(folder, fresh=("embeding",))


# Our own format.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_round_trip_is_exact(dtype, tmp_path) -> None:
    config = GPTConfig(vocab=VOCAB, context=24, **SIZES, dropout=0.25)
    model = GPT(config).to(dtype).eval()
    model.save_pretrained(tmp_path / "new" / "place")
    again = GPT.from_pretrained(tmp_path / "new" / "place")
    assert again.config == config
    theirs = dict(again.named_parameters())
    for name, parameter in model.named_parameters():
        assert theirs[name].dtype == dtype
        assert torch.equal(theirs[name], parameter)
    assert torch.equal(again(ids(2, 9)), model(ids(2, 9)))


def test_tied_tensors_are_stored_once(tmp_path) -> None:
    for tied, count in ((True, 1), (False, 2)):
        Llama(LlamaConfig(vocab=VOCAB, **SIZES, tied=tied)).save_pretrained(tmp_path)
        shapes = [tuple(x.shape) for x in load_file(tmp_path / "model.safetensors").values()]
        assert shapes.count((VOCAB, WIDTH)) == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_what_we_wrote_is_checked_too(tmp_path) -> None:
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES)).save_pretrained(tmp_path)
    refused(tmp_path, ValueError, "describes a GPT; it was asked for as Llama", model=Llama)
    edited = edit_keeping_notes(tmp_path, lambda tensors: {k: x for k, x in tensors.items() if "norm" not in k})
    refused(edited, ValueError, r"missing \(\d+\):\n    decoder.layers.0.norm_attention")
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES)).save_pretrained(tmp_path)
    refused(settings(tmp_path, dropout=0.7), ValueError, "not of the same save: the settings in them differ")
    refused(
        settings(tmp_path, attnkit={"format": 9}), ValueError, r"format .*9.*; this version of attnkit reads format 1"
    )


def edit_keeping_notes(folder: Path, change) -> Path:
    path = folder / "model.safetensors"
    with files.tensors(folder) as tensors:
        notes = tensors.notes
    save_file(change(load_file(path)), path, metadata=notes)
    return folder


CRASH = """
import os, sys
from attnkit.models import GPT, GPTConfig
from attnkit.models.weights import files
left, real = int(sys.argv[2]), os.{call}
def dying(*arguments):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    return real(*arguments)
os.{call} = dying
sizes = dict(vocab=61, context=24, d_model=32, heads=4, layers=2, d_hidden=40)
GPT(GPTConfig(**sizes, dropout=0.5)).save_pretrained(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("call", "left"), [("fsync", 0), ("replace", 0), ("fsync", 1)])
def test_a_crash_leaves_no_half_file(call, left, tmp_path) -> None:
    """Killed before either rename, or between the two: the old checkpoint, or a refusal; never a mixture."""
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES, dropout=0.1)).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    code = CRASH.replace("{call}", call)
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(left)], env=os.environ, check=False)
    assert run.returncode == 9
    if left == 0:
        assert (tmp_path / "model.safetensors").read_bytes() == before
        assert GPT.from_pretrained(tmp_path).config.dropout == 0.1
    else:
        refused(tmp_path, ValueError, "not of the same save")
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES, dropout=0.2)).save_pretrained(tmp_path)
    assert GPT.from_pretrained(tmp_path).config.dropout == 0.2
