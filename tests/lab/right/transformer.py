"""Answers to the lab `transformer`: right ones in several styles, oracles, and wrong ones as students write them.

Question 5 has numbers of each student's own: PEAK and WARMUP, which the tests set.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

PAD, BOS, EOS = 0, 1, 2
PEAK, WARMUP = 0.005, 50

# --- layer norm -------------------------------------------------------------------------------------------------------


def layer_norm_numpy(x, gain, shift, eps):
    mu = np.mean(x, axis=-1, keepdims=True)
    return gain * (x - mu) / np.sqrt(np.var(x, axis=-1, keepdims=True) + eps) + shift


def layer_norm_torch(x, gain, shift, eps):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(shift, (x - mean) * torch.rsqrt(variance + eps), gain)


def layer_norm_rows(x, gain, shift, eps):
    """Token by token, in Python's own numbers."""
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[place]]
        mean = math.fsum(row) / len(row)
        root = math.sqrt(math.fsum((v - mean) ** 2 for v in row) / len(row) + eps)
        out[place] = [(v - mean) / root * float(g) + float(b) for v, g, b in zip(row, gain, shift, strict=True)]
    return out


def layer_norm_projection(x, gain, shift, eps):
    """The mean is taken off by a matrix, and the variance is a squared length."""
    n = x.shape[-1]
    centre = torch.eye(n) - torch.full((n, n), 1 / n)
    x = (x @ centre.double().to(x.dtype)) if n > 1 else x * 0
    x = x - x.mean(-1, keepdim=True)
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) ** 2 / n + eps).sqrt() * gain + shift


# --- the block --------------------------------------------------------------------------------------------------------


class Fused(nn.Module):
    """Attention by torch's own kernel."""

    def __init__(self, d_model, heads):
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(4, d_model, d_model))
        nn.init.uniform_(self.weight, -((3 / d_model) ** 0.5), (3 / d_model) ** 0.5)

    def forward(self, x, memory, mask=None):
        batch, length, d_model = x.shape
        q = (x @ self.weight[0]).view(batch, length, self.heads, -1).transpose(1, 2)
        k, v = ((memory @ w).view(batch, memory.shape[1], self.heads, -1).transpose(1, 2) for w in self.weight[1:3])
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(batch, length, d_model) @ self.weight[3]


class HeadByHead(nn.Module):
    """Attention as a loop over heads, whose outputs add up."""

    def __init__(self, d_model, heads):
        super().__init__()
        self.slices = torch.arange(d_model).chunk(heads)
        self.weight = nn.Parameter(torch.randn(4, d_model, d_model) * d_model**-0.5)

    def forward(self, x, memory, mask=None):
        total = torch.zeros_like(x)
        for own in self.slices:
            query, key, value = (
                x @ self.weight[0][:, own],
                memory @ self.weight[1][:, own],
                memory @ self.weight[2][:, own],
            )
            scores = torch.einsum("bid,bjd->bij", query, key) / len(own) ** 0.5
            if mask is not None:
                seen = mask.expand(x.shape[0], 1, x.shape[1], memory.shape[1])[:, 0]
                scores = torch.where(seen, scores, torch.tensor(-torch.inf, dtype=x.dtype))
            total = total + torch.einsum("bij,bjd,de->bie", scores.softmax(-1), value, self.weight[3][own])
        return total


class TwoLayers(nn.Module):
    def __init__(self, d_model, d_hidden):
        super().__init__()
        self.up, self.down = nn.Linear(d_model, d_hidden), nn.Linear(d_hidden, d_model)
        self.bend = nn.GELU()

    def forward(self, x):
        return self.down(self.bend(self.up(x)))


