"""The translator: shapes, lengths, one table or two, and the language model that it becomes once it has read."""

from __future__ import annotations

import doctest
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnkit.generation import Greedy, generate
from attnkit.masks import Prefix
from attnkit.models import Translator, TranslatorConfig, conditioned, translator
from attnkit.positions import T5, ALiBi, Learned, Rotary

SOURCE = torch.randint(1, 20, (3, 7), generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(1, 30, (3, 6), generator=torch.Generator().manual_seed(1))
LENGTHS = [7, 4, 2]
POSITIONS = [None, Rotary(4), ALiBi(4), T5(4), Learned(7, 16)]


def make(position: nn.Module | None = None, **changes: object) -> Translator:
    settings = {"source_vocab": 20, "target_vocab": 30, "d_model": 16, "heads": 4, "d_hidden": 32, "layers": 2}
    torch.manual_seed(0)
    model = Translator(TranslatorConfig(**settings | changes), position).double().eval()
    for p in model.parameters():  # a new model is too much alike everywhere to show an error
        p.data += 0.1 * torch.randn_like(p)
    return model


@pytest.mark.parametrize("position", POSITIONS, ids=str)
@pytest.mark.parametrize("chunks", [[1] * 6, [6], [3, 1, 2]])
@pytest.mark.parametrize("kind", [("dynamic", {}), ("static", {"length": 6}), None], ids=str)
def test_steps_with_and_without_cache_equal_the_whole_pass(
    position: nn.Module | None, chunks: list[int], kind: tuple | None
) -> None:
    model = make(position)
    want = model(SOURCE, TARGET, source_lengths=LENGTHS)
    assert want.shape == (3, 6, 30)
    reader = model.conditioned(SOURCE, LENGTHS)
    cache, seen, outs = kind and reader.new_cache(kind[0], **kind[1]), 0, []
    for size in chunks:
        seen += size
        if cache is None:
            outs.append(reader(TARGET[:, :seen])[:, -size:])
        else:
            outs.append(reader(TARGET[:, seen - size : seen], cache=cache))
    torch.testing.assert_close(torch.cat(outs, 1), want, rtol=0, atol=1e-12)
    torch.testing.assert_close(reader(TARGET, last=True), want[:, -1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_padding_changes_nothing(position: nn.Module | None) -> None:
    model, ends = make(position), [3, 6, 5]
    out = model(SOURCE, TARGET, source_lengths=LENGTHS, target_lengths=ends)
    for i, (n, m) in enumerate(zip(LENGTHS, ends, strict=True)):
        alone = model(SOURCE[i : i + 1, :n], TARGET[i : i + 1, :m])
        torch.testing.assert_close(out[i : i + 1, :m], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_targets_padded_on_the_left(position: nn.Module | None) -> None:
    """As `generate` pads prompts of different length."""
    model, pads = make(position), torch.tensor([0, 2])
    reader, ids = model.conditioned(SOURCE[:2], LENGTHS[:2]), TARGET[:2].clone()
    ids[1] = torch.cat([torch.zeros(2, dtype=torch.long), TARGET[1, :4]])
    at = (torch.arange(6) - pads[:, None]).clamp(min=0)
    want = reader(TARGET[:2])
    out = reader(ids, mask=~Prefix(pads), positions=at)
    torch.testing.assert_close(out[0], want[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1, 2:], want[1, :4], rtol=0, atol=1e-12)


def test_select_picks_and_repeats_rows() -> None:
    model, index = make(), torch.tensor([2, 0, 0, 1])
    reader = model.conditioned(SOURCE, LENGTHS)
    want, cache = reader(TARGET)[index], reader.new_cache()
    reader(TARGET[:, :3], cache=cache)
    cache.reorder(index)
    out = reader.select(index)(TARGET[index, 3:], cache=cache)
    torch.testing.assert_close(out, want[:, 3:], rtol=0, atol=1e-12)
    torch.testing.assert_close(reader.select(index)(TARGET[index]), want, rtol=0, atol=1e-12)
    assert make().conditioned(SOURCE).select(index)(TARGET[index]).shape == (4, 6, 30)


def test_a_memory_is_read_once_and_projected_once() -> None:
    model, calls = make(), []
    for layer in model.transformer.decoder.layers:
        layer.cross_attention.key.register_forward_hook(lambda *_: calls.append("project"))
    model.transformer.encoder.register_forward_hook(lambda *_: calls.append("read"))
    reader = model.conditioned(SOURCE, LENGTHS)
    cache = reader.new_cache()
    for i in range(6):
        reader(TARGET[:, i : i + 1], cache=cache)
    assert calls == ["read", "project", "project"]


def test_it_generates() -> None:
    """Greedy with a cache is the argmax of the whole pass, token by token."""
    model = make()
    reader, ids = model.conditioned(SOURCE, LENGTHS), TARGET[:, :1]
    for _ in range(5):
        ids = torch.cat([ids, reader(ids, last=True).argmax(-1)], dim=1)
    assert generate(reader, TARGET[:, :1], max_new=5, method=Greedy()).tokens == ids[:, 1:].tolist()


def test_generation_puts_dropout_off() -> None:
    """Also when the translator is in training: the reader is a module, so that its mode can be set."""
    model = make(dropout=0.5)
    reader = model.conditioned(SOURCE, LENGTHS)
    want = generate(reader, TARGET[:, :1], max_new=5).scores
    model.train()
    assert generate(reader, TARGET[:, :1], max_new=5).scores == want
    assert model.training


def test_tied_tables_are_one_tensor() -> None:
    apart, shared = make(), make(shared=True, target_vocab=20)
    assert len([p for p in apart.parameters() if p.shape[0] in (20, 30)]) == 2
    assert shared.source_embedding is shared.target_embedding
    assert len([p for p in shared.parameters() if p.shape == (20, 16)]) == 1
    before = shared(SOURCE, SOURCE)
    shared.source_embedding.weight.data[5] += 1.0
    assert not torch.allclose(before[..., 5], shared(SOURCE, SOURCE)[..., 5])


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_new_model_guesses_and_every_weight_learns(norm_first: bool) -> None:
    torch.manual_seed(0)
    config = TranslatorConfig(source_vocab=40, target_vocab=50, d_model=64, heads=4, layers=2, norm_first=norm_first)
    model, (source, target, following) = Translator(config), torch.randint(1, 40, (3, 16, 12))
    loss = F.cross_entropy(model(source, target).flatten(0, 1), following.flatten())
    assert abs(loss.item() - math.log(50)) < 0.25
    loss.backward()
    silent = {name for name, p in model.named_parameters() if not p.grad.any()}
    assert not {name for name in silent if not name.endswith(".key.bias")}  # softmax ignores what all keys share


def test_weights_go_through_a_state_dict() -> None:
    first, second = make(T5(4)), make(T5(4), dropout=0.1)
    first.source_embedding.weight.data *= 2
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(SOURCE, TARGET), second(SOURCE, TARGET))
    assert TranslatorConfig.from_dict(first.config.to_dict()) == first.config


def test_dropout_falls_on_the_embeddings_too() -> None:
    model = make(dropout=0.5, attention_dropout=0.0, layers=1).train()
    seen = []
    model.transformer.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.encode(SOURCE)
    assert 0.3 < float(seen[0].eq(0).double().mean()) < 0.7


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match=r"TranslatorConfig: target_vocab is 30; it must be source_vocab = 20"):
        make(shared=True)
    with pytest.raises(ValueError, match="source_vocab is 0"):
        make(source_vocab=0)
    with pytest.raises(IndexError, match="the 20 tokens"):
        make()(TARGET.clamp(min=25), TARGET)
    with pytest.raises(ValueError, match="learned table holds 0 to 6"):
        make(Learned(7, 16))(SOURCE.repeat(1, 2), TARGET)
    assert make(Learned(7, 16)).conditioned(SOURCE).context == 7
    assert make().conditioned(SOURCE).context is None
    assert make().conditioned(SOURCE).vocab == 30


@pytest.mark.parametrize("module", [translator, conditioned])
def test_the_examples_run(module: object) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 1
    assert not result.failed


@pytest.mark.parametrize("shared", [False, True])
def test_saved_and_read_back_it_is_the_same(shared: bool, tmp_path: Path) -> None:
    model = make(shared=shared, target_vocab=20 if shared else 30, pad=0)
    model.save_pretrained(tmp_path)
    again = Translator.from_pretrained(tmp_path)
    assert again.config == model.config
    assert (again.source_embedding is again.target_embedding) == shared
    ids = TARGET % 20
    assert torch.equal(again(SOURCE, ids, source_lengths=LENGTHS), model(SOURCE, ids, source_lengths=LENGTHS))


def test_a_position_that_the_settings_do_not_name_is_not_lost_in_silence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"position is Rotary, which config\.json cannot say"):
        make(Rotary(4)).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
