"""Answers to the attention lab, right in several styles and wrong in ways that students are, as notebook text.

Written by hand and independent of the lab's own references.
"""

from __future__ import annotations

RIGHT_NUMPY = {
    "softmax": """
import numpy as np

def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
""",
    "attention": """
import numpy as np

def attention(query, key, value):
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])
    return softmax(scores) @ value
""",
    "masked_attention": """
import numpy as np

def masked_attention(query, key, value, mask):
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])
    anything = mask.any(axis=-1, keepdims=True)
    weights = softmax(np.where(mask | ~anything, scores, -np.inf))
    return np.where(anything, weights @ value, 0.0)
""",
}

RIGHT_TORCH = {
    "softmax": """
import torch

def softmax(x):
    x = x - x.amax(dim=-1, keepdim=True)
    return x.exp() / x.exp().sum(dim=-1, keepdim=True)
""",
    "attention": """
import torch

def attention(query, key, value):
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ value
""",
    "masked_attention": """
import torch

def masked_attention(query, key, value, mask):
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    anything = mask.any(dim=-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~mask & anything, float("-inf")), dim=-1)
    return torch.where(anything, weights @ value, torch.zeros(()))
""",
}

RIGHT_EINSUM = {
    "softmax": """
from torch import Tensor
import torch as t

def softmax(x: Tensor) -> Tensor:
    return (x - t.logsumexp(x, -1, keepdim=True)).exp()
""",
    "attention": """
from math import sqrt

def attention(query, key, value):
    scores = t.einsum("...id,...jd->...ij", query, key) / sqrt(key.shape[-1])
    return t.einsum("...ij,...jv->...iv", softmax(scores), value)
""",
    "masked_attention": """
def masked_attention(query, key, value, mask):
    scores = t.einsum("...id,...jd->...ij", query, key) / sqrt(key.shape[-1])
    weights = t.softmax(scores.masked_fill(~mask, float("-inf")), -1).nan_to_num(0.0)
    return t.einsum("...ij,...jv->...iv", weights, value)
""",
}

RIGHT_LOOPS = {
    "softmax": """
import math
import numpy as np

def one_row(row):
    top = max(row)
    parts = [math.exp(v - top) for v in row]
    return [p / sum(parts) for p in parts]

def softmax(x):
    x = np.asarray(x)
    flat = x.reshape(-1, x.shape[-1])
    out = np.zeros(flat.shape)
    for i in range(flat.shape[0]):
        out[i] = one_row(list(flat[i]))
    return out.reshape(x.shape)
""",
    "attention": """
def attention(query, key, value):
    query, key, value = (np.asarray(a, dtype=np.float64) for a in (query, key, value))
    out = np.zeros(query.shape[:-1] + value.shape[-1:])
    for place in np.ndindex(*query.shape[:-2]):
        for i in range(query.shape[-2]):
            row = [float(query[place][i] @ k) / math.sqrt(query.shape[-1]) for k in key[place]]
            for weight, v in zip(one_row(row), value[place]):
                out[place][i] += weight * v
    return out
""",
    "masked_attention": """
def masked_attention(query, key, value, mask):
    query, key, value = (np.asarray(a, dtype=np.float64) for a in (query, key, value))
    mask = np.broadcast_to(np.asarray(mask), query.shape[:-1] + key.shape[-2:-1])
    out = np.zeros(query.shape[:-1] + value.shape[-1:])
    for place in np.ndindex(*query.shape[:-2]):
        for i in range(query.shape[-2]):
            seen = [j for j in range(key.shape[-2]) if mask[place][i][j]]
            if not seen:
                continue
            row = [float(query[place][i] @ key[place][j]) / math.sqrt(query.shape[-1]) for j in seen]
            for weight, j in zip(one_row(row), seen):
                out[place][i] += weight * value[place][j]
    return out
""",
}

# name: (question, source, points of that question)
MISTAKES = {
    "no maximum subtracted": (
        "softmax",
        "import numpy as np\ndef softmax(x):\n    e = np.exp(x)\n    return e / e.sum(axis=-1, keepdims=True)\n",
        2,  # right on ordinary inputs and shapes, overflows on the extreme ones
    ),
    "minimum subtracted": (
        "softmax",
        "import torch\ndef softmax(x):\n    e = torch.exp(x - x.amin(-1, keepdim=True))\n"
        "    return e / e.sum(-1, keepdim=True)\n",
        2,
    ),
    "wrong axis": (
        "softmax",
        "import torch\ndef softmax(x):\n    return torch.exp(x - torch.logsumexp(x, 0))\n",
        0,
    ),
    "no scaling": (
        "attention",
        "import torch\ndef attention(query, key, value):\n"
        "    return torch.softmax(query @ key.transpose(-1, -2), -1) @ value\n",
        0,
    ),
    "values never used": (
        "attention",
        "import torch\ndef attention(query, key, value):\n"
        "    return torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, -1)\n",
        0,
    ),
    "masked rows give nan": (
        "masked_attention",
        "import torch\ndef masked_attention(query, key, value, mask):\n"
        "    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5\n"
        "    return torch.softmax(scores.masked_fill(~mask, float('-inf')), -1) @ value\n",
        3,
    ),
    "masked rows average": (
        "masked_attention",
        "import torch\ndef masked_attention(query, key, value, mask):\n"
        "    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5\n"
        "    return torch.softmax(scores.masked_fill(~mask, -1e9), -1) @ value\n",
        3,
    ),
    "mask the wrong way round": (
        "masked_attention",
        "import torch\ndef masked_attention(query, key, value, mask):\n"
        "    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5\n"
        "    scores = scores.masked_fill(mask, float('-inf'))\n"
        "    return torch.softmax(scores, -1).nan_to_num(0.0) @ value\n",
        0,
    ),
}