class Parts(nn.Module):
    """A block's parts, for blocks that differ in `forward`."""

    attention_of: type[nn.Module] = Fused

    def __init__(self, d_model, heads, d_hidden, norm_first=False, reads=False):
        super().__init__()
        self.norm_first, self.reads = norm_first, reads
        self.attention, self.norm_attention = self.attention_of(d_model, heads), nn.LayerNorm(d_model)
        if reads:
            self.cross, self.norm_cross = self.attention_of(d_model, heads), nn.LayerNorm(d_model)
        self.feed_forward, self.norm_feed_forward = TwoLayers(d_model, d_hidden), nn.LayerNorm(d_model)


class SpelledOut(Parts):
    """Both orders, line by line."""

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        if self.norm_first:
            y = self.norm_attention(x)
            x = x + self.attention(y, y, mask)
            if self.reads:
                x = x + self.cross(self.norm_cross(x), memory, memory_mask)
            return x + self.feed_forward(self.norm_feed_forward(x))
        x = self.norm_attention(x + self.attention(x, x, mask))
        if self.reads:
            x = self.norm_cross(x + self.cross(x, memory, memory_mask))
        return self.norm_feed_forward(x + self.feed_forward(x))


class WithHelper(Parts):
    """One method for a branch with its norm, and attention head by head."""

    attention_of = HeadByHead

    def branch(self, x, norm, function):
        before, after = (norm, nn.Identity()) if self.norm_first else (nn.Identity(), norm)
        return after(x + function(before(x)))

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        x = self.branch(x, self.norm_attention, lambda y: self.attention(y, memory=y, mask=mask))
        if self.reads:
            x = self.branch(x, self.norm_cross, lambda y: self.cross(y, memory=memory, mask=memory_mask))
        return self.branch(x, self.norm_feed_forward, self.feed_forward)


class Bare(Parts):
    """Weights and functions, no calls of modules; masks are added as 0 and -inf."""

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        names = ["attention", *(["cross"] if self.reads else []), "feed_forward"]
        for name in names:
            norm = getattr(self, f"norm_{name}")
            y = self.normed(x, norm) if self.norm_first else x
            if name == "feed_forward":
                up, down = self.feed_forward.up, self.feed_forward.down
                change = F.gelu(y @ up.weight.mT + up.bias) @ down.weight.mT + down.bias
            elif name == "cross":
                change = self.attend(self.cross.weight, y, memory, memory_mask)
            else:
                change = self.attend(self.attention.weight, y, y, mask)
            x = x + change
            x = x if self.norm_first else self.normed(x, norm)
        return x

    def normed(self, x, norm):
        y = x - x.mean(-1, keepdim=True)
        return y / (y.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias

    def attend(self, weight, x, memory, mask):
        heads = self.attention.heads
        q, k, v = (
            torch.stack((t @ w).chunk(heads, -1), 1) for t, w in zip((x, memory, memory), weight[:3], strict=True)
        )
        scores = q @ k.mT * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores + torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf)
        return torch.cat((torch.exp(scores - scores.logsumexp(-1, keepdim=True)) @ v).unbind(1), -1) @ weight[3]


# --- the translator ---------------------------------------------------------------------------------------------------


