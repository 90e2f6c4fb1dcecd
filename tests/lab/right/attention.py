"""Answers to the attention lab: right ones, each in another style and none like the reference, and wrong ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

# --- softmax


def softmax_numpy(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_torch(x):
    return torch.softmax(x, dim=-1)


def softmax_torch_by_hand(x):
    e = (x - x.amax(dim=-1, keepdim=True)).exp()
    return e / e.sum(dim=-1, keepdim=True)


def softmax_log_sum_exp(x):
    top = x.max(axis=-1)[..., None]
    return np.exp(x - (top + np.log(np.exp(x - top).sum(-1))[..., None]))


def softmax_loops(x):
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        row = [float(v) for v in x[place]]
        top = max(row)
        total = math.fsum(math.exp(v - top) for v in row)
        for i, v in enumerate(row):
            out[(*place, i)] = math.exp(v - top) / total
    return out


def softmax_double(x):
    return softmax_numpy(np.asarray(x, dtype=np.float64))


def softmax_single(x):
    return torch.softmax(x.float(), -1).to(torch.float32)


# --- attention


def attention_numpy(query, key, value):
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(key.shape[-1])
    return softmax_numpy(scores) @ value


def attention_einsum(query, key, value):
    scores = np.einsum("...id,...jd->...ij", query * query.shape[-1] ** -0.5, key)
    return np.einsum("...ij,...jv->...iv", softmax_numpy(scores), value)


def attention_torch(query, key, value):
    return ((query @ key.mT) / query.size(-1) ** 0.5).softmax(-1) @ value


def attention_sdpa(query, key, value):
    return F.scaled_dot_product_attention(query, key, value)


def attention_loops(query, key, value):
    out = np.zeros((*query.shape[:-1], value.shape[-1]))
    for place in np.ndindex(query.shape[:-1]):
        keys, values = key[place[:-1]], value[place[:-1]]
        scores = [sum(float(a) * float(b) for a, b in zip(query[place], k, strict=True)) for k in keys]
        weights = softmax_loops(np.array(scores) / math.sqrt(query.shape[-1]))
        for weight, row in zip(weights, values, strict=True):
            out[place] += weight * row
    return out


def attention_split_scale(query, key, value):
    root = key.shape[-1] ** 0.25
    return torch.softmax((query / root) @ (key / root).transpose(-1, -2), dim=-1).matmul(value)


# --- masked attention


def masked_numpy(query, key, value, mask):
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(key.shape[-1])
    scores = np.where(mask, scores, -1e30)
    weights = softmax_numpy(scores) * np.any(mask, axis=-1, keepdims=True)
    return weights @ value


def masked_fill_and_zero(query, key, value, mask):
    scores = (query @ key.transpose(-2, -1)) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
    return torch.nan_to_num(weights, 0.0) @ value


def masked_sdpa(query, key, value, mask):
    empty = ~mask.any(-1, keepdim=True)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask | empty).masked_fill(empty, 0.0)


def masked_additive(query, key, value, mask):
    bias = torch.where(mask, 0.0, -1e9)
    return attention_torch_with_bias(query, key, value, bias) * mask.any(-1, keepdim=True)


def attention_torch_with_bias(query, key, value, bias):
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]) + bias, -1) @ value


def masked_loops(query, key, value, mask):
    out = np.zeros((*query.shape[:-1], value.shape[-1]))
    mask = np.broadcast_to(mask, (*query.shape[:-1], key.shape[-2]))
    for place in np.ndindex(query.shape[:-1]):
        seen = np.flatnonzero(mask[place])
        if len(seen):
            keys, values = key[place[:-1]][seen], value[place[:-1]][seen]
            out[place] = attention_loops(query[place][None], keys, values)[0]
    return out


RIGHT: dict[str, list[Callable]] = {
    "softmax": [
        softmax_numpy,
        softmax_torch,
        softmax_torch_by_hand,
        softmax_log_sum_exp,
        softmax_loops,
        softmax_double,
        softmax_single,
    ],
    "attention": [
        attention_numpy,
        attention_einsum,
        attention_torch,
        attention_sdpa,
        attention_loops,
        attention_split_scale,
    ],
    "masked_attention": [masked_numpy, masked_fill_and_zero, masked_sdpa, masked_additive, masked_loops],
}


# --- the same in double precision, by somebody else


def masked_oracle(query, key, value, mask):
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return torch.nan_to_num(scores.masked_fill(~mask, -torch.inf).softmax(-1)) @ value


ORACLES: dict[str, Callable] = {
    "softmax": lambda x: torch.softmax(x, -1),
    "attention": F.scaled_dot_product_attention,
    "masked_attention": masked_oracle,
}

# --- what the questions ask for, called instead

FORBIDDEN: dict[str, str] = {
    "softmax": "import torch\n\ndef softmax(x):\n    return torch.as_tensor(x).softmax(dim=-1)\n",
    "attention": (
        "from torch.nn import functional as F\n\ndef attention(query, key, value):\n"
        "    return F.scaled_dot_product_attention(query, key, value)\n"
    ),
    "masked_attention": (
        "import torch\n\ndef masked_attention(query, key, value, mask):\n"
        "    go = torch.nn.functional.scaled_dot_product_attention\n"
        "    return go(query, key, value, attn_mask=mask).nan_to_num()\n"
    ),
}

# --- mistakes as people write them


def scores_of(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


WRONG: list[tuple[str, Callable, str]] = [
    ("softmax", lambda x: torch.softmax(x, 0), "normalised over the first axis"),
    ("softmax", lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True), "maximum is not subtracted"),
    ("softmax", lambda x: torch.log_softmax(x, -1), "logarithm"),
    ("softmax", lambda x: 1 / (2 + x**2), "a row does not sum to 1"),  # in a new way
    (
        "softmax",
        lambda x: np.exp(x) / np.exp(x).sum(axis=0, keepdims=True),
        "One thing at least: it looks as if you normalised over the first axis",
    ),
    ("attention", lambda q, k, v: (q @ k.mT).softmax(-1) @ v, "not scaled"),
    ("attention", lambda q, k, v: (q @ k.mT / q.shape[-1]).softmax(-1) @ v, "divided by d_k"),
    ("attention", lambda q, k, v: scores_of(q, k).softmax(-2) @ v, "over the queries"),
    ("attention", lambda q, k, v: torch.softmax(q @ k.mT / k.shape[-2] ** 0.5, -1) @ v, "number of keys"),
    ("attention", lambda q, k, v: torch.softmax(scores_of(q, k) @ v, -1), "output instead"),
    (
        "masked_attention",
        lambda q, k, v, m: scores_of(q, k).masked_fill(m == 0, -1e9).softmax(-1) @ v,
        "averages all values",
    ),
    ("masked_attention", lambda q, k, v, m: scores_of(q, k).masked_fill(~m, -torch.inf).softmax(-1) @ v, "gives nan"),
    (
        "masked_attention",
        lambda q, k, v, m: scores_of(q, k).masked_fill(m, -torch.inf).softmax(-1).nan_to_num() @ v,
        "wrong way round",
    ),
    (
        "masked_attention",
        lambda q, k, v, m: scores_of(q, k).masked_fill(m, -torch.inf).softmax(-1) @ v,
        "where the mask is True",
    ),
    (
        "masked_attention",
        lambda q, k, v, m: (scores_of(q, k) - 1e9 * m).softmax(-1) @ v,
        "where the mask is True, with a large negative number",
    ),
    (  # no scale and no care for rows without keys: the ordinary cases show the first
        "masked_attention",
        lambda q, k, v, m: (q @ k.mT).masked_fill(~m, -torch.inf).softmax(-1) @ v,
        "not scaled",
    ),
    ("masked_attention", lambda q, k, v, m: (scores_of(q, k).softmax(-1) * m) @ v, "not renormalised"),
    ("masked_attention", lambda q, k, v, m: q @ k.mT @ v * 100, "lies outside the values"),
]
