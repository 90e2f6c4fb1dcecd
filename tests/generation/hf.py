"""Tiny random models of Hugging Face behind our protocol: its `generate` and ours run on the very same model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DynamicCache,
    EncoderDecoderCache,
    GPT2Config,
    GPT2LMHeadModel,
    StaticCache,
)
from transformers.modeling_outputs import BaseModelOutput

from attnkit.masks import Mask

CONTEXT = 64
PAD = 7  # a token like any other to our side; Hugging Face writes it after what has ended (and takes 0 for "none")


class HFCache:
    """A Hugging Face cache with our names."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.reordered = 0

    @property
    def length(self) -> int:
        return int(self.inner.get_seq_length())

    def reorder(self, index: Tensor) -> None:
        self.reordered += 1
        self.inner.reorder_cache(index)


def attention_mask(mask: Mask | None, ids: Tensor, held: int) -> Tensor | None:
    """Which keys are real, as Hugging Face wants it: (batch, held + len)."""
    if mask is None:
        return None
    table = mask.materialize(len(ids), 1, ids.shape[1], held + ids.shape[1])
    return table[:, 0, -1].expand(len(ids), -1).long()


class HFModel(nn.Module):
    """A decoder-only model; `fed` remembers the shapes of the ids that it was given."""

    context = CONTEXT

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model, self.vocab, self.fed = model, model.config.vocab_size, []

    def forward(self, ids, *, mask=None, positions=None, cache=None, last=False):
        self.fed.append(tuple(ids.shape))
        out = self.model(
            ids,
            attention_mask=attention_mask(mask, ids, 0 if cache is None else cache.length),
            position_ids=positions,
            past_key_values=None if cache is None else cache.inner,
            use_cache=cache is not None,
        )
        return out.logits[:, -1:] if last else out.logits

    def new_cache(self, kind="dynamic", **options):
        if kind == "static":
            return HFCache(StaticCache(self.model.config, max_cache_len=options["length"]))
        return HFCache(DynamicCache(config=self.model.config))


class HFTranslator(nn.Module):
    """An encoder-decoder model, closed over what it has read."""

    context = CONTEXT

    def __init__(self, model: BartForConditionalGeneration, source: Tensor, source_mask: Tensor) -> None:
        super().__init__()
        self.model, self.vocab, self.source_mask = model, model.config.vocab_size, source_mask
        with torch.no_grad():
            self.memory = model.get_encoder()(source, attention_mask=source_mask).last_hidden_state

    def forward(self, ids, *, mask=None, positions=None, cache=None, last=False):
        assert mask is None, "the prompts of these tests have one length"
        out = self.model(
            encoder_outputs=BaseModelOutput(self.memory),
            attention_mask=self.source_mask,
            decoder_input_ids=ids,
            past_key_values=None if cache is None else cache.inner,
            use_cache=cache is not None,
        )
        return out.logits[:, -1:] if last else out.logits

    def new_cache(self, kind="dynamic"):
        config = self.model.config
        return HFCache(EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config)))

    def select(self, index):
        other = HFTranslator.__new__(HFTranslator)
        nn.Module.__init__(other)
        other.model, other.vocab = self.model, self.vocab
        other.memory, other.source_mask = self.memory[index], self.source_mask[index]
        return other


def gpt2(seed: int, vocab: int = 12, layers: int = 2) -> HFModel:
    """Random weights, large enough that the next token is far from uniform and no two are equally likely."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab, n_positions=CONTEXT, n_embd=16, n_layer=layers, n_head=2, initializer_range=0.6,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return HFModel(GPT2LMHeadModel(config).eval())


def bart(seed: int, vocab: int = 12) -> BartForConditionalGeneration:
    """The same for an encoder-decoder model."""
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=vocab, max_position_embeddings=CONTEXT, d_model=16, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, init_std=0.6,
        bos_token_id=None, eos_token_id=None, pad_token_id=None, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return BartForConditionalGeneration(config).eval()


def random_prompts(seed: int, vocab: int = 12, lengths: tuple[int, ...] = (5, 2, 7)) -> list[list[int]]:
    """Prompts of these lengths."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab, (n,), generator=rng).tolist() for n in lengths]


def hf_generate(model: HFModel, prompts: list[list[int]], **options) -> tuple[list[list[int]], Tensor | None]:
    """(the new tokens of each row, with Hugging Face's padding; the scores of a beam search)."""
    longest = max(map(len, prompts))
    pads = [longest - len(row) for row in prompts]
    ids = torch.tensor([[PAD] * n + row for n, row in zip(pads, prompts, strict=True)])
    real = torch.tensor([[0] * n + [1] * len(row) for n, row in zip(pads, prompts, strict=True)])
    out = model.model.generate(
        ids, attention_mask=real, pad_token_id=PAD, return_dict_in_generate=True, output_scores=True, **options
    )
    return out.sequences[:, longest:].tolist(), getattr(out, "sequences_scores", None)


def padded(rows: list[list[int]], width: int) -> list[list[int]]:
    """Our tokens with Hugging Face's padding."""
    return [row + [PAD] * (width - len(row)) for row in rows]