def sinusoid(length, d_model):
    table = torch.zeros(length, d_model, dtype=torch.float64)
    places = torch.arange(length, dtype=torch.float64)
    for pair in range(d_model // 2):
        frequency = 10000 ** (-2 * pair / d_model)
        table[:, 2 * pair], table[:, 2 * pair + 1] = (places * frequency).sin(), (places * frequency).cos()
    return table


class Tables(nn.Module):
    """A translator's parts."""

    block: type[nn.Module] = SpelledOut

    def __init__(self, source_vocab, target_vocab, d_model, heads, d_hidden, layers):
        super().__init__()
        self.d_model = d_model
        self.source_embedding = nn.Embedding(source_vocab, d_model)
        self.target_embedding = nn.Embedding(target_vocab, d_model)
        nn.init.normal_(self.source_embedding.weight, std=d_model**-0.5)
        nn.init.normal_(self.target_embedding.weight, std=d_model**-0.5)
        self.encoder = nn.ModuleList([self.block(d_model, heads, d_hidden) for _ in range(layers)])
        self.decoder = nn.ModuleList([self.block(d_model, heads, d_hidden, reads=True) for _ in range(layers)])

    def forward(self, source, target):
        return self.decode(target, self.encode(source), source)


class Plain(Tables):
    def embed(self, table, ids):
        return self.d_model**0.5 * table(ids) + sinusoid(ids.shape[1], self.d_model).to(table.weight)

    def encode(self, source):
        x = self.embed(self.source_embedding, source)
        for layer in self.encoder:
            x = layer(x, mask=source.ne(PAD)[:, None, None])
        return x

    def decode(self, target, memory, source):
        x, places = self.embed(self.target_embedding, target), torch.arange(target.shape[1])
        for layer in self.decoder:
            x = layer(x, places <= places[:, None], memory, source.ne(PAD)[:, None, None])
        return F.linear(x, self.target_embedding.weight)


class WholeMasks(Tables):
    """Masks of the full shape (batch, 1, queries, keys), and a mask on the target's padding as well."""

    block = WithHelper

    def embed(self, table, ids):
        places = sinusoid(ids.shape[-1], self.d_model).to(table.weight)
        return torch.stack([table.weight[row] * math.sqrt(self.d_model) + places for row in ids])

    def encode(self, source):
        real = (source != PAD)[:, None, None].repeat(1, 1, source.shape[1], 1)
        x = self.embed(self.source_embedding, source)
        for layer in self.encoder:
            x = layer(x, real)
        return x

    def decode(self, target, memory, source):
        length = target.shape[1]
        causal = torch.full((length, length), True).tril()[None, None].repeat(len(target), 1, 1, 1)
        real = (source != PAD)[:, None, None].repeat(1, 1, length, 1)
        x = self.embed(self.target_embedding, target)
        for layer in self.decoder:
            x = layer(x, causal, memory, real)
        return torch.einsum("btd,vd->btv", x, self.target_embedding.weight)


class SentenceBySentence(Tables):
    """The decoder reads each sentence's memory cut to its length, so it needs no mask for it."""

    block = Bare

    def embed(self, table, ids):
        return F.embedding(ids, table.weight * self.d_model**0.5) + sinusoid(ids.shape[1], self.d_model).to(
            table.weight
        )

    def encode(self, source):
        rows = []
        for ids in source:
            x = self.embed(self.source_embedding, ids[None])
            for layer in self.encoder:
                x = layer(x, (ids != PAD)[None, None, None])
            rows.append(x)
        return torch.cat(rows)

    def decode(self, target, memory, source):
        length = target.shape[1]
        causal = ~torch.ones(length, length, dtype=torch.bool).triu(1)
        rows = []
        for ids, own, read in zip(target, memory, source, strict=True):
            x = self.embed(self.target_embedding, ids[None])
            for layer in self.decoder:
                x = layer(x, causal, own[read != PAD][None])
            rows.append(x[0])
        return torch.stack(rows) @ self.target_embedding.weight.mT


# --- the loss ---------------------------------------------------------------------------------------------------------


def loss_soft_targets(logits, target, smoothing, pad):
    """The formula as it reads, with q written out."""
    vocab = logits.shape[-1]
    q = (1 - smoothing) * F.one_hot(target, vocab) + smoothing / vocab
    each = -(q * F.log_softmax(logits, -1)).sum(-1)
    return torch.where(target == pad, 0.0, each).sum() / max(int((target != pad).sum()), 1)


def loss_of_real_rows(logits, target, smoothing, pad):
    """Padding is thrown out first."""
    logits, target = logits[target != pad], target[target != pad]
    if len(target) == 0:
        return logits.sum() * 0
    log_p = logits - logits.logsumexp(-1, keepdim=True)
    hard = log_p[torch.arange(len(target)), target]
    return -((1 - smoothing) * hard + smoothing * log_p.mean(-1)).mean()


def loss_loops(logits, target, smoothing, pad):
    total, count = logits.sum() * 0, 0
    for row, ids in zip(logits, target, strict=True):
        for scores, right in zip(row, ids.tolist(), strict=True):
            if right == pad:
                continue
            surprise = torch.logsumexp(scores, 0) - scores
            total = total + (1 - smoothing) * surprise[right] + smoothing * surprise.mean()
            count += 1
    return total / count if count else total


def loss_oracle(logits, target, smoothing, pad):
    if not (target != pad).any():
        return logits.sum() * 0
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, label_smoothing=smoothing)


