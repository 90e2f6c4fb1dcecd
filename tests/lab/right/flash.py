"""Answers to the FlashAttention lab: right ones, each in another style and none like the reference, and wrong ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from attnkit import attention
from attnkit.masks import Causal, Window

INF = math.inf
# The notebook gives each student a window under this name; a practice run has this one.
window = 3

# --- merge


def merge_torch(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Through lse: a half of weight exp(lse) under the common maximum."""
    m = torch.maximum(m_a, m_b)
    logs = torch.stack([m_a + l_a.log(), m_b + l_b.log()])
    total = (torch.logsumexp(logs, 0) - m).exp().nan_to_num()
    scale = torch.stack([m_a - m, m_b - m]).exp().nan_to_num()
    return m, total, scale[0, :, None] * acc_a + scale[1, :, None] * acc_b


def merge_loops(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m, total, acc = np.array(m_a), np.array(l_a), np.array(acc_a)
    for i in range(len(m)):
        low, high = (float(m_a[i]), float(m_b[i])) if m_a[i] <= m_b[i] else (float(m_b[i]), float(m_a[i]))
        shrink = math.exp(low - high) if high > -INF else 0.0
        first, second = (shrink, 1.0) if m_a[i] <= m_b[i] else (1.0, shrink)
        m[i] = high
        total[i] = first * float(l_a[i]) + second * float(l_b[i])
        acc[i] = first * np.asarray(acc_a[i]) + second * np.asarray(acc_b[i])
    return m, total, acc


def merge_stacked(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Sums carried as one more column of acc."""
    tops = np.stack([m_a, m_b])
    sums = np.stack([np.column_stack([l_a, acc_a]), np.column_stack([l_b, acc_b])])
    m = tops.max(axis=0)
    with np.errstate(invalid="ignore"):
        factors = np.nan_to_num(np.exp(tops - m))
    both = np.einsum("hr,hrc->rc", factors, sums)
    return m, both[:, 0], both[:, 1:]


def merge_by_difference(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """One exponential: the half with the lower maximum shrinks."""
    gap = torch.nan_to_num(m_b - m_a, nan=0.0, posinf=INF, neginf=-INF)
    a, b = torch.exp(-gap.clamp(min=0)), torch.exp(gap.clamp(max=0))
    return torch.where(gap > 0, m_b, m_a), a * l_a + b * l_b, a[:, None] * acc_a + b[:, None] * acc_b


# --- flash_forward


def forward_running(query, key, value, block):
    """As the papers have it: old sums rescaled, then the new block under the new maximum."""
    scale = query.shape[-1] ** -0.5
    top, total = query.new_full((len(query), 1), -INF), query.new_zeros(len(query), 1)
    out = query.new_zeros(len(query), value.shape[-1])
    for k, v in zip(key.split(block), value.split(block), strict=True):
        if not len(k):
            continue
        scores = scale * query @ k.mT
        new = torch.maximum(top, scores.amax(-1, keepdim=True))
        old, weights = (top - new).exp(), (scores - new).exp()
        total, out, top = old * total + weights.sum(-1, keepdim=True), old * out + weights @ v, new
    return out / total.masked_fill(total == 0, 1), (top + total.log())[:, 0]


def forward_by_lse(query, key, value, block):
    """Each block finished by itself, and put together with the others by its lse."""
    out, lse = np.zeros((len(query), value.shape[-1])), np.full(len(query), -INF)
    for i in range(0, len(key), block):
        scores = np.einsum("qd,kd->qk", query, key[i : i + block]) / math.sqrt(query.shape[-1])
        its = np.logaddexp.reduce(scores, axis=-1)
        both = np.logaddexp(lse, its)
        mine = np.exp(scores - its[:, None]) @ value[i : i + block]
        out = np.exp(lse - both)[:, None] * out + np.exp(its - both)[:, None] * mine
        lse = both
    return out, lse


def forward_two_passes(query, key, value, block):
    """First the lse of each row, then the weights, block by block: nothing to rescale."""
    scores = lambda i: query @ key[i : i + block].T / key.shape[-1] ** 0.5  # noqa: E731  # a student's way
    starts = range(0, len(key), block)
    lse = torch.full((len(query),), -INF)
    for i in starts:
        lse = torch.logaddexp(lse, scores(i).logsumexp(-1))
    out = torch.zeros(len(query), value.shape[-1])
    for i in starts:
        out += (scores(i) - lse[:, None]).exp() @ value[i : i + block]
    return out, lse


def forward_blocks_of_queries(query, key, value, block):
    """No online softmax at all: a few queries at a time see all keys. Memory is linear that way, too."""
    outs, lses = [torch.zeros(0, value.shape[-1])], [torch.zeros(0)]
    for q in query.split(block) if len(key) else ():
        scores = torch.einsum("qd,kd->qk", q / q.shape[-1] ** 0.5, key)
        top = scores.amax(-1)
        weights = (scores - top[:, None]).exp()
        outs.append(weights @ value / weights.sum(-1, keepdim=True))
        lses.append(top + weights.sum(-1).log())
    if not len(key):
        return torch.zeros(len(query), value.shape[-1]), torch.full((len(query),), -INF)
    return torch.cat(outs), torch.cat(lses)


def forward_double(query, key, value, block):
    """In float64, from the last block to the first."""
    query, key, value = (np.asarray(x, dtype=np.float64) for x in (query, key, value))
    m, sums = np.full(len(query), -INF), np.zeros((len(query), 1 + value.shape[-1]))
    value = np.column_stack([np.ones(len(value)), value])
    for i in reversed(range(0, len(key), block)):
        scores = query @ key[i : i + block].T / np.sqrt(query.shape[-1])
        new = np.maximum(m, scores.max(axis=-1))
        sums *= np.exp(m - new)[:, None]
        sums += np.exp(scores - new[:, None]) @ value[i : i + block]
        m = new
    total = np.where(sums[:, 0] > 0, sums[:, 0], 1)
    return sums[:, 1:] / total[:, None], m + np.log(total)


# --- combine


def combine_softmax(outs, lses):
    shares = lses.softmax(0).nan_to_num()
    return torch.einsum("wq,wqc->qc", shares, outs), torch.logsumexp(lses, 0)


def combine_pairs(outs, lses):
    out, lse = outs[0], lses[0]
    for one, its in zip(outs[1:], lses[1:], strict=True):
        both = np.logaddexp(lse, its)
        safe = np.where(np.isneginf(both), 0, both)
        out = np.exp(lse - safe)[:, None] * out + np.exp(its - safe)[:, None] * one
        lse = both
    return out, lse


def combine_loops(outs, lses):
    workers, rows, _ = outs.shape
    out, lse = np.zeros(outs.shape[1:]), np.full(rows, -INF)
    for i in range(rows):
        top = max(float(lses[w][i]) for w in range(workers))
        if top == -INF:
            continue
        shares = [math.exp(float(lses[w][i]) - top) for w in range(workers)]
        for w in range(workers):
            out[i] += shares[w] / math.fsum(shares) * np.asarray(outs[w][i])
        lse[i] = top + math.log(math.fsum(shares))
    return out, lse


# --- flash_window


def window_rows(query, key, value, block):
    """A row at a time, over a slice of the keys."""
    out, lse = np.zeros((len(query), value.shape[-1])), np.full(len(query), -INF)
    for i in range(len(query)):
        end = i + 1 + len(key) - len(query)
        some = slice(max(end - window, 0), max(end, 0))
        if some.start == some.stop:
            continue
        scores = key[some] @ query[i] / math.sqrt(query.shape[-1])
        lse[i] = np.logaddexp.reduce(scores)
        weights = np.exp(scores - scores.max())
        out[i] = weights @ value[some] / weights.sum()
    return out, lse


def window_aligned_tiles(query, key, value, block):
    """Tiles that begin at multiples of block, each asked whether anything of it is visible."""
    shift = len(key) - len(query)
    outs, lses = [torch.zeros(0, value.shape[-1])], [torch.zeros(0)]
    for a in range(0, len(query), block):
        q = query[a : a + block]
        rows = torch.arange(a, a + len(q)) + shift
        top, sums = torch.full((len(q), 1), -INF), torch.zeros(len(q), 1 + value.shape[-1])
        first = max(int(rows[0]) - window + 1, 0) // block
        for b in range(first * block, min(int(rows[-1]) + 1, len(key)), block):
            k, v = key[b : b + block], value[b : b + block]
            cols = torch.arange(b, b + len(k))
            hidden = (cols > rows[:, None]) | (cols <= rows[:, None] - window)
            scores = (q @ k.T / math.sqrt(q.shape[-1])).masked_fill(hidden, -INF)
            new = torch.maximum(top, scores.amax(-1, keepdim=True))
            safe = new.masked_fill(new == -INF, 0)
            sums = (top - safe).exp() * sums + (scores - safe).exp() @ torch.cat([torch.ones(len(v), 1), v], -1)
            top = new
        total = sums[:, :1].masked_fill(sums[:, :1] == 0, 1)
        outs.append(sums[:, 1:] / total)
        lses.append((top + total.log())[:, 0])
    return torch.cat(outs), torch.cat(lses)


def window_one_slice(query, key, value, block):
    """All keys that a block of queries may see, as one slice: a window and a block are short."""
    out, lse = np.zeros((len(query), value.shape[-1])), np.full(len(query), -INF)
    shift = len(key) - len(query)
    for a in range(0, len(query), block):
        b = min(a + block, len(query))
        low, high = max(a + shift - window + 1, 0), max(b + shift, 0)
        if low >= high:
            continue
        i, j = np.ogrid[a + shift : b + shift, low:high]
        scores = np.where((j <= i) & (i < j + window), query[a:b] @ key[low:high].T, -INF)
        scores = scores / math.sqrt(query.shape[-1])
        sees = (j <= i).any(axis=-1)
        weights = np.exp(scores[sees] - scores[sees].max(axis=-1, keepdims=True))
        out[a:b][sees] = weights @ value[low:high] / weights.sum(axis=-1, keepdims=True)
        lse[a:b][sees] = scores[sees].max(axis=-1) + np.log(weights.sum(axis=-1))
    return out, lse


def window_by_distance(query, key, value, block):
    """No blocks: one pass for each distance from the query's place, and a running maximum over the distances."""
    shift, scale = len(key) - len(query), 1 / math.sqrt(query.shape[-1])
    top, total = query.new_full((len(query),), -INF), query.new_zeros(len(query))
    acc = query.new_zeros(len(query), value.shape[-1])
    for distance in range(window):
        rows = torch.arange(min(max(0, distance - shift), len(query)), len(query))
        rows = rows[rows + shift - distance < len(key)]
        k, v = key[rows + shift - distance], value[rows + shift - distance]
        scores = scale * (query[rows] * k).sum(-1)
        new = torch.maximum(top[rows], scores)
        old, weights = (top[rows] - new).exp(), (scores - new).exp()
        total[rows] = old * total[rows] + weights
        acc[rows] = old[:, None] * acc[rows] + weights[:, None] * v
        top[rows] = new
    return acc / total.clamp(min=1e-30)[:, None], top + total.log()


# --- flash_backward


def backward_torch(query, key, value, out, lse, d_out, block, causal):
    scale = query.shape[-1] ** -0.5
    delta = (d_out * out).sum(-1, keepdim=True)
    place = torch.arange(len(query))[:, None] + len(key) - len(query)
    d_query, d_keys, d_values = torch.zeros_like(query), [key[:0]], [value[:0]]
    for i in range(0, len(key), block):
        k, v = key[i : i + block], value[i : i + block]
        weights = (scale * query @ k.mT - lse[:, None]).exp()
        if causal:
            weights = weights.masked_fill(i + torch.arange(len(k)) > place, 0)
        d_scores = scale * weights * (d_out @ v.mT - delta)
        d_query += d_scores @ k
        d_keys.append(d_scores.mT @ query)
        d_values.append(weights.mT @ d_out)
    return d_query, torch.cat(d_keys), torch.cat(d_values)


def backward_einsum(query, key, value, out, lse, d_out, block, causal):
    """Blocks of queries outside, blocks of keys inside, in float64."""
    query, key, value, out, lse, d_out = (np.asarray(x, dtype=np.float64) for x in (query, key, value, out, lse, d_out))
    root, shift = np.sqrt(query.shape[-1]), len(key) - len(query)
    grads = [np.zeros_like(x) for x in (query, key, value)]
    for a in range(0, len(query), block):
        rows = slice(a, a + block)
        seen = np.isfinite(lse[rows])
        delta = np.einsum("qc,qc->q", d_out[rows], out[rows])
        for b in range(0, len(key), block):
            cols = slice(b, b + block)
            scores = np.einsum("qd,kd->qk", query[rows], key[cols]) / root
            if causal:
                i, j = np.ogrid[a : a + scores.shape[0], b : b + scores.shape[1]]
                scores[j > i + shift] = -INF
            weights = np.exp(scores - np.where(seen, lse[rows], 0)[:, None]) * seen[:, None]
            d_scores = weights * (np.einsum("qc,kc->qk", d_out[rows], value[cols]) - delta[:, None])
            grads[0][rows] += np.einsum("qk,kd->qd", d_scores, key[cols]) / root
            grads[1][cols] += np.einsum("qk,qd->kd", d_scores, query[rows]) / root
            grads[2][cols] += np.einsum("qk,qc->kc", weights, d_out[rows])
    return tuple(grads)


def backward_own_softmax(query, key, value, out, lse, d_out, block, causal):
    """Trusts nothing that it is handed: a few whole rows at a time, with a softmax of its own."""
    grads = [torch.zeros_like(x) for x in (query, key, value)]
    if not len(key):
        return tuple(grads)
    for a in range(0, len(query), 32):
        q, d_o = query[a : a + 32], d_out[a : a + 32]
        scores = q @ key.mT / math.sqrt(q.shape[-1])
        if causal:
            hidden = torch.ones(len(query), len(key)).triu(1 + len(key) - len(query))[a : a + 32].bool()
            scores = scores.masked_fill(hidden, -INF)
        top = scores.amax(-1, keepdim=True).clamp(min=-1e30)
        weights = (scores - top).exp()
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)
        d_weights = d_o @ value.mT
        d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True)) / math.sqrt(q.shape[-1])
        grads[0][a : a + 32] = d_scores @ key
        grads[1] += d_scores.mT @ q
        grads[2] += weights.mT @ d_o
    return tuple(grads)


