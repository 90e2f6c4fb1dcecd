"""Right and wrong answers to the lab on decoding, each as a student might write it, none like the reference."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attnkit import attention
from attnkit.generation import generate
from attnkit.generation.filters import temperature as attnkit_temperature
from attnkit.generation.filters import top_k, top_p
from attnkit.generation.sampling import draw as attnkit_draw
from attnkit.lab.bank import load_lab
from attnkit.lab.variants import PRACTICE
from attnkit.masks import Causal
from attnkit.nn import KVCache

# The student's own p, as the notebook's variant cell sets it; tests set others.
p = load_lab("decoding").for_student(PRACTICE).questions["filtered"].variant["p"]

# --- greedy


def greedy_torch(table, start, end, max_new):
    tokens = torch.full((len(start), max_new), end)
    last, alive = start, torch.ones(len(start), dtype=torch.bool)
    for step in range(max_new):
        last = torch.where(alive, table[last].argmax(-1), end)
        tokens[:, step] = last
        alive &= last != end
    return tokens


def greedy_one_by_one(table, start, end, max_new):
    out = np.full((len(start), max_new), end)
    for row, token in enumerate(start):
        for step in range(max_new):
            scores = [float(x) for x in table[int(token)]]
            token = scores.index(max(scores))
            out[row, step] = token
            if token == end:
                break
    return out


def greedy_with_a_table_of_steps(table, start, end, max_new):
    """Where each token leads, once and for all; the end leads to itself."""
    leads = np.argmax(table, axis=1)
    leads[end] = end
    found = np.empty((max_new, len(start)), dtype=int)
    for step in range(max_new):
        start = found[step] = leads[start]
    return found.T


def greedy_stops_early(table, start, end, max_new):
    """Leaves the loop when all have ended, and fills up."""
    texts = [start]
    while len(texts) <= max_new and not bool((texts[-1] == end).all() and len(texts) > 1):
        following = table[texts[-1]].max(dim=-1).indices
        texts.append(following if len(texts) == 1 else following.masked_fill(texts[-1] == end, end))
    tokens = torch.stack(texts[1:], 1)
    return F.pad(tokens, (0, max_new - tokens.shape[1]), value=end)


# --- filtered


def filtered_torch(logits, temperature, k):
    values, order = (logits / temperature).sort(dim=-1, descending=True, stable=True)
    values = values[..., :k]
    best = values.softmax(-1)
    best = best.masked_fill(best.cumsum(-1) - best >= p, 0.0)
    best = best / best.sum(-1, keepdim=True)
    return torch.zeros_like(logits).scatter(-1, order[..., :k], best)


def filtered_with_minus_infinity(logits, temperature, k):
    """As libraries do it: -inf for what is filtered out, twice, and the softmax last."""
    z = logits / temperature
    order = torch.argsort(z, dim=-1, descending=True, stable=True)
    rank = order.argsort(-1)
    z = torch.where(rank < k, z, -torch.inf)
    shares = z.softmax(-1).gather(-1, order).cumsum(-1)
    reached = F.pad(shares, (1, 0))[..., :-1] >= p
    return z.masked_fill(reached.gather(-1, rank), -torch.inf).softmax(-1)


def filtered_row_by_row(logits, temperature, k):
    out = np.zeros(logits.shape)
    for place in np.ndindex(logits.shape[:-1]):
        row = [float(x) / temperature for x in logits[place]]
        ids = sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
        weights = [math.exp(row[i] - row[ids[0]]) for i in ids]
        whole, kept, total = sum(weights), [], 0.0
        for i, weight in zip(ids, weights, strict=True):
            kept.append((i, weight))
            total += weight / whole
            if total >= p:
                break
        for i, weight in kept:
            out[(*place, i)] = weight / sum(w for _, w in kept)
    return out


def filtered_numpy_inverse(logits, temperature, k):
    """Counts the tokens to keep, and goes back through the inverse order."""
    x = np.asarray(logits, dtype=float) / temperature
    order = np.argsort(-x, axis=-1, kind="mergesort")
    y = np.take_along_axis(x, order, -1)
    y[..., k:] = -np.inf
    with np.errstate(invalid="ignore"):
        y = np.exp(y - y.max(-1, keepdims=True, initial=-1e300))
    y = y / y.sum(-1, keepdims=True)
    keep = 1 + (np.cumsum(y, -1)[..., :-1] < p).sum(-1, keepdims=True)
    y[np.arange(y.shape[-1]) >= keep] = 0
    return np.take_along_axis(y / y.sum(-1, keepdims=True), np.argsort(order, -1), -1)


# --- draw


def draw_searchsorted(weights, u):
    heights = weights.cumsum(-1)
    found = torch.searchsorted(heights, (u * heights[..., -1]).unsqueeze(-1), right=True)
    return found.squeeze(-1)


def draw_argmax(weights, u):
    """argmax of a boolean: the first that is true."""
    heights = np.add.accumulate(weights, axis=-1)
    return np.argmax(heights > np.expand_dims(u, -1) * heights[..., -1:], axis=-1)


def draw_bisect(weights, u):
    out = np.zeros(u.shape, dtype=int)
    for place in np.ndindex(u.shape):
        heights = list(itertools.accumulate(float(w) for w in weights[place]))
        out[place] = bisect.bisect_right(heights, float(u[place]) * heights[-1])
    return out


def draw_by_subtraction(weights, u):
    """Take the pieces away, one after the other, until the number falls into one."""
    left = u.double() * weights.double().sum(-1)
    token = torch.full(u.shape, -1)
    for j in range(weights.shape[-1]):
        left = left - weights[..., j]
        token = torch.where((left < 0) & (token < 0), j, token)
    return token


# --- beam_search


def beam_numpy(table, start, end, width, max_new, alpha):
    """Arrays: the sums of all extensions as one table, and a stable sort of it."""
    table = np.asarray(table, dtype=float)
    vocab = len(table)
    tokens, sums = np.zeros((1, 0), dtype=int), np.zeros(1)
    done = []
    for _ in range(max_new):
        last = tokens[:, -1] if tokens.shape[1] else np.array([start])
        totals = (sums[:, None] + table[last]).ravel()
        best = np.argsort(-totals, kind="stable")[:width]
        tokens = np.concatenate([tokens[best // vocab], (best % vocab)[:, None]], axis=1)
        sums = totals[best]
        over = tokens[:, -1] == end
        done += [(s / tokens.shape[1] ** alpha, t) for s, t in zip(sums[over], tokens[over], strict=True)]
        tokens, sums = tokens[~over], sums[~over]
        if not len(sums):
            break
    done += [(s / max_new**alpha, t) for s, t in zip(sums, tokens, strict=True)]
    score, text = max(done, key=lambda one: one[0])
    return np.pad(text, (0, max_new - len(text)), constant_values=end), score


def beam_torch(table, start, end, width, max_new, alpha):
    beams, pool = [(0.0, [])], []
    for step in range(1, max_new + 1):
        sums = torch.stack([total + table[text[-1] if text else start] for total, text in beams])
        order = sums.flatten().sort(descending=True, stable=True).indices[:width]
        grown = []
        for at in order.tolist():
            parent, token = divmod(at, len(table))
            text = [*beams[parent][1], token]
            hypothesis = (float(sums[parent, token]), text)
            (pool if token == end or step == max_new else grown).append((*hypothesis, len(text)))
        beams = [(total, text) for total, text, _ in grown]
        if not beams:
            break
    scores = torch.tensor([total / length**alpha for total, _, length in pool], dtype=torch.float64)
    best = int(scores.argmax())
    text = torch.full((max_new,), end)
    text[: pool[best][2]] = torch.tensor(pool[best][1])
    return text, scores[best]


def beam_heap(table, start, end, width, max_new, alpha):
    """heapq.nsmallest is stable: it is documented to equal sorted(...)[:n]."""
    rows = table.tolist()
    beam, best_score, best_text = {(): 0.0}, -math.inf, None

    def offer(text, total):
        nonlocal best_score, best_text
        score = total / math.pow(len(text), alpha)
        if best_text is None or score > best_score:
            best_score, best_text = score, text

    for _ in range(max_new):
        every = (
            ((*text, j), total + gain) for text, total in beam.items() for j, gain in enumerate(_row(rows, text, start))
        )
        beam = dict(heapq.nsmallest(width, every, key=lambda item: -item[1]))
        for text in [text for text in beam if text[-1] == end]:
            offer(text, beam.pop(text))
    for text, total in beam.items():
        offer(text, total)
    return np.array([*best_text, *[end] * (max_new - len(best_text))]), best_score


def _row(rows, text, start):
    return rows[text[-1]] if text else rows[start]


# --- CachedAttention


class CachedSDPA:
    """torch's own attention, with a mask of ours; the cache is a tensor that grows."""

    def __init__(self, w_query, w_key, w_value, positions, heads):
        self.w = w_query, w_key, w_value
        self.positions, self.heads = positions, heads
        self.d_head = w_query.shape[1] // heads
        self.key = w_key.new_zeros(w_key.shape[1] // self.d_head, 0, self.d_head)
        self.value = torch.clone(self.key)

    def __call__(self, x):
        new, past = x.shape[0], self.key.shape[1]
        x = x + self.positions[past:][:new]
        query, key, value = (F.linear(x, w.T).unflatten(1, (-1, self.d_head)).transpose(0, 1) for w in self.w)
        self.key, self.value = torch.cat([self.key, key], 1), torch.cat([self.value, value], 1)
        seen = torch.ones(new, past + new, dtype=torch.bool).tril(past)
        out = F.scaled_dot_product_attention(
            query[None], self.key[None], self.value[None], attn_mask=seen, enable_gqa=True
        )
        return out[0].transpose(0, 1).flatten(1)


class CachedInABuffer:
    """Set aside as much as there are positions, and fill it up; key and value are views of what is filled."""

    def __init__(self, w_query, w_key, w_value, positions, heads):
        self.w_query, self.w_key, self.w_value, self.positions = w_query, w_key, w_value, positions
        self.heads, self.d = heads, w_query.shape[1] // heads
        self.length = 0
        self.buffer = np.zeros((2, w_key.shape[1] // self.d, len(positions), self.d), dtype=w_key.dtype)

    key = property(lambda self: self.buffer[0, :, : self.length])
    value = property(lambda self: self.buffer[1, :, : self.length])

    def __call__(self, x):
        n, start, stop = len(x), self.length, self.length + len(x)
        x = x + self.positions[start:stop]
        shared = self.buffer.shape[1]
        for slot, w in zip(self.buffer, (self.w_key, self.w_value), strict=True):
            slot[:, start:stop] = np.einsum("nm,mhd->hnd", x, w.reshape(-1, shared, self.d))
        self.length = stop
        # (shared heads, those that share one): query heads side by side share
        query = (x @ self.w_query).reshape(n, shared, self.heads // shared, self.d)
        scores = np.einsum("nsgd,sld->sgnl", query, self.key) * self.d**-0.5
        late = np.arange(stop)[None] > np.arange(start, stop)[:, None]
        scores[..., late] = -1e30
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out = np.einsum("sgnl,sld->nsgd", scores / scores.sum(-1, keepdims=True), self.value)
        return out.reshape(n, -1)


class CachedLists:
    """A list of pieces, joined when they are needed, and a loop over heads."""

    def __init__(self, w_query, w_key, w_value, positions, heads):
        self.weights, self.positions, self.heads = (w_query, w_key, w_value), positions, heads
        self.d_head = w_query.shape[1] // heads
        self.pieces, self.seen = [], 0

    def joined(self, which):
        rows = torch.cat([piece[which] for piece in self.pieces])  # (length, kv_heads * d_head)
        return rows.view(self.seen, -1, self.d_head).permute(1, 0, 2)

    @property
    def key(self):
        return self.joined(0)

    @property
    def value(self):
        return self.joined(1)

    def __call__(self, x):
        x = x + self.positions[torch.arange(self.seen, self.seen + len(x))]
        query, key, value = (x @ w for w in self.weights)
        self.pieces.append((key, value))
        self.seen += len(x)
        keys, values = self.key, self.value
        hidden = torch.ones(len(x), self.seen).triu(self.seen - len(x) + 1).bool()
        outs = []
        for head, q in enumerate(query.split(self.d_head, dim=1)):
            shared = head * len(keys) // self.heads
            scores = (q @ keys[shared].T / math.sqrt(self.d_head)).masked_fill(hidden, -torch.inf)
            outs.append(scores.softmax(-1) @ values[shared])
        return torch.cat(outs, dim=-1)


class CachedModule(nn.Module):
    """As a module, with a loop over the new rows: each sees the keys up to itself, and no mask is needed."""

    def __init__(self, w_query, w_key, w_value, positions, heads):
        super().__init__()
        self.heads, self.d_head = heads, w_query.shape[1] // heads
        for name, weight in {"q": w_query, "k": w_key, "v": w_value, "positions": positions}.items():
            self.register_buffer(name, weight)
        empty = w_key.new_empty(w_key.shape[1] // self.d_head, 0, self.d_head)
        self.register_buffer("key", empty)
        self.register_buffer("value", empty.clone())

    def forward(self, x):
        past = self.key.size(1)
        rows = x + self.positions.narrow(0, past, len(x))
        q, k, v = (
            torch.einsum("nm,mc->nc", rows, w).reshape(len(x), -1, self.d_head).movedim(1, 0)
            for w in (self.q, self.k, self.v)
        )
        self.key, self.value = torch.hstack([self.key, k]), torch.hstack([self.value, v])
        group = self.heads // len(self.key)
        outs = []
        for i in range(len(x)):
            keys, values = (kept[:, : past + i + 1].repeat_interleave(group, 0) for kept in (self.key, self.value))
            weights = torch.softmax(keys @ q[:, i, :, None] / self.d_head**0.5, dim=1)
            outs.append((weights * values).sum(1).flatten())
        return torch.stack(outs)


RIGHT: dict[str, list] = {
    "greedy": [greedy_torch, greedy_one_by_one, greedy_with_a_table_of_steps, greedy_stops_early],
    "filtered": [filtered_torch, filtered_with_minus_infinity, filtered_row_by_row, filtered_numpy_inverse],
    "draw": [draw_searchsorted, draw_argmax, draw_bisect, draw_by_subtraction],
    "beam_search": [beam_numpy, beam_torch, beam_heap],
    "CachedAttention": [CachedSDPA, CachedInABuffer, CachedLists, CachedModule],
}


# --- what the references must agree with


class Bigrams:
    """A table of log-probabilities as a language model of attnkit's."""

    def __init__(self, table):
        self.table = table

    def __call__(self, ids, *, mask=None, positions=None, cache=None, last=False):
        logits = self.table[ids]
        return logits[:, -1:] if last else logits

    def new_cache(self, kind="dynamic", **options):
        raise NotImplementedError("it reads one token: there is nothing to keep")


def greedy_oracle(table, start, end, max_new):
    if not len(start):
        return start.new_zeros(0, max_new)
    found = generate(Bigrams(table), start[:, None], max_new=max_new, eos=int(end), cache=None)
    return torch.tensor([[*tokens, *[end] * (max_new - len(tokens))] for tokens in found.tokens])


def filtered_oracle(logits, temperature, k):
    """attnkit's filters. They keep all that tie with the last one, so ties are broken a little beforehand."""
    if not logits.numel():
        return logits
    order = torch.argsort(logits, dim=-1, descending=True, stable=True)
    lower = torch.zeros_like(logits).scatter(
        -1, order, torch.arange(logits.shape[-1]).double().expand(logits.shape).clone()
    )
    filtered = top_p(
        top_k(attnkit_temperature(logits - 1e-12 * lower.where(logits > -torch.inf, 0), temperature), k), p
    )
    return logits.where(filtered > -torch.inf, -torch.inf).div(temperature).softmax(-1)


def draw_oracle(weights, u):
    flat = weights.reshape(-1, weights.shape[-1])
    return attnkit_draw(flat.log(), u.reshape(-1)).reshape(u.shape)


class CachedOracle:
    """attnkit's cache and attention, which take care of the mask and of shared heads."""

    def __init__(self, w_query, w_key, w_value, positions, heads):
        self.w, self.positions, self.heads = (w_query, w_key, w_value), positions, heads
        self.d_head = w_query.shape[1] // heads
        self.cache = KVCache(layers=1)

    def __call__(self, x):
        at = torch.arange(self.cache.length, self.cache.length + len(x))
        x = x + self.positions[at]
        query, key, value = ((x @ w).unflatten(1, (-1, self.d_head)).transpose(0, 1)[None] for w in self.w)
        self.kept = self.cache[0].self.append(key, value, at[None])
        key, value, _ = self.kept
        out = attention(query, key, value, mask=Causal("lower_right"))
        return out[0].transpose(0, 1).flatten(1)

    key = property(lambda self: self.kept[0][0])
    value = property(lambda self: self.kept[1][0])


def beam_by_brute_force(table, start, end, width, max_new, alpha):
    """The beam is a subset of all texts of a length: list them all, and keep those whose beginnings were kept."""
    table = table.tolist()
    kept, pool = [((), 0.0)], []
    for length in range(1, max_new + 1):
        alive = {text: place for place, (text, _) in enumerate(kept)}
        texts = [text for text in itertools.product(range(len(table)), repeat=length) if text[:-1] in alive]
        sums = {
            text: sum(itertools.starmap(lambda a, b: table[a][b], itertools.pairwise((start, *text)))) for text in texts
        }
        texts.sort(key=lambda text: (-sums[text], alive[text[:-1]], text[-1]))
        best = [(text, sums[text]) for text in texts[:width]]
        pool += [one for one in best if one[0][-1] == end or length == max_new]
        kept = [one for one in best if one[0][-1] != end]
        if not kept:
            break
    text, total = max(pool, key=lambda one: one[1] / len(one[0]) ** alpha)
    return torch.tensor([*text, *[end] * (max_new - len(text))]), total / len(text) ** alpha


ORACLES: dict[str, Callable] = {
    "greedy": greedy_oracle,
    "filtered": filtered_oracle,
    "draw": draw_oracle,
    "beam_search": beam_by_brute_force,
    "CachedAttention": CachedOracle,
}

FORBIDDEN: dict[str, str] = {
    "greedy": (
        "import attnkit.generation\n\ndef greedy(table, start, end, max_new):\n"
        "    return attnkit.generation.generate(table, start[:, None], max_new=max_new, eos=end)\n"
    ),
    "filtered": (
        "from attnkit.generation.filters import top_k, top_p\n\ndef filtered(logits, temperature, k):\n"
        "    return top_p(top_k(logits / temperature, k), p).softmax(-1)\n"
    ),
    "draw": ("import torch\n\ndef draw(weights, u):\n    return torch.multinomial(weights, 1)[..., 0]\n"),
    "beam_search": (
        "from attnkit.generation import Beam\n\ndef beam_search(table, start, end, width, max_new, alpha):\n"
        "    return Beam(width, length_penalty=alpha).decode(table, max_new)\n"
    ),
    "CachedAttention": (
        "from attnkit.nn import KVCache\n\nclass CachedAttention:\n"
        "    def __init__(self, w_query, w_key, w_value, positions, heads):\n"
        "        self.cache = KVCache(layers=1)\n"
        "    def __call__(self, x):\n        return self.cache[0].self.append(x, x, x)\n"
    ),
}

# --- mistakes as people write them


def greedy_loops_on(table, start, end, max_new):
    tokens = []
    for _ in range(max_new):
        start = table[start].argmax(dim=-1)
        tokens.append(start)
    return torch.stack(tokens, dim=1)


def greedy_breaks(table, start, end, max_new):
    out = torch.full((len(start), max_new), end)
    for step in range(max_new):
        start = table[start].argmax(dim=-1)
        out[:, step] = start
        if (start == end).any():
            break
    return out


def greedy_by_sorting(table, start, end, max_new):
    out = np.full((len(start), max_new), end)
    over = np.zeros(len(start), dtype=bool)
    for step in range(max_new):
        start = np.where(over, end, np.argsort(table[start], axis=-1, kind="stable")[:, -1])
        out[:, step] = start
        over |= start == end
    return out


def greedy_with_the_values(table, start, end, max_new):
    """max gives values and indices."""
    return torch.stack([table[start].max(-1).values] * max_new, 1)


def filtered_masked_fill(logits, temperature, k):
    z = logits / temperature
    z.masked_fill(z < z.topk(min(k, z.shape[-1])).values[..., -1:], -torch.inf)
    values, order = z.sort(descending=True, stable=True)
    best = values.softmax(-1)
    best[best.cumsum(-1) - best >= p] = 0
    return torch.zeros_like(z).scatter(-1, order, best / best.sum(-1, keepdim=True))


def filtered_crossing(logits, temperature, k):
    values, order = (logits / temperature).sort(descending=True, stable=True)
    best = values[..., :k].softmax(-1)
    best = best * (best.cumsum(-1) < p)
    return torch.zeros_like(logits).scatter(-1, order[..., :k], best / best.sum(-1, keepdim=True))


def filtered_unsorted(logits, temperature, k):
    z = torch.softmax(logits / temperature, -1)
    values = z.sort(descending=True, stable=True).values
    values[..., k:] = 0
    values = values / values.sum(-1, keepdim=True)
    values = values * (values.cumsum(-1) - values < p)
    return values / values.sum(-1, keepdim=True)


def filtered_minus(logits, temperature, k):
    """Filters of logits, which forgets that a softmax is asked for."""
    return logits / temperature - 1.0


def draw_left(weights, u):
    heights = weights.cumsum(-1)
    return torch.searchsorted(heights, u[..., None] * heights[..., -1:])[..., 0]


def draw_numpy_unscaled(weights, u):
    return np.argmax(np.cumsum(weights, -1) > u[..., None], axis=-1)


def draw_softmax(weights, u):
    shares = torch.softmax(weights, -1).cumsum(-1)
    return (shares <= u[..., None]).sum(-1)


def draw_past_the_end(weights, u):
    return (weights.cumsum(-1) >= 0).sum(-1)


def beam_greedy(table, start, end, width, max_new, alpha):
    text, total, last = [], 0.0, start
    while len(text) < max_new and last != end:
        last = int(table[last].argmax())
        total += float(table[text[-1] if text else start][last])
        text.append(last)
    return np.array(text + [end] * (max_new - len(text))), total / len(text) ** alpha


def beam_variant(stop_early=False, penalty=True, extend_ended=False):
    """A beam with one thing wrong."""

    def search(table, start, end, width, max_new, alpha):
        beams, pool = [([], 0.0)], []
        while beams and (not beams[0][0] or len(beams[0][0]) < max_new):
            grown = [
                ([*text, j], total + float(gain))
                for text, total in beams
                for j, gain in enumerate(table[text[-1]] if text else table[start])
            ]
            grown.sort(key=lambda one: one[1], reverse=True)
            beams = []
            for text, total in grown[:width]:
                over = text[-1] == end and not extend_ended
                (pool if over else beams).append((text, total))
            if pool and stop_early:
                beams = []
        pool += beams
        scores = [total / len(text) ** (alpha if penalty else 0) for text, total in pool]
        text = pool[int(np.argmax(scores))][0]
        return np.array(text + [end] * (max_new - len(text))), max(scores)

    return search


class CachedAtZero(CachedSDPA):
    """positions[:new], as in training."""

    def __call__(self, x):
        past = self.key.shape[1]
        kept, self.positions = self.positions, torch.cat([torch.zeros(past, x.shape[1]), self.positions])
        out = super().__call__(x)
        self.positions = kept
        return out


class CachedIsCausal(CachedSDPA):
    """is_causal=True where there are more keys than queries."""

    def __call__(self, x):
        past = self.key.shape[1]
        x = x + self.positions[past : past + len(x)]
        query, key, value = ((x @ w).reshape(len(x), -1, self.d_head).transpose(0, 1) for w in self.w)
        self.key, self.value = torch.cat([self.key, key], 1), torch.cat([self.value, value], 1)
        go = F.scaled_dot_product_attention
        out = go(query[None], self.key[None], self.value[None], is_causal=True, enable_gqa=True)
        return out[0].transpose(0, 1).reshape(len(x), -1)


class CachedRepeated(CachedLists):
    """What is kept is repeated already."""

    def joined(self, which):
        kept = super().joined(which)
        return kept.repeat_interleave(self.heads // len(kept), dim=0)


class ReadsAgain(CachedSDPA):
    """Keeps the rows, makes the keys of all of them in each call, and is right."""

    x = None

    def __call__(self, x):
        self.x = x if self.x is None else torch.cat([self.x, x])
        self.key, self.value = self.key[:, :0], self.value[:, :0]
        return super().__call__(self.x)[-len(x) :]


class ProjectsAgain(CachedLists):
    """Computes one row of attention only, and the keys and values of all rows."""

    rows = None

    def __call__(self, x):
        x = x + self.positions[self.seen : self.seen + len(x)]
        self.rows = x if self.rows is None else torch.cat([self.rows, x])
        self.pieces = [tuple(self.rows @ w for w in self.weights[1:])]
        self.seen = len(self.rows)
        query = (x @ self.weights[0]).reshape(len(x), self.heads, -1).transpose(0, 1)
        mask = torch.ones(len(x), self.seen, dtype=torch.bool).tril(self.seen - len(x))
        out = F.scaled_dot_product_attention(
            query[None], self.key[None], self.value[None], attn_mask=mask, enable_gqa=True
        )
        return out[0].transpose(0, 1).reshape(len(x), -1)


WRONG: list[tuple[str, Callable, str]] = [
    ("greedy", greedy_loops_on, "a text that has ended goes on"),
    ("greedy", greedy_breaks, "all texts stop when the first one ends"),
    ("greedy", greedy_by_sorting, "of equally likely tokens you took the last"),
    ("greedy", greedy_with_the_values, "a token that the vocabulary does not have"),
    ("filtered", filtered_masked_fill, "top-k does nothing"),
    ("filtered", filtered_crossing, "the token that crosses p is dropped, even if it is the first"),
    ("filtered", filtered_unsorted, "the probabilities are still sorted"),
    ("filtered", filtered_minus, "a row does not sum to 1"),
    ("draw", draw_left, "a number on a boundary goes to the token below"),
    ("draw", draw_numpy_unscaled, "the weights are taken to sum to 1"),
    ("draw", draw_softmax, "the weights went through a softmax"),
    ("draw", draw_past_the_end, "a token that the vocabulary does not have"),
    ("beam_search", beam_greedy, "only one hypothesis is kept"),
    ("beam_search", beam_variant(stop_early=True), "as soon as one hypothesis has ended"),
    ("beam_search", beam_variant(penalty=False), "the length penalty is not used"),
    ("beam_search", beam_variant(extend_ended=True), "a hypothesis that has ended is extended"),
    ("CachedAttention", CachedAtZero, "positions start again at 0"),
    ("CachedAttention", CachedIsCausal, "aligned to the upper left corner"),
    ("CachedAttention", CachedRepeated, "repeated before they are kept"),
    ("CachedAttention", ReadsAgain, "The time it takes grows faster than length^0.45"),
    ("CachedAttention", ProjectsAgain, "The time it takes grows faster than length^0.45"),
]
