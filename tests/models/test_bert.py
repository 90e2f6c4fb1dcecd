"""BERT and its heads against Transformers, weights copied through files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedModel,
)

from attnkit.masks import Padding
from attnkit.models import BERT, BERTConfig, MaskedLanguageModel, SequenceClassifier, TokenClassifier
from attnkit.nn import recording
from tests.models.twins import HEADS, LAYERS, VOCAB, WIDTH, apart, ids, in_double, saved, stirred

CONTEXT = 20
PAIRS = [
    (BertForMaskedLM, MaskedLanguageModel),
    (BertForTokenClassification, TokenClassifier),
    (BertForSequenceClassification, SequenceClassifier),
]
NAMES = ["words", "tokens", "sequences"]


def published(kind: type[PreTrainedModel], **settings) -> PreTrainedModel:
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 40,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "type_vocab_size": 3,
        "num_labels": 5,
    }
    torch.manual_seed(0)
    return stirred(kind(BertConfig(**sizes | settings, attn_implementation="eager")))


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    """Three sequences of two sentences each, padded."""
    tokens, lengths = ids(3, 14), torch.tensor([14, 6, 10])
    types = (torch.arange(14) >= torch.tensor([[5], [2], [9]])).long() + 1
    types[0] = 0
    return {"ids": tokens, "lengths": lengths, "types": types, "real": torch.arange(14) < lengths[:, None]}


def both(ours, theirs, batch) -> tuple[Tensor, Tensor]:
    """Logits where there are tokens."""
    found = ours(batch["ids"], batch["types"], mask=Padding(batch["lengths"]))
    expected = theirs(batch["ids"], token_type_ids=batch["types"], attention_mask=batch["real"].long()).logits
    return (found[batch["real"]], expected[batch["real"]]) if found.ndim == 3 else (found, expected)


@pytest.mark.parametrize(("kind", "model"), PAIRS, ids=NAMES)
@pytest.mark.parametrize("settings", [{}, {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "num_labels": 2}], ids=str)
@torch.no_grad()
def test_logits_are_those_of_transformers(kind, model, settings, batch, tmp_path, monkeypatch) -> None:
    theirs = published(kind, **settings)
    folder = saved(theirs, tmp_path)
    assert apart(*both(model.from_pretrained(folder), theirs, batch)) <= 1e-5
    exact = model.from_pretrained(folder, dtype=torch.float64)
    assert apart(*both(exact, in_double(theirs, monkeypatch), batch)) <= 1e-11


@torch.no_grad()
def test_the_encoder_alone_agrees_after_every_layer_and_pooled(batch, tmp_path) -> None:
    theirs = published(BertModel)
    ours, seen = BERT.from_pretrained(saved(theirs, tmp_path)), []
    for part in (ours.norm, *ours.encoder.layers):
        part.register_forward_hook(lambda _, __, out: seen.append(out))
    expected = theirs(
        batch["ids"],
        token_type_ids=batch["types"],
        attention_mask=batch["real"].long(),
        output_hidden_states=True,
        output_attentions=True,
    )
    with recording(ours) as maps:
        hidden = ours(batch["ids"], batch["types"], mask=Padding(batch["lengths"]))
    assert len(seen) == len(expected.hidden_states)
    for mine, other in zip(seen, expected.hidden_states, strict=True):
        assert apart(mine[batch["real"]], other[batch["real"]]) <= 1e-5
    assert apart(ours.pool(hidden), expected.pooler_output) <= 1e-5
    for (mine,), other in zip(maps.values(), expected.attentions, strict=True):
        assert apart(mine, other) <= 1e-6


@torch.no_grad()
def test_token_types_are_the_first_sentence_unless_given(batch, tmp_path) -> None:
    ours = BERT.from_pretrained(saved(published(BertModel), tmp_path))
    zeros = torch.zeros_like(batch["ids"])
    assert torch.equal(ours(batch["ids"]), ours(batch["ids"], zeros))
    assert apart(ours(batch["ids"]), ours(batch["ids"], zeros + 1)) > 1e-2


@torch.no_grad()
def test_every_model_reads_the_file_of_pretraining(batch, tmp_path) -> None:
    """The published file holds both heads of pretraining; a head that it lacks must be asked for as fresh."""
    theirs = published(BertForPreTraining)
    folder = saved(theirs, tmp_path)
    expected = theirs(batch["ids"], token_type_ids=batch["types"]).prediction_logits
    assert apart(MaskedLanguageModel.from_pretrained(folder)(batch["ids"], batch["types"]), expected) <= 1e-5
    hidden = BERT.from_pretrained(folder)(batch["ids"], batch["types"])
    assert apart(hidden, theirs.bert(batch["ids"], token_type_ids=batch["types"]).last_hidden_state) <= 1e-5
    with pytest.raises(ValueError, match=r"missing \(2\):\n    classifier.weight \(for head.weight\)\n.*\n.*fresh="):
        SequenceClassifier.from_pretrained(folder)
    fresh = SequenceClassifier.from_pretrained(folder, fresh=("head",), labels=7)
    assert fresh(batch["ids"]).shape == (3, 7)
    assert apart(fresh.bert(batch["ids"], batch["types"]), hidden) == 0


@torch.no_grad()
def test_a_fresh_head_takes_the_place_of_one_for_another_task(batch, tmp_path) -> None:
    folder = saved(published(BertForSequenceClassification), tmp_path)
    with pytest.raises(ValueError, match=r"classifier.bias has shape \(5,\); head.bias needs \(3,\)"):
        SequenceClassifier.from_pretrained(folder, labels=3)
    old = SequenceClassifier.from_pretrained(folder)
    torch.manual_seed(1)
    new = SequenceClassifier.from_pretrained(folder, fresh=("head",), labels=3)
    assert new(batch["ids"]).shape == (3, 3)
    assert new.head.weight.std() < 0.05 < old.head.weight.std()
    assert torch.equal(new.bert.pool(new.bert(batch["ids"])), old.bert.pool(old.bert(batch["ids"])))


@torch.no_grad()
def test_an_encoder_without_a_pooler(batch, tmp_path) -> None:
    folder = saved(published(BertForMaskedLM), tmp_path)
    with pytest.raises(ValueError, match=r"missing \(2\):\n    pooler.dense.weight \(for pooler.weight\)"):
        BERT.from_pretrained(folder)
    bare = BERT.from_pretrained(folder, pooler=False)
    with pytest.raises(ValueError, match="this BERT has no pooler: its config says pooler=False"):
        bare.pool(bare(batch["ids"]))
    bare.save_pretrained(tmp_path / "own")
    assert torch.equal(BERT.from_pretrained(tmp_path / "own")(batch["ids"]), bare(batch["ids"]))


def test_the_head_of_the_words_is_the_embedding() -> None:
    model = MaskedLanguageModel(BERTConfig(vocab=50, d_model=16, heads=2, layers=1, d_hidden=32))
    large = [name for name, p in model.named_parameters() if p.shape == (50, 16)]
    assert large == ["bert.embedding.weight"]
    loss = torch.nn.functional.cross_entropy(model.eval()(ids(4, 16) % 50).flatten(0, 1), ids(4, 16).flatten() % 50)
    assert abs(loss.item() - torch.tensor(50.0).log().item()) < 0.1


def test_base_has_its_published_size() -> None:
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in model(BERTConfig()).parameters()) for model in (BERT, MaskedLanguageModel)]
    assert sizes == [109_482_240, 109_514_298]


def test_the_classifiers_drop_as_told() -> None:
    sizes = {"vocab": 50, "d_model": 16, "heads": 2, "layers": 1, "d_hidden": 32}
    for model in (SequenceClassifier, TokenClassifier):
        assert model(BERTConfig(**sizes, dropout=0.3)).dropout.p == 0.3
        assert model(BERTConfig(**sizes, dropout=0.3, head_dropout=0.0)).dropout.p == 0.0


def test_beyond_the_table_of_positions() -> None:
    model = BERT(BERTConfig(vocab=50, context=8, d_model=16, heads=2, layers=1, d_hidden=32))
    with pytest.raises(ValueError, match="positions run from 0 to 8; length=8"):
        model(ids(1, 9) % 50)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'; only 'absolute' is"),
        ({"is_decoder": True}, "is_decoder = True; only False is supported: BERT reads in both directions"),
        ({"hidden_act": "quick_gelu"}, "hidden_act = 'quick_gelu'; supported are relu, gelu"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False; only True is supported"),
        ({"embedding_size": 16}, "settings that are not supported: embedding_size = 16"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_would_compute_something_else_are_refused(settings, sentence, tmp_path) -> None:
    theirs = published(BertForMaskedLM)
    theirs.config.update(settings)
    theirs.config.save_pretrained(saved(theirs, tmp_path))
    with pytest.raises(ValueError, match=sentence):
        MaskedLanguageModel.from_pretrained(tmp_path)