# --- the schedule -----------------------------------------------------------------------------------------------------


def rate_min(step):
    return PEAK * min(step / WARMUP, (WARMUP / step) ** 0.5)


def rate_cases(step):
    if step <= WARMUP:
        return PEAK / WARMUP * step
    return PEAK * math.exp(-0.5 * math.log(step / WARMUP))


def rate_noam(step):
    """The paper's formula with its factor chosen for the peak."""
    return PEAK * WARMUP**0.5 * np.minimum(step**-0.5, step * WARMUP**-1.5)


# --- writing ----------------------------------------------------------------------------------------------------------


class OneByOne(Plain):
    """Each sentence by itself, until it ends."""

    @torch.no_grad()
    def write(self, source, most):
        rows = torch.zeros(len(source), most, dtype=torch.long)
        for row, ids in zip(rows, source, strict=True):
            memory, said = self.encode(ids[None]), [BOS]
            while len(said) <= most and said[-1] != EOS:
                said.append(int(self.decode(torch.tensor([said]), memory, ids[None])[0, -1].argmax()))
            row[: len(said) - 1] = torch.tensor(said[1:])
        return rows


class FilledIn(Plain):
    """A table that is filled in; what stands behind the last token is hidden by the causal mask."""

    @torch.no_grad()
    def write(self, source, most):
        table = torch.full((len(source), most + 1), PAD)
        table[:, 0] = BOS
        memory = self.encode(source)
        for place in range(most):
            logits = self.decode(table, memory, source)[:, place]
            over = (table[:, 1:] == EOS).any(1)
            table[:, place + 1] = torch.where(over, PAD, logits.max(-1).indices)
        return table[:, 1:]


class StopsEarly(SentenceBySentence):
    """Stops when all have ended, and fills up."""

    def write(self, source, most):
        with torch.inference_mode():
            memory, columns, going = self.encode(source), [torch.ones_like(source[:, 0])], source[:, 0] >= 0
            while len(columns) <= most and going.any():
                best = self.decode(torch.stack(columns, 1), memory, source)[:, -1].topk(1).indices[:, 0]
                columns.append(best * going)
                going = going & (best != EOS)
            return F.pad(torch.stack(columns[1:], 1), (0, most - len(columns) + 1), value=PAD)


# --- learning ---------------------------------------------------------------------------------------------------------