def backward_key_by_key(query, key, value, out, lse, d_out, block, causal):
    """Blocks of one key, whatever block says."""
    scale = 1 / math.sqrt(query.shape[-1])
    d_query, d_key, d_value = np.zeros(query.shape), np.zeros(key.shape), np.zeros(value.shape)
    delta = np.sum(d_out * out, axis=1)
    places = np.arange(len(query)) + len(key) - len(query)
    for j in range(len(key)):
        rows = np.flatnonzero(places >= j) if causal else np.arange(len(query))
        weights = np.exp(scale * (query[rows] @ key[j]) - lse[rows])
        d_scores = scale * weights * (d_out[rows] @ value[j] - delta[rows])
        d_query[rows] += np.outer(d_scores, key[j])
        d_key[j] = d_scores @ query[rows]
        d_value[j] = weights @ d_out[rows]
    return d_query, d_key, d_value


def backward_attnkit(query, key, value, out, lse, d_out, block, causal):
    """The gradients that autograd finds through attnkit's own attention in blocks."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    mask = Causal(align="lower_right") if causal else None
    own = attention(*(x[None, None] for x in leaves), mask=mask, backend="online")
    return torch.autograd.grad(own[0, 0], leaves, d_out, materialize_grads=True)


RIGHT: dict[str, list[Callable]] = {
    "merge": [merge_torch, merge_loops, merge_stacked, merge_by_difference],
    "flash_forward": [
        forward_running,
        forward_by_lse,
        forward_two_passes,
        forward_blocks_of_queries,
        forward_double,
    ],
    "combine": [combine_softmax, combine_pairs, combine_loops],
    "flash_window": [window_rows, window_aligned_tiles, window_one_slice, window_by_distance],
    "flash_backward": [backward_torch, backward_einsum, backward_own_softmax, backward_key_by_key, backward_attnkit],
}


# --- the same in double precision, by somebody else


def as_heads(*tensors):
    """With a batch and a head in front, as attnkit's attention takes them."""
    return [x[None, None] for x in tensors]


