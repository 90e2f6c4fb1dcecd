"""Right and wrong answers to the lab on masks and heads, each as a student might write it, none like the reference."""

from __future__ import annotations

import math

import einops
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attnkit import masks
from attnkit.lab.bank import load_lab
from attnkit.lab.variants import PRACTICE

# The student's own window, as the notebook's variant cell sets it.
window = load_lab("masks-and-heads").for_student(PRACTICE).questions["window_mask"].variant["window"]

# --- causal_mask


def causal_tri(q_len, k_len, align):
    return np.tri(q_len, k_len, k_len - q_len if align == "lower_right" else 0, dtype=bool)


def causal_triu(q_len, k_len, align):
    shift = {"upper_left": 0, "lower_right": k_len - q_len}[align]
    return ~torch.ones(q_len, k_len).triu(shift + 1).bool()


def causal_loops(q_len, k_len, align):
    seen = torch.zeros(q_len, k_len, dtype=torch.bool)
    for i in range(q_len):
        last = i if align == "upper_left" else k_len - (q_len - i)
        seen[i, : max(last + 1, 0)] = True
    return seen


def causal_cut_from_a_square(q_len, k_len, align):
    """A cache: the last rows of a square (with more queries than keys, its last columns), or the first of both."""
    size = max(q_len, k_len)
    square = np.arange(size)[:, None] >= np.arange(size)
    if align == "lower_right":
        return square[size - q_len :, size - k_len :]
    return square[:q_len, :k_len]


def causal_cumsum(q_len, k_len, align):
    """Each row is the sum of marks to its right."""
    marks = torch.zeros(q_len, k_len)
    for i in range(q_len):
        at = min(i, k_len - 1) if align == "upper_left" else i + k_len - q_len
        if 0 <= at < k_len:
            marks[i, at] = 1
    return marks.flip(-1).cumsum(-1).flip(-1) > 0


# --- window_mask


def window_two_triangles(q_len, k_len):
    return np.tri(q_len, k_len, k_len - q_len, bool) & ~np.tri(q_len, k_len, k_len - q_len - window, bool)


def window_tril_triu(q_len, k_len):
    ones = torch.ones(q_len, k_len, dtype=torch.bool)
    return ones.tril(k_len - q_len).triu(k_len - q_len - window + 1)


def window_loops(q_len, k_len):
    seen = np.zeros((q_len, k_len), dtype=bool)
    for i in range(q_len):
        here = k_len - q_len + i
        for j in range(here - window + 1, here + 1):
            if 0 <= j < k_len:
                seen[i, j] = True
    return seen


def window_shifts(q_len, k_len):
    own = torch.arange(k_len - q_len, k_len)
    offsets = torch.arange(window)
    return (own[:, None, None] - offsets[:, None] == torch.arange(k_len)).any(1)


# --- visible


def visible_loops(q_len, padding, documents):
    batch, k_len = documents.shape
    out = torch.zeros(batch, q_len, k_len, dtype=torch.bool)
    for b in range(batch):
        for i in range(q_len):
            q = i + k_len - q_len
            for j in range(q + 1):
                if padding[b, j]:
                    continue
                out[b, i, j] = documents[b, j] == 0 or documents[b, j] == documents[b, q]
    return out


def visible_square_then_cut(q_len, padding, documents):
    """Everything for all tokens, then the last rows."""
    size = documents.shape[1]
    same = documents[:, :, None] == documents[:, None, :]
    seen = (same | (documents == 0)[:, None, :]) & np.tri(size, dtype=bool) & ~padding[:, None, :]
    return seen[:, size - q_len :]


def visible_hidden(q_len, padding, documents):
    """What is hidden, by De Morgan, then turned round."""
    k_len = documents.shape[-1]
    doc_q, doc_k = documents[:, k_len - q_len :].unsqueeze(-1), documents.unsqueeze(-2)
    later = torch.ones(q_len, k_len, device=documents.device).triu(k_len - q_len + 1).bool()
    return ~(padding.unsqueeze(-2) | later | ((doc_q != doc_k) & (doc_k != 0)))


def visible_fill(q_len, padding, documents):
    batch, k_len = documents.shape
    seen = np.ones((batch, q_len, k_len), dtype=bool)
    at = np.arange(q_len) + k_len - q_len
    seen[:, np.arange(k_len)[None, :] > at[:, None]] = False
    foreign = np.not_equal(documents[:, at][..., None], documents[:, None]) & (documents != 0)[:, None]
    return np.where(padding[:, None] | foreign, False, seen)


