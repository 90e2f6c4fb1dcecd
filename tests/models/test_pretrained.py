"""Files that are read: as they are published, in every precision, and our own; and nothing half written."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, LlamaForCausalLM
from transformers import LlamaConfig as TheirLlamaConfig

import attnkit.models
from attnkit.models import (
    BERT,
    GPT,
    GPTConfig,
    Llama,
    LlamaConfig,
    MaskedLanguageModel,
)
from attnkit.models.pretrained import Pretrained
from attnkit.nn import Config
from tests.models.twins import HEADS, LAYERS, VOCAB, WIDTH, apart, edit, ids, refused, saved, settings, stirred

SIZES = {"d_model": WIDTH, "heads": HEADS, "layers": LAYERS, "d_hidden": 40}


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


def test_loading_draws_no_random_numbers_and_leaves_nothing_unfilled(gpt2, folder) -> None:
    before = torch.random.get_rng_state()
    ours = GPT.from_pretrained(folder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(x.is_meta for x in [*ours.parameters(), *ours.buffers()])
    assert ours.embedding.weight.requires_grad


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


class Siblings(Pretrained):
    """A model that nobody published, with a parameter in two places and a buffer of its own."""

    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.first, self.second = (torch.nn.Linear(config.d_model, config.d_model) for _ in range(2))
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.arange(5.0))


def test_a_model_of_ones_own(tmp_path) -> None:
    model = Siblings(Config(d_model=8))
    model.save_pretrained(tmp_path)
    assert sorted(load_file(tmp_path / "model.safetensors")) == ["first.bias", "first.weight", "second.bias"]
    again = Siblings.from_pretrained(tmp_path)
    assert again.second.weight is again.first.weight
    assert torch.equal(again.first.weight, model.first.weight)
    assert torch.equal(again.steps, model.steps)


def test_a_model_of_ones_own_reads_no_published_file(folder) -> None:
    refused(Siblings, folder, ValueError, "was not written by attnkit; Siblings reads no other format")


def test_what_we_wrote_is_checked_too(tmp_path) -> None:
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES)).save_pretrained(tmp_path)
    refused(Llama, tmp_path, ValueError, "describes a GPT; it was asked for as Llama")
    edited = edit(tmp_path, lambda tensors: {k: x for k, x in tensors.items() if "norm" not in k})
    refused(GPT, edited, ValueError, r"missing \(\d+\):\n    decoder.layers.0.norm_attention")
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES)).save_pretrained(tmp_path)
    refused(GPT, settings(tmp_path, dropout=0.7), ValueError, "not of the same save: the settings in them differ")
    refused(
        GPT,
        settings(tmp_path, attnkit={"format": 9}),
        ValueError,
        r"format .*9.*; this version of attnkit reads format 1",
    )


CRASH = """
import os, sys
from attnkit.models import GPT, GPTConfig
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
        refused(GPT, tmp_path, ValueError, "not of the same save")
    GPT(GPTConfig(vocab=VOCAB, context=24, **SIZES, dropout=0.2)).save_pretrained(tmp_path)
    assert GPT.from_pretrained(tmp_path).config.dropout == 0.2


@pytest.mark.parametrize(
    "name", ["__init__", "bert", "bert_heads", "gpt", "llama", "vit", "pretrained", "weights.published"]
)
def test_the_examples_are_true(name) -> None:
    module = importlib.import_module(f"attnkit.models.{name}".removesuffix(".__init__"))
    assert not doctest.testmod(module, extraglobs={"torch": torch}).failed


def test_every_exported_name_is_there() -> None:
    assert sorted(attnkit.models.__all__) == sorted(attnkit.models._HOMES)
    for name in attnkit.models.__all__:
        assert getattr(attnkit.models, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'RoBERTa'"):
        _ = attnkit.models.RoBERTa