class WithLambda(FilledIn):
    """AdamW under torch's own scheduler, clipped; torch's own loss."""

    def loss(self, source, target):
        logits = self(source, target[:, :-1])
        return F.cross_entropy(logits.transpose(1, 2), target[:, 1:], ignore_index=PAD, label_smoothing=0.1)

    def fit(self, source, target, rates, seed):
        torch.manual_seed(seed)
        optimizer = torch.optim.AdamW(self.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: float(rates[min(done, len(rates) - 1)]))
        for _ in rates:
            rows = torch.randperm(len(source))[:64]
            loss = self.loss(source[rows], target[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


class InEpochs(FilledIn):
    """Every sentence once before any comes twice; Adam as it is by itself, and attention head by head."""

    block = WithHelper

    def loss(self, source, target):
        reads, says = target[:, :-1], target[:, 1:]
        log_p = self(source, reads).log_softmax(-1)
        smooth = 0.9 * log_p.gather(-1, says[..., None]).squeeze(-1) + 0.1 * log_p.mean(-1)
        return -smooth[says != PAD].mean()

    def fit(self, source, target, rates, seed):
        optimizer, dice, rows = torch.optim.Adam(self.parameters()), np.random.default_rng(seed), []
        for rate in rates:
            if len(rows) < 64:
                rows = dice.permutation(len(source)).tolist()
            batch, rows = rows[:64], rows[64:]
            optimizer.param_groups[0]["lr"] = float(rate)
            self.zero_grad()
            self.loss(source[batch], target[batch]).backward()
            optimizer.step()


class ByHand(FilledIn):
    """Adam written out, and batches cut to their longest sentence."""

    def loss(self, source, target):
        return loss_soft_targets(self(source, target[:, :-1]), target[:, 1:], 0.1, PAD)

    def fit(self, source, target, rates, seed):
        dice, weights = torch.Generator().manual_seed(seed), list(self.parameters())
        first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        for step, rate in enumerate(rates.tolist(), 1):
            rows = torch.randint(0, len(source), (64,), generator=dice)
            s, t = source[rows], target[rows]
            loss = self.loss(s[:, : (s != PAD).sum(1).max()], t[:, : (t != PAD).sum(1).max()])
            with torch.no_grad():
                for w, m, v, g in zip(weights, first, second, torch.autograd.grad(loss, weights), strict=True):
                    m.lerp_(g, 0.1)
                    v.mul_(0.98).addcmul_(g, g, value=0.02)
                    w -= rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.98**step)).sqrt() + 1e-8)


RIGHT: dict[str, list] = {
    "layer_norm": [layer_norm_numpy, layer_norm_torch, layer_norm_rows, layer_norm_projection],
    "Block": [SpelledOut, WithHelper, Bare],
    "Translator": [Plain, WholeMasks, SentenceBySentence],
    "smoothed_loss": [loss_soft_targets, loss_of_real_rows, loss_loops],
    "learning_rate": [rate_min, rate_cases, rate_noam],
    "Writer": [OneByOne, FilledIn, StopsEarly],
    "Learner": [WithLambda, InEpochs, ByHand],
}


# --- oracles: torch's own functions, in double precision --------------------------------------------------------------


class OracleBlock(SpelledOut):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()


class OracleTranslator(Plain):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()


class OracleWriter(OneByOne):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()


ORACLES: dict[str, Callable] = {
    "layer_norm": lambda x, gain, shift, eps: F.layer_norm(x, x.shape[-1:], gain, shift, eps),
    "Block": OracleBlock,
    "Translator": OracleTranslator,
    "smoothed_loss": loss_oracle,
    "Writer": OracleWriter,
}

# --- what the questions ask for, called instead -----------------------------------------------------------------------

FORBIDDEN: dict[str, str] = {
    "layer_norm": (
        "import torch\n\ndef layer_norm(x, gain, shift, eps):\n"
        "    return torch.nn.functional.layer_norm(x, x.shape[-1:], gain, shift, eps)\n"
    ),
    "smoothed_loss": (
        "from torch.nn import functional as F\n\ndef smoothed_loss(logits, target, smoothing, pad):\n"
        "    return F.cross_entropy(logits.mT, target, ignore_index=pad, label_smoothing=smoothing)\n"
    ),
    "Block": """
import torch
from torch import nn


class Weight(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*shape))


class Block(nn.Module):
    def __init__(self, d_model, heads, d_hidden, norm_first=False, reads=False):
        super().__init__()
        self.attention, self.norm_attention = Weight(4, d_model, d_model), nn.LayerNorm(d_model)
        if reads:
            self.cross, self.norm_cross = Weight(4, d_model, d_model), nn.LayerNorm(d_model)
        self.feed_forward, self.norm_feed_forward = nn.Module(), nn.LayerNorm(d_model)
        self.feed_forward.up, self.feed_forward.down = nn.Linear(d_model, d_hidden), nn.Linear(d_hidden, d_model)
        self.inner = [nn.TransformerEncoderLayer(d_model, heads, d_hidden, batch_first=True, norm_first=norm_first)]

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        return self.inner[0](x)
""",
}