def visible_products(q_len, padding, documents):
    """Numbers in place of truths: a product is an and."""
    k_len = documents.shape[1]
    real = (padding == 0).float()
    places = torch.arange(k_len)
    before = (places[None, :] <= places[k_len - q_len :, None]).float()
    same = (documents[:, k_len - q_len :, None] == documents[:, None, :]).float()
    shared = (documents == 0).float()[:, None, :]
    return real[:, None, :] * before * (same + shared).clamp(max=1) > 0


# --- split_heads, merge_heads


def split_unflatten(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def split_stack(x, heads):
    return np.stack(np.split(x, heads, axis=-1), axis=1)


def split_einops(x, heads):
    return einops.rearrange(x, "b n (h d) -> b h n d", h=heads)


def split_loops(x, heads):
    batch, length, width = x.shape
    out = np.zeros((batch, heads, length, width // heads), x.dtype)
    for f in range(width):
        out[:, f // (width // heads), :, f % (width // heads)] = x[:, :, f]
    return out


def split_view_permute(x, heads):
    batch, length, width = x.size()
    return x.contiguous().view(batch, length, heads, width // heads).permute(0, 2, 1, 3).contiguous()


def merge_flatten(x):
    return x.transpose(1, 2).flatten(2)


def merge_concatenate(x):
    return np.concatenate(list(np.moveaxis(x, 1, 0)), axis=2)


def merge_einops(x):
    return einops.rearrange(x, "b h n d -> b n (h d)")


def merge_cat(x):
    return torch.cat(x.unbind(dim=1), dim=-1)


def merge_loops(x):
    batch, heads, length, d = x.shape
    out = np.zeros((batch, length, heads * d), x.dtype)
    for f in range(heads * d):
        out[..., f] = x[:, f // d, :, f % d]
    return out


# --- grouped_query_attention


def gqa_repeat(query, key, value, mask):
    times = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    scores = (query @ key.mT) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1)
    return weights.nan_to_num(0.0) @ value


def gqa_grouped_axes(query, key, value, mask):
    batch, heads, q_len, d = query.shape
    groups = key.shape[1]
    q = query.reshape(batch, groups, heads // groups, q_len, d)
    scores = np.einsum("bghid,bgjd->bghij", q * d**-0.5, key)
    scores = np.where(mask[:, None, None], scores, np.finfo(np.float32).min / 2)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    weights = e / e.sum(-1, keepdims=True) * mask.any(-1)[:, None, None, :, None]
    return np.einsum("bghij,bgjv->bghiv", weights, value).reshape(batch, heads, q_len, -1)


def gqa_loops(query, key, value, mask):
    batch, heads, q_len, d = query.shape
    out = torch.zeros(batch, heads, q_len, value.shape[-1])
    for b in range(batch):
        for h in range(heads):
            g = h * key.shape[1] // heads
            for i in range(q_len):
                seen = mask[b, i].nonzero()[:, 0]
                if len(seen) == 0:
                    continue
                scores = key[b, g, seen] @ query[b, h, i] / d**0.5
                out[b, h, i] = torch.softmax(scores, 0) @ value[b, g, seen]
    return out


def gqa_expand(query, key, value, mask):
    group = query.size(1) // key.size(1)
    key, value = (x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2) for x in (key, value))
    scores = torch.einsum("bhid,bhjd->bhij", query, key) * query.size(-1) ** -0.5
    blind = ~mask.any(-1)[:, None, :, None]
    scores = torch.where(mask[:, None] | blind, scores, torch.tensor(float("-inf")))
    return torch.where(blind, torch.zeros(()), torch.softmax(scores, -1) @ value)


def gqa_log_sum_exp(query, key, value, mask):
    """Group by group, with weights exp(score - logsumexp)."""
    outputs = []
    for g, queries in enumerate(query.chunk(key.shape[1], dim=1)):
        scores = queries @ key[:, g : g + 1].transpose(2, 3) / queries.shape[-1] ** 0.5
        scores = scores.masked_fill(mask.logical_not()[:, None], -1e30)
        weights = (scores - scores.logsumexp(-1, keepdim=True)).exp() * mask[:, None]
        outputs.append(weights @ value[:, g : g + 1])
    return torch.cat(outputs, dim=1)


# --- MultiHeadAttention


class _Parameters(nn.Module):
    """The parameters that every answer needs."""

    def __init__(self, d_model, heads):
        super().__init__()
        self.d_model, self.heads, self.d_head = d_model, heads, d_model // heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * d_model, d_model) / d_model**0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)


class WithChunks(_Parameters):
    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        q = split_unflatten(query @ wq.T + bq, self.heads)
        k = split_unflatten(key @ wk.T + bk, self.heads)
        v = split_unflatten(value @ wv.T + bv, self.heads)
        keep = torch.ones(query.shape[0], query.shape[1], key.shape[1], dtype=torch.bool)
        if key_padding_mask is not None:
            keep = keep & ~key_padding_mask[:, None]
        if attn_mask is not None:
            keep = keep & ~attn_mask
        return self.out_proj(merge_flatten(gqa_repeat(q, k, v, keep)))


class HeadByHead(_Parameters):
    """A sum over heads, each with its own rows and columns of the weights."""

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        hidden = torch.zeros(len(query), query.shape[1], key.shape[1], dtype=torch.bool)
        for mask in (attn_mask, None if key_padding_mask is None else key_padding_mask[:, None, :]):
            if mask is not None:
                hidden |= mask
        out = self.out_proj.bias.expand(*query.shape[:2], -1)
        for h in range(self.heads):
            q, k, v = (self.projected(x, part, h) for part, x in enumerate((query, key, value)))
            scores = torch.bmm(q, k.mT).div(self.d_head**0.5).masked_fill(hidden, -1e30)
            weights = scores.softmax(-1).masked_fill(hidden, 0)
            columns = self.out_proj.weight[:, h * self.d_head : (h + 1) * self.d_head]
            out = out + weights @ v @ columns.T
        return out

    def projected(self, x, part, h):
        start = part * self.d_model + h * self.d_head
        rows = slice(start, start + self.d_head)
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])


class WithEinsum(_Parameters):
    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        weight = self.in_proj_weight.view(3, self.heads, self.d_head, self.d_model)
        bias = self.in_proj_bias.view(3, self.heads, 1, self.d_head)
        q, k, v = (
            torch.einsum("bnw,hdw->bhnd", x, weight[part]) + bias[part] for part, x in enumerate((query, key, value))
        )
        hidden = torch.zeros((), dtype=torch.bool)
        if attn_mask is not None:
            hidden = hidden | attn_mask[None, None]
        if key_padding_mask is not None:
            hidden = hidden | key_padding_mask[:, None, None]
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(self.d_head)
        hidden = hidden.expand_as(scores)
        blind = hidden.all(-1, keepdim=True)
        weights = torch.softmax(scores.masked_fill(hidden & ~blind, -torch.inf), -1) * ~blind
        found = torch.einsum("bhij,bhjd->bihd", weights, v).flatten(2)
        return self.out_proj(found)


class FoldedIntoTheBatch(_Parameters):
    """Heads as further rows of the batch, the masks repeated for them."""

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        batch, q_len, k_len = query.size(0), query.size(1), key.size(1)
        parts = []
        for x, w, b in zip(
            (query, key, value),
            self.in_proj_weight.split(self.d_model),
            self.in_proj_bias.split(self.d_model),
            strict=True,
        ):
            y = F.linear(x, w, b).view(batch, -1, self.heads, self.d_head).permute(0, 2, 1, 3)
            parts.append(y.reshape(batch * self.heads, -1, self.d_head))
        q, k, v = parts
        seen = torch.ones(batch, q_len, k_len)
        if key_padding_mask is not None:
            seen = seen * (1 - key_padding_mask.float())[:, None, :]
        if attn_mask is not None:
            seen = seen * (1 - attn_mask.float())
        seen = seen.repeat_interleave(self.heads, dim=0)
        scores = torch.bmm(q, k.transpose(1, 2)) / self.d_head**0.5
        top = scores.amax(-1, keepdim=True).detach()
        e = (scores - top).exp() * seen
        total = e.sum(-1, keepdim=True)
        weights = e / torch.where(total > 0, total, torch.ones_like(total))
        out = torch.bmm(weights, v).view(batch, self.heads, q_len, self.d_head)
        return self.out_proj(out.transpose(1, 2).reshape(batch, q_len, self.d_model))


RIGHT = {
    "causal_mask": [causal_tri, causal_triu, causal_loops, causal_cut_from_a_square, causal_cumsum],
    "window_mask": [window_two_triangles, window_tril_triu, window_loops, window_shifts],
    "visible": [visible_loops, visible_square_then_cut, visible_hidden, visible_fill, visible_products],
    "split_heads": [split_unflatten, split_stack, split_einops, split_loops, split_view_permute],
    "merge_heads": [merge_flatten, merge_concatenate, merge_einops, merge_cat, merge_loops],
    "grouped_query_attention": [gqa_repeat, gqa_grouped_axes, gqa_loops, gqa_expand, gqa_log_sum_exp],
    "MultiHeadAttention": [WithChunks, HeadByHead, WithEinsum, FoldedIntoTheBatch],
}


# --- oracles: attnkit's and torch's own, in whatever precision they are handed


def _table(mask, q_len, k_len, batch=1):
    return mask.materialize(batch, 1, q_len, k_len).expand(batch, 1, q_len, k_len)[:, 0]


def visible_attnkit(q_len, padding, documents):
    """Composed from attnkit's masks on the whole square, then cut to the last rows."""
    batch, length = documents.shape
    first = masks.Dense((documents == 0)[:, None, None, :])
    filler = masks.Dense(padding[:, None, None, :])
    mask = masks.Causal() & (masks.Document(documents) | first) & ~filler
    return _table(mask, length, length, batch)[:, length - q_len :]


class TorchsOwn(nn.MultiheadAttention):
    """torch's module; a query that may see nothing is shown everything, and its output then replaced by the bias."""

    def __init__(self, d_model, heads):
        super().__init__(d_model, heads, batch_first=True)

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        hidden = torch.zeros(query.shape[0], query.shape[1], key.shape[1], dtype=torch.bool)
        hidden = hidden if attn_mask is None else hidden | attn_mask
        hidden = hidden if key_padding_mask is None else hidden | key_padding_mask[:, None]
        blind = hidden.all(-1, keepdim=True)
        for_heads = (hidden & ~blind).repeat_interleave(self.num_heads, dim=0)
        out, _ = super().forward(query, key, value, attn_mask=for_heads, need_weights=False)
        return torch.where(blind, self.out_proj.bias, out)


ORACLES = {
    "causal_mask": lambda q_len, k_len, align: _table(masks.Causal(align=align), q_len, k_len)[0],
    "window_mask": lambda q_len, k_len: _table(masks.Window(window - 1, 0, align="lower_right"), q_len, k_len)[0],
    "visible": visible_attnkit,
    "split_heads": lambda x, heads: torch.stack(x.chunk(heads, dim=-1), dim=1),
    "merge_heads": lambda x: x.permute(0, 2, 1, 3).flatten(2),
    "grouped_query_attention": lambda query, key, value, mask: torch.nan_to_num(
        F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None], enable_gqa=True)
    ),
    "MultiHeadAttention": TorchsOwn,
}

FORBIDDEN = {
    "causal_mask": """
from attnkit.masks import Causal

def causal_mask(q_len, k_len, align):
    return Causal(align=align).materialize(1, 1, q_len, k_len)[0, 0]
""",
    "window_mask": """
from attnkit import masks

def window_mask(q_len, k_len):
    return masks.Window(window - 1, 0, align="lower_right").materialize(1, 1, q_len, k_len)[0, 0]
""",
    "visible": """
import attnkit.masks as m

def visible(q_len, padding, documents):
    batch, n = documents.shape
    first, filler = m.Dense((documents == 0)[:, None, None, :]), m.Dense(padding[:, None, None, :])
    mask = m.Causal() & (m.Document(documents) | first) & ~filler
    return mask.materialize(batch, 1, n, n)[:, 0, n - q_len :]
""",
    "split_heads": """
from attnkit.nn import MultiHeadAttention

def split_heads(x, heads):
    return MultiHeadAttention(x.shape[-1], heads)._split(x, heads, None)
""",
    "merge_heads": """
import attnkit

def merge_heads(x):
    return attnkit.nn.merge(x)
""",
    "grouped_query_attention": """
import torch.nn.functional as F

def grouped_query_attention(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None], enable_gqa=True)
""",
    "MultiHeadAttention": """
from torch import nn

class MultiHeadAttention(nn.MultiheadAttention):
    def __init__(self, d_model, heads):
        super().__init__(d_model, heads, batch_first=True)

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        return super().forward(query, key, value, key_padding_mask=key_padding_mask, attn_mask=attn_mask)[0]
""",
}


# --- wrong answers, as people write them


class Answering(_Parameters):
    """torch's way, with a place for each slip."""

    order = (0, 1, 2)
    scale = staticmethod(lambda module: module.d_head**-0.5)
    fill = -torch.inf

    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None):
        w, b = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            self.cut(F.linear(x, w[part], b[part])) for x, part in zip((query, key, value), self.order, strict=True)
        )
        scores = q @ k.mT * self.scale(self)
        if attn_mask is not None:
            scores = scores.masked_fill(self.of_queries(attn_mask), self.fill)
        if key_padding_mask is not None:
            scores = scores.masked_fill(self.of_keys(key_padding_mask)[:, None, None], self.fill)
        return self.last(self.join(self.share(scores) @ v))

    def of_queries(self, attn_mask):
        return attn_mask

    def of_keys(self, key_padding_mask):
        return key_padding_mask

    def cut(self, x):
        return x.unflatten(-1, (self.heads, self.d_head)).transpose(1, 2)

    def join(self, x):
        return x.transpose(1, 2).flatten(-2)

    def last(self, x):
        return self.out_proj(x)

    def share(self, scores):
        return scores.softmax(-1)