def attention_oracle(query, key, value, mask=None):
    out, aux = attention(*as_heads(query, key, value), mask=mask, aux=("lse",), backend="naive")
    return out[0, 0], aux.lse[0, 0]


def merge_oracle(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Stands for three keys: each half as one score of m + log(l), with the value acc / l, and a value of zeros."""
    logs = torch.stack([m_a + l_a.log(), m_b + l_b.log()])
    values = torch.stack([acc_a / l_a[:, None], acc_b / l_b[:, None]]).nan_to_num()
    m = torch.maximum(m_a, m_b)
    lse = torch.logsumexp(logs, 0)
    total = (lse - m).exp().nan_to_num()
    return m, total, total[:, None] * (logs.softmax(0).nan_to_num()[:, :, None] * values).sum(0)


def combine_oracle(outs, lses):
    """Attention of one query in each row: scores lse, values out."""
    scores, values = lses.T[:, None, :], outs.transpose(0, 1)
    return (scores.softmax(-1).nan_to_num() @ values)[:, 0], torch.logsumexp(lses, 0)


def backward_oracle(query, key, value, out, lse, d_out, block, causal):
    """torch's own gradients of a sum whose slopes are those of attention, when out and lse are what they should be."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    scores = leaves[0] @ leaves[1].mT / math.sqrt(query.shape[-1])
    if causal:
        scores = scores.tril(len(key) - len(query)) + torch.full_like(scores, -INF).triu(1 + len(key) - len(query))
    weights = (scores - lse[:, None]).exp()[lse > -INF]
    constant = (d_out * out).sum(-1)[lse > -INF]
    total = ((weights @ leaves[2]) * d_out[lse > -INF]).sum() - (weights.sum(-1) * constant).sum()
    return torch.autograd.grad(total, leaves, materialize_grads=True)


ORACLES: dict[str, Callable] = {
    "merge": merge_oracle,
    "flash_forward": lambda query, key, value, block: attention_oracle(query, key, value),
    "combine": combine_oracle,
    "flash_window": lambda query, key, value, block: attention_oracle(
        query, key, value, Window(window - 1, 0, align="lower_right")
    ),
    "flash_backward": backward_oracle,
}

# --- what the questions ask for, called instead

FORBIDDEN: dict[str, str] = {
    "flash_forward": (
        "import torch\n\ndef flash_forward(query, key, value, block):\n"
        "    scores = query @ key.mT / query.shape[-1] ** 0.5\n"
        "    return torch.softmax(scores, -1) @ value, scores.logsumexp(-1)\n"
    ),
    "flash_window": (
        "import torch\nimport torch.nn.functional as F\n\ndef flash_window(query, key, value, block):\n"
        "    p = torch.arange(len(query))[:, None] + len(key) - len(query)\n"
        "    j = torch.arange(len(key))\n"
        "    seen = (j <= p) & (j > p - window)\n"
        "    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen), 0 * p[:, 0]\n"
    ),
    "flash_backward": (
        "import torch\n\ndef flash_backward(query, key, value, out, lse, d_out, block, causal):\n"
        "    leaves = [x.clone().requires_grad_() for x in (query, key, value)]\n"
        "    scores = leaves[0] @ leaves[1].mT / query.shape[-1] ** 0.5\n"
        "    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()\n"
        "    return torch.autograd.grad(weights @ leaves[2], leaves, d_out)\n"
    ),
}

# --- mistakes as people write them


def merge_keeps_first(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """The loop of the papers, in which the new block stands under the new maximum already. Here it does not."""
    m = torch.maximum(m_a, m_b)
    old = (m_a - torch.nan_to_num(m, neginf=0.0)).exp()
    return m, old * l_a + l_b, old[:, None] * acc_a + acc_b


def merge_keeps_acc(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m = m_a.maximum(m_b)
    safe = m.nan_to_num(neginf=0.0)
    return m, (m_a - safe).exp() * l_a + (m_b - safe).exp() * l_b, acc_a + acc_b


def merge_nan(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m = m_a.maximum(m_b)
    a, b = (m_a - m).exp(), (m_b - m).exp()
    return m, l_a * a + l_b * b, acc_a * a.unsqueeze(-1) + acc_b * b.unsqueeze(-1)


def merge_averages_maxima(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Wrong in a way that no mistake names."""
    m = (m_a + m_b) / 2
    a, b = (m_a - m).exp(), (m_b - m).exp()
    return m, l_a * a + l_b * b, acc_a * a.unsqueeze(-1) + acc_b * b.unsqueeze(-1)


def running(query, key, value, block, maximum=torch.maximum, rounded=None, start=-INF):
    """The right walk, but for what is handed in."""
    top, total = torch.full((len(query), 1), start), torch.zeros(len(query), 1)
    out = torch.zeros(len(query), value.shape[-1])
    for i in range(0, len(key), block):
        scores = query @ key[i : i + block].mT / math.sqrt(query.shape[-1])
        new = maximum(top, scores)
        old, weights = (top - new).exp(), (scores - new).exp()
        total = old * total + weights.sum(-1, keepdim=True)
        out = old * out + (rounded(weights) if rounded else weights) @ value[i : i + block]
        top = new
    return out / total.where(total > 0, torch.tensor(1.0)), (top + total.where(total > 0, torch.tensor(1.0)).log())[
        :, 0
    ]


def larger(top, scores):
    return torch.maximum(top, scores.amax(-1, keepdim=True))


def forward_no_rescale(query, key, value, block):
    m = np.full(len(query), -INF)
    total, acc = np.zeros(len(query)), np.zeros((len(query), value.shape[-1]))
    for i in range(0, len(key), block):
        scores = query @ key[i : i + block].T / np.sqrt(query.shape[-1])
        m = np.maximum(m, scores.max(axis=-1))
        weights = np.exp(scores - m[:, None])
        total += weights.sum(axis=-1)
        acc += weights @ value[i : i + block]
    total[total == 0] = 1
    return acc / total[:, None], m + np.log(total)


def forward_without_maximum(query, key, value, block):
    total, acc = torch.zeros(len(query), 1), torch.zeros(len(query), value.shape[-1])
    for k, v in zip(key.split(block), value.split(block), strict=True):
        weights = (query @ k.mT / query.shape[-1] ** 0.5).exp()
        total, acc = total + weights.sum(-1, keepdim=True), acc + weights @ v
    return acc / total.where(total > 0, torch.tensor(1.0)), total.log()[:, 0]


def forward_dense(query, key, value, block):
    """Right, and it holds every score at once."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    lse = scores.logsumexp(-1)
    return (scores - lse[:, None]).exp() @ value, lse


def forward_only_output(query, key, value, block):
    return forward_running(query, key, value, block)[0]


def forward_full_blocks(query, key, value, block):
    whole = len(key) // block * block
    return forward_running(query, key[:whole], value[:whole], block)


def window_dense(query, key, value, block):
    """Right, and as slow as without a window."""
    p, j = torch.arange(len(query))[:, None] + len(key) - len(query), torch.arange(len(key))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    scores = scores.masked_fill((j > p) | (j <= p - window), -INF)
    lse = scores.logsumexp(-1)
    return (scores - lse[:, None]).exp().nan_to_num() @ value, lse


def window_masks(seen):
    """Dense attention of which `seen(i, j, shift)` says what is visible; rows that see nothing are right."""

    def attend(query, key, value, block):
        i, j = torch.arange(len(query))[:, None], torch.arange(len(key))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(~seen(i, j, len(key) - len(query)), -INF)
        lse = scores.logsumexp(-1)
        return (scores - lse[:, None]).exp().nan_to_num() @ value, lse

    return attend


def window_minus_1e9(query, key, value, block):
    """Without a softmax: the lse of a hidden row swallows the number of its keys."""
    p, j = torch.arange(len(query))[:, None] + len(key) - len(query), torch.arange(len(key))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    scores = scores.masked_fill((j > p) | (j <= p - window), -1e9)
    lse = scores.logsumexp(-1)
    return (scores - lse[:, None]).exp() @ value, lse


def window_softmax_of_minus_1e9(query, key, value, block):
    p, j = np.arange(len(query))[:, None] + len(key) - len(query), np.arange(len(key))
    if not len(key):
        return np.zeros((len(query), value.shape[-1])), np.full(len(query), -INF)
    scores = np.where((j <= p) & (j > p - window), query @ key.T / math.sqrt(query.shape[-1]), -1e9)
    top = scores.max(axis=-1, keepdims=True)
    total = np.exp(scores - top).sum(axis=-1, keepdims=True)
    return np.exp(scores - top) / total @ value, (top + np.log(total))[:, 0]


def window_skips_too_much(query, key, value, block):
    """Tiles that are hidden in part are thrown away."""
    i, j = torch.arange(len(query))[:, None] + len(key) - len(query), torch.arange(len(key))
    seen = (j <= i) & (j > i - window)
    tiles = seen.clone()
    for a in range(0, len(query), block):
        for b in range(0, len(key), block):
            tiles[a : a + block, b : b + block] &= seen[a : a + block, b : b + block].all()
    return window_masks(lambda i, j, shift: tiles)(query, key, value, block)


def backward_dense(delta=None, weights=None, scale=True, causal_too=True):
    """The whole table at once, with one thing done otherwise."""

    def backward(query, key, value, out, lse, d_out, block, causal):
        root = math.sqrt(query.shape[-1])
        p = (query @ key.mT / root - lse.nan_to_num(neginf=0.0)[:, None]).exp()
        if causal and causal_too:
            p = p.tril(len(key) - len(query))
        if weights:
            p = weights(p)
        d_p = d_out @ value.mT
        rows = (d_out * out).sum(-1) if delta is None else delta(d_out, out)
        d_scores = p * (d_p - rows[:, None]) / (root if scale else 1)
        return d_scores @ key, d_scores.mT @ query, p.mT @ d_out

    return backward


def backward_overwrites(query, key, value, out, lse, d_out, block, causal):
    """d_query = where d_query += should stand."""
    d_query, d_key, d_value = backward_torch(query, key, value, out, lse, d_out, block, causal)
    for i in range(0, len(key), block):
        only = slice(i, i + block)
        p = (query @ key[only].mT / math.sqrt(query.shape[-1]) - lse[:, None]).exp()
        if causal:
            place = torch.arange(len(query))[:, None] + len(key) - len(query)
            p = p.where(torch.arange(i, i + len(key[only])) <= place, torch.tensor(0.0))
        d_scores = p * (d_out @ value[only].mT - (d_out * out).sum(-1, keepdim=True))
        d_query = d_scores @ key[only] / math.sqrt(query.shape[-1])
    return d_query, d_key, d_value


def backward_nan(query, key, value, out, lse, d_out, block, causal):
    """Scores are hidden as -inf, and an lse of -inf is subtracted from them."""
    i, j = torch.arange(len(query))[:, None], torch.arange(len(key))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if causal:
        scores = scores.masked_fill(j > i + len(key) - len(query), -INF)
    p = (scores - lse[:, None]).exp()
    d_scores = p * (d_out @ value.mT - (d_out * out).sum(-1, keepdim=True)) / math.sqrt(query.shape[-1])
    return d_scores @ key, d_scores.mT @ query, p.mT @ d_out


WRONG: list[tuple[str, Callable, str]] = [
    ("merge", merge_keeps_first, "only the first half is rescaled"),
    ("merge", merge_keeps_acc, "l is rescaled but acc is not"),
    ("merge", merge_nan, "two halves that have seen nothing give nan"),
    ("merge", merge_averages_maxima, "m is not the larger of the two maxima"),
    ("merge", lambda m_a, l_a, acc_a, m_b, l_b, acc_b: (m_a, l_a, acc_a), "Your answer fails on one row"),
    ("flash_forward", forward_no_rescale, "not rescaled when the maximum rises"),
    ("flash_forward", forward_without_maximum, "no maximum is subtracted"),
    ("flash_forward", forward_full_blocks, "the last block is left out when it is not full"),
    ("flash_forward", forward_only_output, "you returned one value; it should be a tuple of 2"),
    ("flash_forward", forward_dense, "A table with a score for each query and each key is too large"),
    (
        "flash_forward",
        lambda q, k, v, b: running(q, k, v, b, lambda top, s: torch.maximum(top, s.amin(-1, keepdim=True))),
        "the minimum is subtracted, not the maximum",
    ),
    (
        "flash_forward",
        lambda q, k, v, b: running(q, k, v, b, larger, rounded=lambda weights: weights.bfloat16().float()),
        "the weights are rounded to bfloat16",
    ),
    ("flash_forward", lambda q, k, v, b: running(q, k, v, b, larger, start=0.0), "the running maximum starts at 0"),
    (
        "flash_forward",
        lambda q, k, v, b: forward_running(q * (q.shape[-1] / (q.shape[-1] + 1)) ** 0.5, k, v, b),
        "the root of d_k + 1",
    ),
    ("combine", lambda outs, lses: (outs.mean(0), lses.logsumexp(0)), "averaged as if they weighed the same"),
    (
        "combine",
        lambda outs, lses: (torch.einsum("wq,wqc->qc", lses.softmax(0), outs), lses.logsumexp(0)),
        "the output of a row that has seen nothing is nan",
    ),
    (
        "combine",
        lambda outs, lses: ((lses.softmax(-1).nan_to_num()[..., None] * outs).sum(0), lses.logsumexp(0)),
        "the softmax runs over the rows",
    ),
    ("combine", lambda outs, lses: (combine_softmax(outs, lses)[0], lses.amax(0)), "the largest lse is returned"),
    (
        "combine",
        lambda outs, lses: (9 + combine_softmax(outs, lses)[0], lses.logsumexp(0)),
        "outside those of the parts",
    ),
    ("flash_window", window_dense, "A window sees a fixed number of keys, however long the text is"),
    (
        "flash_window",
        window_masks(lambda i, j, shift: (j <= i + shift) & (j >= i + shift - window)),
        "one key too many",
    ),
    (
        "flash_window",
        window_masks(lambda i, j, shift: (j <= i) & (j > i - window)),
        "first query stands at the first key",
    ),
    ("flash_window", window_masks(lambda i, j, shift: j <= i + shift), "the window has no beginning"),
    ("flash_window", window_minus_1e9, "does not get 0 and -inf"),
    ("flash_window", window_softmax_of_minus_1e9, "hidden scores are a large negative number"),
    ("flash_window", window_skips_too_much, "blocks that are hidden in part are left out"),
    (
        "flash_window",
        lambda q, k, v, b: (lambda out, lse: (out, lse.nan_to_num(neginf=0.0)))(*window_dense(q, k, v, b)),
        "lse is 0 where nothing is seen",
    ),
    ("flash_backward", backward_dense(), "No table of L_q times L_k may stand in memory"),
    ("flash_backward", backward_dense(delta=lambda d_out, out: torch.zeros(len(out))), "delta is missing"),
    ("flash_backward", backward_dense(scale=False), "the scale is missing from both gradients"),
    ("flash_backward", backward_dense(causal_too=False), "causal is ignored"),
    ("flash_backward", backward_nan, "a query that sees nothing gives nan"),
    ("flash_backward", backward_overwrites, "only the last block is left in the gradient of the query"),
    (
        "flash_backward",
        backward_dense(weights=lambda p: 2 * p),
        "the gradients of the values do not add up to those of the output",
    ),
]