# --- wrong answers ----------------------------------------------------------------------------------------------------


class ReluInPlace(SpelledOut):
    """Pre-norm that overwrites the stream with its norm."""

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        if not self.norm_first:
            return super().forward(x, mask, memory, memory_mask)
        x = self.norm_attention(x)
        x = x + self.attention(x, x, mask)
        if self.reads:
            x = self.norm_cross(x)
            x = x + self.cross(x, memory, memory_mask)
        x = self.norm_feed_forward(x)
        return x + self.feed_forward(x)


class OnlyPost(SpelledOut):
    def __init__(self, d_model, heads, d_hidden, norm_first=False, reads=False):
        super().__init__(d_model, heads, d_hidden, False, reads)


class MaskForgotten(SpelledOut):
    def forward(self, x, mask=None, memory=None, memory_mask=None):
        return super().forward(x, None, memory, memory_mask)


class Detached(SpelledOut):
    """What comes from the memory carries no gradient back."""

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        return super().forward(x, mask, None if memory is None else memory.detach(), memory_mask)


class NoPlaces(Plain):
    def embed(self, table, ids):
        return table(ids) * self.d_model**0.5


class NotCausal(Plain):
    def decode(self, target, memory, source):
        x = self.embed(self.target_embedding, target)
        for layer in self.decoder:
            x = layer(x, None, memory, source.ne(PAD)[:, None, None])
        return x @ self.target_embedding.weight.T


class ReadsPadding(Plain):
    def encode(self, source):
        x = self.embed(self.source_embedding, source)
        for layer in self.encoder:
            x = layer(x)
        return x


class LayerPairs(Plain):
    """Each layer of the decoder reads the encoder's layer of its own number."""

    def forward(self, source, target):
        real, length = source.ne(PAD)[:, None, None], target.shape[1]
        memory, x = self.embed(self.source_embedding, source), self.embed(self.target_embedding, target)
        for one, other in zip(self.encoder, self.decoder, strict=True):
            memory = one(memory, real)
            x = other(x, torch.ones(length, length, dtype=torch.bool).tril(), memory, real)
        return x @ self.target_embedding.weight.T


def loss_with_padding(logits, target, smoothing, pad):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=smoothing)


def loss_of_log_of_softmax(logits, target, smoothing, pad):
    log_p = logits.softmax(-1).log()
    each = -(1 - smoothing) * log_p.gather(-1, target[..., None])[..., 0] - smoothing * log_p.mean(-1)
    return each[target != pad].sum() / (target != pad).sum().clamp(min=1)


def loss_among_others(logits, target, smoothing, pad):
    log_p, vocab = logits.log_softmax(-1), logits.shape[-1]
    q = torch.full_like(log_p, smoothing / (vocab - 1)).scatter(-1, target[..., None], 1 - smoothing)
    each = -(q * log_p).sum(-1)
    return (each * (target != pad)).sum() / (target != pad).sum().clamp(min=1)


def loss_without_gradient(logits, target, smoothing, pad):
    return torch.tensor(loss_soft_targets(logits, target, smoothing, pad).item())


class NeverStops(Plain):
    @torch.no_grad()
    def write(self, source, most):
        memory, said = self.encode(source), torch.full((len(source), 1), BOS)
        for _ in range(most):
            said = torch.cat([said, self.decode(said, memory, source)[:, -1:].argmax(-1)], 1)
        return said[:, 1:]


class WithBegin(FilledIn):
    def write(self, source, most):
        return F.pad(super().write(source, most), (1, 0), value=BOS)