class ScaledByTheWidth(Answering):
    scale = staticmethod(lambda module: module.d_model**-0.5)


class ViewInsteadOfTranspose(Answering):
    def cut(self, x):
        return x.view(x.size(0), self.heads, x.size(1), self.d_head)


class JoinedByAView(Answering):
    def join(self, x):
        return x.contiguous().view(x.size(0), x.size(2), self.d_model)


class ValueByTheKeys(Answering):
    order = (0, 1, 1)


class LikeSdpa(Answering):
    def of_queries(self, attn_mask):
        return attn_mask.logical_not()

    def of_keys(self, key_padding_mask):
        return key_padding_mask.logical_not()

    def share(self, scores):
        return scores.softmax(-1).nan_to_num()


class NanForTheBlind(Answering):
    """Nothing is done for a row that sees nothing."""


class MeanForTheBlind(Answering):
    fill = -1e9


class NoOutputProjection(Answering):
    def last(self, x):
        return x


def _gqa(query, key, value, mask, scale=None):
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(mask == 0, -torch.inf).softmax(-1).nan_to_num() @ value


def _repeat_as_blocks(x, query):
    return torch.repeat_interleave(x, query.shape[1] // x.shape[1], dim=1)


def _tiled(x, query):
    return x.repeat(1, query.shape[1] // x.shape[1], 1, 1)


def gqa_tiled(query, key, value, mask):
    return _gqa(query, _tiled(key, query), _tiled(value, query), mask[:, None])


def gqa_values_tiled(query, key, value, mask):
    return _gqa(query, _repeat_as_blocks(key, query), _tiled(value, query), mask[:, None])


def gqa_mask_on_heads(query, key, value, mask):
    return _gqa(query, _repeat_as_blocks(key, query), _repeat_as_blocks(value, query), mask)


def gqa_scaled_by_the_width(query, key, value, mask):
    width = query.transpose(1, 2).flatten(2).shape[-1]
    return _gqa(query, _repeat_as_blocks(key, query), _repeat_as_blocks(value, query), mask[:, None], width**-0.5)


def gqa_broadcasts_one_key_head(query, key, value, mask):
    return _gqa(query, key[:, :1], value[:, :1], mask[:, None])


def gqa_nan(query, key, value, mask):
    key, value = _repeat_as_blocks(key, query), _repeat_as_blocks(value, query)
    bias = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)[:, None]
    return torch.softmax(query @ key.mT / query.shape[-1] ** 0.5 + bias, -1) @ value


def gqa_mean(query, key, value, mask):
    key, value = _repeat_as_blocks(key, query), _repeat_as_blocks(value, query)
    return torch.softmax((query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~mask[:, None], -1e9), -1) @ value


def _ones(q_len, k_len):
    return torch.ones(q_len, k_len, dtype=torch.bool)


def _texts(q_len, padding, documents):
    n = documents.shape[1]
    mine, theirs = documents[:, n - q_len :, None], documents[:, None]
    return _ones(q_len, n).tril(n - q_len), mine == theirs, theirs == 0, ~padding[:, None]


def visible_careless(q_len, padding, documents):
    causal, own, shared, real = _texts(q_len, padding, documents)
    return causal & real & own | shared.expand(-1, q_len, -1)


def visible_padding_as_it_is(q_len, padding, documents):
    causal, own, shared, real = _texts(q_len, padding, documents)
    return causal & (own | shared) & ~real


def visible_no_preamble(q_len, padding, documents):
    causal, own, _, real = _texts(q_len, padding, documents)
    return causal & own & real


def visible_tril(q_len, padding, documents):
    _, own, shared, real = _texts(q_len, padding, documents)
    return _ones(q_len, documents.shape[1]).tril() & (own | shared) & real


def visible_hides_rows(q_len, padding, documents):
    causal, own, shared, _ = _texts(q_len, padding, documents)
    return causal & (own | shared) & ~padding[:, documents.shape[1] - q_len :, None]


WRONG = [
    ("causal_mask", lambda q, k, align: _ones(q, k).tril(), "upper left corner, whatever"),
    ("causal_mask", lambda q, k, align: _ones(q, k).triu((k - q) * (align == "lower_right") + 1), "stands for hidden"),
    ("causal_mask", lambda q, k, align: _ones(q, k).tril((k - q) * (align == "lower_right") - 1), "its own key"),
    ("causal_mask", lambda q, k, align: _ones(q, k).tril((q - k) * (align == "lower_right")), "wrong sign"),
    ("causal_mask", lambda q, k, align: _ones(q, k).tril(k - q if align == "upper_left" else 0), "exchanged"),
    ("window_mask", lambda q, k: _ones(q, k).tril(k - q).triu(k - q - window), "one key too many"),
    ("window_mask", lambda q, k: _ones(q, k).tril().triu(1 - window), "upper left corner"),
    ("window_mask", lambda q, k: _ones(q, k).tril(k - q + window - 1).triu(k - q + 1 - window), "looks ahead as far"),
    ("window_mask", lambda q, k: _ones(q, k).tril(k - q), "old ones are not"),
    ("visible", visible_careless, "`or` was applied last"),
    ("visible", visible_padding_as_it_is, "taken for the tokens that are real"),
    ("visible", visible_no_preamble, "seen by itself only"),
    ("visible", visible_tril, "upper left corner"),
    ("visible", visible_hides_rows, "queries instead of keys"),
    ("split_heads", lambda x, h: x.view(x.size(0), h, x.size(1), -1), "without a transpose"),
    ("split_heads", lambda x, h: x.unflatten(-1, (h, -1)), "stand behind the length"),
    ("split_heads", lambda x, h: einops.rearrange(x, "b n (d h) -> b h n d", h=h), "in turn"),
    ("split_heads", lambda x, h: einops.rearrange(x, "b n (h d) -> (b h) n d", h=h), "folded into the batch"),
    ("merge_heads", lambda x: x.contiguous().view(x.size(0), x.size(2), -1), "without a transpose"),
    ("merge_heads", lambda x: einops.rearrange(x, "b h n d -> b n (d h)"), "take turns"),
    ("merge_heads", lambda x: torch.stack(x.unbind(1)).sum(0), "added up"),
    ("merge_heads", lambda x: x.mT.reshape(x.size(0), x.size(2), x.size(1) * x.size(3)), "length and features"),
    ("grouped_query_attention", gqa_tiled, "in turn"),
    ("grouped_query_attention", gqa_values_tiled, "values in turn"),
    ("grouped_query_attention", gqa_mask_on_heads, "mask of another row"),
    ("grouped_query_attention", gqa_scaled_by_the_width, "width of all heads"),
    ("grouped_query_attention", gqa_broadcasts_one_key_head, "first key head"),
    ("grouped_query_attention", gqa_nan, "gives nan"),
    ("grouped_query_attention", gqa_mean, "averages all values"),
    ("MultiHeadAttention", ScaledByTheWidth, "sqrt(d_model)"),
    ("MultiHeadAttention", ViewInsteadOfTranspose, "split by a reshape"),
    ("MultiHeadAttention", JoinedByAView, "merged by a reshape"),
    ("MultiHeadAttention", ValueByTheKeys, "keys' weights"),
    ("MultiHeadAttention", LikeSdpa, "both masks are read the wrong way"),
    ("MultiHeadAttention", NanForTheBlind, "gives nan"),
    ("MultiHeadAttention", MeanForTheBlind, "averages all values"),
    ("MultiHeadAttention", NoOutputProjection, "output projection is forgotten"),
]