class FirstRow(Plain):
    @torch.no_grad()
    def write(self, source, most):
        memory, said = self.encode(source), torch.full((len(source), 1), BOS)
        ended = torch.zeros(len(source), dtype=torch.bool)
        for _ in range(most):
            new = self.decode(said, memory, source)[:, 0].argmax(-1) * ~ended
            said, ended = torch.cat([said, new[:, None]], 1), ended | (new == EOS)
        return said[:, 1:]


class Unshifted(WithLambda):
    def loss(self, source, target):
        says = target[:, :-1]
        return F.cross_entropy(self(source, says).transpose(1, 2), says, ignore_index=PAD, label_smoothing=0.1)


class NeverSteps(WithLambda):
    def fit(self, source, target, rates, seed):
        for _ in range(3):
            self.loss(source[:64], target[:64]).backward()


class AlwaysTheSameBatch(WithLambda):
    def fit(self, source, target, rates, seed):
        super().fit(source[:64], target[:64], rates, seed)


class PaddingInLoss(WithLambda):
    def loss(self, source, target):
        logits = self(source, target[:, :-1])
        return F.cross_entropy(logits.transpose(1, 2), target[:, 1:], label_smoothing=0.1)


_HELD_OUT = "share of held-out sentences that are translated without an error is"

WRONG: list[tuple[str, Callable, str]] = [
    (
        "layer_norm",
        lambda x, gain, shift, eps: (
            (x - x.mean(-1, True)) / (x.std(-1, correction=0, keepdim=True) + eps) * gain + shift
        ),
        "eps is added to the standard deviation",
    ),
    (
        "layer_norm",
        lambda x, gain, shift, eps: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + eps).sqrt() * gain + shift,
        "divided by n - 1",
    ),
    ("layer_norm", lambda x, gain, shift, eps: F.rms_norm(x, x.shape[-1:], gain, eps) + shift, "RMS norm"),
    ("layer_norm", lambda x, gain, shift, eps: F.layer_norm(x, x.shape[-1:], gain, None, eps), "shift is left out"),
    (
        "layer_norm",
        lambda x, gain, shift, eps: 3 * F.layer_norm(x, x.shape[-1:], None, None, eps),
        "a variance above 1",
    ),
    ("Block", ReluInPlace, "the branch is added to the normalised stream"),
    ("Block", OnlyPost, "the norm always comes after the sum"),
    ("Block", MaskForgotten, "self-attention does not get the mask"),
    ("Block", Detached, "yours is zero everywhere"),
    ("Translator", NoPlaces, "no positions are added"),
    ("Translator", NotCausal, "the decoder sees what comes after"),
    ("Translator", ReadsPadding, "the encoder reads padding"),
    ("Translator", LayerPairs, "layer i of the decoder reads layer i of the encoder"),
    ("smoothed_loss", loss_with_padding, "padding counts as a target"),
    ("smoothed_loss", loss_of_log_of_softmax, "the logarithm is taken of a softmax"),
    ("smoothed_loss", loss_among_others, "goes to the other tokens only"),
    ("smoothed_loss", loss_without_gradient, "yours is zero everywhere"),
    ("learning_rate", lambda step: PEAK * (step / WARMUP if step < WARMUP else 1.0), "the rate stays at the peak"),
    ("learning_rate", lambda step: PEAK * math.sqrt(WARMUP / step), "there is no warm-up"),
    ("learning_rate", lambda step: PEAK * min(step, WARMUP) / max(step, WARMUP), "the update instead of its root"),
    ("Writer", NeverStops, "goes on after its end"),
    ("Writer", WithBegin, "the sign for the beginning is given back, too"),
    ("Writer", FirstRow, "the token is chosen at the first position"),
    ("Learner", Unshifted, "there is no shift"),
    ("Learner", PaddingInLoss, "padding is not left out of the loss"),
    ("Learner", NeverSteps, _HELD_OUT),
    ("Learner", AlwaysTheSameBatch, _HELD_OUT),
]
