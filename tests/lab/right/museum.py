"""Answers to the debugging lab: tests and mended functions, each in another style, and wrong ones of both kinds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from attnkit import attention
from attnkit.generation.filters import top_p as filter_top_p
from attnkit.masks import Causal, Dense
from attnkit.positions import Rotary


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(got, want, says: str = "the numbers differ") -> None:
    """Works for arrays and tensors; a shape that differs is a difference."""
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert got.shape == want.shape, f"{got.shape} is not {want.shape}"
    assert np.abs(got - want).max() < 1e-3, says


# --- 1. scaled_heads


def scaled_by_sdpa(implementation):
    query, key, value = randn(3, 1, 2), randn(3, 4, 2, seed=1), randn(3, 4, 1, seed=2)
    want = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(implementation(query, key, value), want, atol=1e-4, rtol=0)


def scaled_by_numbers(implementation):
    """Weights spelled out by values that are rows of the identity."""
    query, key = [[[2.0, -1.0, 0.5]], [[1.0, 1.0, 3.0]]], [[[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]] * 2
    out = implementation(np.array(query), np.array(key), np.array([np.eye(2)] * 2))
    for head, ((q,), keys) in enumerate(zip(query, key, strict=True)):
        powers = [math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(3)) for k in keys]
        for j, power in enumerate(powers):
            if not math.isclose(float(np.asarray(out).reshape(-1)[2 * head + j]), power / sum(powers), abs_tol=1e-3):
                raise AssertionError(f"weight {j} of head {head} is wrong")


def scaled_by_laws(implementation):
    """A head is alone, keys may stand twice, and one case by hand."""
    query, key, value = randn(2, 2, 3).numpy(), randn(2, 3, 3, seed=1).numpy(), randn(2, 3, 1, seed=2).numpy()
    out = implementation(query, key, value)
    close(implementation(query[:1], key[:1], value[:1]), np.asarray(out)[:1], "a head hears of another")
    twice = [np.repeat(one, 2, axis=1) for one in (key, value)]
    close(implementation(query, *twice), out, "keys that stand twice change the output")
    by_hand = implementation(np.full((1, 1, 4), 1.0), np.array([[[np.log(9)] + [0.0] * 3, [0.0] * 4]]), np.eye(2)[None])
    close(by_hand, [[[0.75, 0.25]]], "3/4 and 1/4")


def scaled_heads_einsum(query, key, value):
    scores = np.einsum("hid,hjd->hij", query, key) * query.shape[-1] ** -0.5
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hij,hjv->hiv", powers / powers.sum(-1, keepdims=True), value)


def scaled_heads_torch(query, key, value):
    return torch.softmax((query / query.size(-1) ** 0.5) @ key.mT, dim=-1) @ value


def scaled_heads_one_by_one(query, key, value):
    heads = [torch.softmax(q @ k.T * len(k.T) ** -0.5, 1) @ v for q, k, v in zip(query, key, value, strict=True)]
    return torch.stack(heads)


# --- 2. layer_norm


def norm_by_torch(implementation):
    x, gain, bias = randn(3, 4), randn(4, seed=1), randn(4, seed=2)
    want = F.layer_norm(x, (4,), gain, bias, eps=0.7)
    torch.testing.assert_close(implementation(x, gain, bias, 0.7), want, atol=1e-4, rtol=0)


def norm_by_hand(implementation):
    """3, 7 has mean 5 and variance 4; with eps = 5 the root is 3. 1, 1 becomes 0."""
    out = implementation(np.array([[3.0, 7.0], [1.0, 1.0]]), np.array([3.0, 6.0]), np.array([1.0, -1.0]), 5.0)
    np.testing.assert_allclose(out, [[-1.0, 3.0], [1.0, -1.0]], atol=1e-3)


def norm_by_laws(implementation):
    """What is left after the bias and the gain has the mean 0 and the variance v / (v + eps)."""
    x, gain, bias, eps = np.array([[1.0, 4, 2], [0, 0, 9]]), np.array([2.0, -1, 3]), np.array([1.0, 2, -4]), 2.5
    plain = (implementation(x, gain, bias, eps) - bias) / gain
    variance = x.var(axis=1)
    close(plain.mean(axis=-1), np.zeros(2), "the mean")
    close((plain**2).mean(axis=-1), variance / (variance + eps), "the variance")


def layer_norm_var(x, gain, bias, eps):
    return (x - np.mean(x, -1, keepdims=True)) * (np.var(x, -1, keepdims=True) + eps) ** -0.5 * gain + bias


def layer_norm_torch(x, gain, bias, eps):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return torch.addcmul(bias, (x - mean) * torch.rsqrt(variance + eps), gain)


def layer_norm_loops(x, gain, bias, eps):
    flat = x.reshape(-1, x.shape[-1])
    out = [gain * (row - row.mean()) / math.sqrt(((row - row.mean()) ** 2).mean() + eps) + bias for row in flat]
    return np.array(out).reshape(x.shape)


# --- 3. masked_attention

MASK = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 0]]).bool()


def masked_by_sdpa(implementation):
    query, key, value = randn(3, 2), randn(3, 2, seed=1), randn(3, 2, seed=2) + 3
    want = F.scaled_dot_product_attention(query[None], key[None], value[None], MASK | ~MASK.any(-1, keepdim=True))[0]
    want = want * MASK.any(-1, keepdim=True)
    torch.testing.assert_close(implementation(query, key, value, MASK), want, atol=1e-4, rtol=0)


def masked_by_influence(implementation):
    """Nobody hears of what is hidden from it; a query with two equal keys takes their mean."""
    query, key, mask = np.zeros((2, 1)), np.zeros((3, 1)), np.array([[True, True, False], [False] * 3])
    for hidden in (100.0, -7.0):
        out = implementation(query, key, np.array([[2.0], [4.0], [hidden]]), mask)
        close(out, [[3.0], [0.0]], "hidden values came through, or visible ones did not")


def masked_by_unmasked(implementation):
    """Under a mask it is what the visible keys alone give, and nothing where there are none."""
    query, key, value = randn(3, 2).numpy(), randn(3, 2, seed=1).numpy(), randn(3, 1, seed=2).numpy()
    mask = MASK.numpy()
    out = implementation(query, key, value, mask)
    for i, row in enumerate(mask):
        scores = np.exp(key[row] @ query[i] / np.sqrt(2))
        np.testing.assert_allclose(
            np.asarray(out)[..., i, :], (scores @ value[row]) / max(scores.sum(), 1e-9), atol=1e-3
        )


def masked_fill(query, key, value, mask):
    scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ value


def masked_loops(query, key, value, mask):
    out = np.zeros((len(query), value.shape[1]))
    for i in range(len(query)):
        seen = np.flatnonzero(mask[i])
        if seen.size:
            scores = key[seen] @ query[i] / math.sqrt(query.shape[1])
            powers = np.exp(scores - scores.max())
            out[i] = powers @ value[seen] / powers.sum()
    return out


def masked_powers(query, key, value, mask):
    scores = np.einsum("id,jd->ij", query, key) / np.sqrt(key.shape[1])
    top = np.where(mask, scores, -np.inf).max(-1, keepdims=True, initial=-1e30)
    powers = np.where(mask, np.exp(np.minimum(scores - top, 0)), 0)
    return powers @ value / np.maximum(powers.sum(-1, keepdims=True), 1e-30)


# --- 4. next_token_loss


def loss_by_torch(implementation):
    logits, tokens = randn(2, 4, 3), torch.tensor([[0, 2, 1, 1], [2, 0, 1, 2]])
    want = F.cross_entropy(torch.cat([logits[0, :2], logits[1, :1]]), torch.tensor([2, 1, 0]))
    close(implementation(logits, tokens, torch.tensor([3, 2])), want)


def loss_by_a_seer(implementation):
    """Who is sure of the next word and right costs 0; who is sure and wrong costs 20, in one of three predictions."""
    tokens, lengths = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]), np.array([3, 2])
    next_word = np.array([[1, 0, 1, 1, 1], [0, 1, 1, 1, 1]])  # padding is foreseen wrongly
    sure = 20 * np.eye(2)[next_word]
    assert abs(float(implementation(sure, tokens, lengths))) < 1e-3, "who foresees everything should cost 0"
    sure[0, 0] = sure[0, 0, ::-1]
    assert abs(float(implementation(sure, tokens, lengths)) - 20 / 3) < 1e-3, "one of three wrong"


def loss_by_cuts(implementation):
    """A batch is the mean over its predictions, and one sentence is what the sum over its places says."""
    logits, tokens, lengths = randn(2, 4, 2).numpy(), np.array([[0, 1, 1, 0], [1, 1, 0, 1]]), np.array([4, 2])
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    want = -(logp[0, 0, 1] + logp[0, 1, 1] + logp[0, 2, 0] + logp[1, 0, 1]) / 4
    np.testing.assert_allclose(implementation(logits, tokens, lengths), want, atol=1e-3)


def loss_cross_entropy(logits, tokens, lengths):
    wanted = tokens[:, 1:].clone()
    wanted[torch.arange(1, tokens.shape[1]) >= lengths[:, None]] = -100
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten(), ignore_index=-100)


def loss_loops(logits, tokens, lengths):
    losses = []
    for b, length in enumerate(lengths):
        for t in range(int(length) - 1):
            row = logits[b, t]
            losses.append(row.max() + np.log(np.exp(row - row.max()).sum()) - row[tokens[b, t + 1]])
    return np.mean(losses)


def loss_gather(logits, tokens, lengths):
    logp = torch.log_softmax(logits, -1)[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)
    real = torch.arange(1, tokens.shape[1]).expand_as(logp) < lengths.unsqueeze(1)
    return -(logp * real).sum() / real.sum()


# --- 5. top_p


def top_p_by_hand(implementation):
    close(implementation(np.array([0.1, 0.6, 0.3]), 0.8), [0, 2 / 3, 1 / 3])


def top_p_by_torch(implementation):
    close(implementation(torch.tensor([0.2, 0.1, 0.4, 0.3]), 0.75), [2 / 9, 0, 4 / 9, 3 / 9])


def top_p_by_laws(implementation):
    """What is kept reaches p, without its least token it does not, and its ratios are what they were."""
    before = np.array([0.05, 0.4, 0.15, 0.3, 0.1])
    after = np.asarray(implementation(before, 0.8))
    if after.shape != before.shape:
        raise AssertionError("tokens were lost")
    kept = before[after > 0]
    assert kept.sum() >= 0.8 > kept.sum() - kept.min(), "too few are kept, or too many"
    assert np.allclose(after, np.where(after > 0, before, 0) / kept.sum(), atol=1e-3), "ratios have changed"


def top_p_torch(probabilities, p):
    ranked, order = probabilities.sort(descending=True)
    ranked = ranked * (ranked.cumsum(0) - ranked < p)
    return torch.zeros_like(probabilities).scatter(0, order, ranked / ranked.sum())


def top_p_threshold(probabilities, p):
    """The least probability that is kept; the numbers of a case all differ."""
    ranked = np.sort(probabilities)[::-1]
    least = ranked[min(np.searchsorted(np.cumsum(ranked), p), len(ranked) - 1)]
    kept = probabilities * (probabilities >= least)
    return kept / kept.sum()


def top_p_loop(probabilities, p):
    kept, total = np.zeros(len(probabilities)), 0.0
    for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total >= p:
            break
        kept[i] = probabilities[i]
        total += float(probabilities[i])
    return kept / kept.sum()


# --- 6. multi_head


def heads_by_sdpa(implementation):
    query, key, value = randn(2, 4), randn(3, 4, seed=1), randn(3, 4, seed=2)
    q, k, v = (torch.stack(x.split(2, dim=1)) for x in (query, key, value))
    want = torch.cat([*F.scaled_dot_product_attention(q, k, v)], dim=1)
    torch.testing.assert_close(implementation(query, key, value, 2), want, atol=1e-4, rtol=0)


def heads_in_loops(implementation):
    query, key, value = (np.array(randn(*shape, seed=9)) for shape in ((2, 6), (3, 6), (3, 6)))
    out = np.asarray(implementation(query, key, value, 3))
    assert out.shape == (2, 6), "the shape"
    for i in range(2):
        for c in range(6):
            own = slice(c // 2 * 2, c // 2 * 2 + 2)
            weights = np.exp(key[:, own] @ query[i, own] / np.sqrt(2))
            assert abs(out[i, c] - weights @ value[:, c] / weights.sum()) < 1e-3, f"query {i}, column {c}"


def heads_by_choice(implementation):
    """Head 0 looks for token 1 and head 1 for token 2; who looks for nothing gets the mean of each column."""
    query, key = 30 * np.ones((2, 4)), np.zeros((3, 4))
    key[1, :2], key[2, 2:] = 1, 1
    query[1], value = 0, np.arange(12.0).reshape(3, 4)
    out = implementation(query, key, value, 2)
    np.testing.assert_allclose(out, [[4, 5, 10, 11], [4, 5, 6, 7]], atol=1e-3)
    one = implementation(np.ones((2, 2)), key[[1, 0], :2], value[:2, :2], 1)
    share = 1 / (1 + math.exp(-math.sqrt(2)))
    np.testing.assert_allclose(one, [[4 * (1 - share), 4 * (1 - share) + 1]] * 2, atol=1e-3)


def heads_split(query, key, value, heads):
    parts = [np.split(x, heads, axis=1) for x in (query, key, value)]
    return np.concatenate([scaled_heads_einsum(*(x[None] for x in one))[0] for one in zip(*parts, strict=True)], axis=1)


def heads_unflatten(query, key, value, heads):
    q, k, v = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in (query, key, value))
    return scaled_heads_torch(q, k, v).transpose(0, 1).flatten(1)


def heads_einsum(query, key, value, heads):
    q, k, v = (x.reshape(len(x), heads, -1) for x in (query, key, value))
    weights = np.exp(np.einsum("ihd,jhd->ihj", q, k) / np.sqrt(q.shape[-1]))
    return np.einsum("ihj,jhd->ihd", weights / weights.sum(-1, keepdims=True), v).reshape(query.shape)


# --- 7. causal_attention


def causal_by_one_pass(implementation):
    """The last two of four queries get what they get among all four; and who is first sees itself."""
    query, key, value = randn(4, 1), randn(4, 1, seed=1), randn(4, 1, seed=2)
    want = F.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
    for start in range(4):
        torch.testing.assert_close(implementation(query[start:], key, value), want[start:], atol=1e-4, rtol=0)


def causal_by_means(implementation):
    close(implementation(np.zeros((2, 1)), np.zeros((4, 1)), np.array([[0.0], [0], [3], [9]])), [[1.0], [3.0]])


def causal_by_weights(implementation):
    """Values that are rows of the identity spell out who sees whom."""
    out = np.asarray(implementation(np.zeros((2, 1)), np.ones((3, 1)), np.eye(3))).reshape(2, 3)
    assert [[bool(w > 1e-6) for w in row] for row in out] == [[True, True, False], [True] * 3], "who sees whom"
    assert np.allclose(out.sum(axis=1), 1, atol=1e-3), "rows do not sum to 1"


def causal_rows(query, key, value):
    out, cached = [], len(key) - len(query)
    for i, q in enumerate(query):
        past = slice(0, cached + i + 1)
        out.append(scaled_heads_einsum(q[None, None], key[None, past], value[None, past])[0, 0])
    return np.array(out).reshape(len(query), value.shape[1])


def causal_tril(query, key, value):
    visible = torch.ones(len(query), len(key)).tril(len(key) - len(query)).bool()
    scores = (query @ key.T / query.shape[1] ** 0.5).masked_fill(~visible, -torch.inf)
    return scores.softmax(1) @ value


def causal_distance(query, key, value):
    at = np.arange(len(key) - len(query), len(key))[:, None]
    scores = query @ key.T / math.sqrt(query.shape[1]) - 1e9 * (np.arange(len(key)) > at)
    return scaled_heads_weights(scores) @ value


def scaled_heads_weights(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# --- 8. rotate


def angles_by_complex(implementation):
    x = np.array([[1.0, 2.0, -1.0, 0.5], [0.5, -1.0, 2.0, 1.0]])
    out = np.asarray(implementation(x, 3, 9.0)).reshape(2, 4)
    for t in range(2):
        for i, speed in enumerate((1, 1 / 3)):
            z = complex(*x[t, 2 * i : 2 * i + 2]) * complex(math.cos((3 + t) * speed), math.sin((3 + t) * speed))
            assert abs(z - complex(*out[t, 2 * i : 2 * i + 2])) < 1e-3, f"row {t}, pair {i}"


def angles_by_hand(implementation):
    """Base 4: the second pair turns by half of what the first does."""
    out = implementation(torch.tensor([[0.0, 1, 1, 0], [0, 1, 1, 0]]), 1, 4.0)
    want = [[-math.sin(m), math.cos(m), math.cos(m / 2), math.sin(m / 2)] for m in (1, 2)]
    torch.testing.assert_close(out, torch.tensor(want), atol=1e-3, rtol=0)


def angles_by_steps(implementation):
    """One step is known, and many steps are one step, again and again."""
    x = np.array([[3.0, 1.0, 2.0, -1.0]])
    (a, b), (c, s) = (math.cos(1), math.sin(1)), (math.cos(0.1), math.sin(0.1))
    step = np.array([[a, -b, 0, 0], [b, a, 0, 0], [0, 0, c, -s], [0, 0, s, c]])
    close(implementation(x, 1, 100.0), x @ step.T, "one step")
    close(implementation(x, 3, 100.0), x @ step.T @ step.T @ step.T, "three steps")
    close(implementation(np.repeat(x, 2, axis=0), 2, 100.0)[1:], x @ step.T @ step.T @ step.T, "the second row")


def rotate_complex(x, start, base):
    speed = base ** (-np.arange(0, x.shape[1], 2) / x.shape[1])
    z = x.reshape(len(x), -1, 2) @ np.array([1, 1j])
    z = z * np.exp(1j * np.outer(start + np.arange(len(x)), speed))
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


def rotate_torch(x, start, base):
    d = x.shape[-1]
    angle = torch.arange(start, start + len(x))[:, None] * torch.tensor([base ** (-2 * i / d) for i in range(d // 2)])
    angle = angle.to(x.dtype)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)


def rotate_matrices(x, start, base):
    out = np.zeros(x.shape)
    for t, row in enumerate(x):
        for i in range(0, x.shape[1], 2):
            angle = (start + t) / base ** (i / x.shape[1])
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            out[t, i : i + 2] = turn @ row[i : i + 2]
    return out


RIGHT: dict[str, list] = {
    "test_scaled_heads": [scaled_by_sdpa, scaled_by_numbers, scaled_by_laws],
    "scaled_heads": [scaled_heads_einsum, scaled_heads_torch, scaled_heads_one_by_one],
    "test_layer_norm": [norm_by_torch, norm_by_hand, norm_by_laws],
    "layer_norm": [layer_norm_var, layer_norm_torch, layer_norm_loops],
    "test_masked_attention": [masked_by_sdpa, masked_by_influence, masked_by_unmasked],
    "masked_attention": [masked_fill, masked_loops, masked_powers],
    "test_next_token_loss": [loss_by_torch, loss_by_a_seer, loss_by_cuts],
    "next_token_loss": [loss_cross_entropy, loss_loops, loss_gather],
    "test_top_p": [top_p_by_hand, top_p_by_torch, top_p_by_laws],
    "top_p": [top_p_torch, top_p_threshold, top_p_loop],
    "test_multi_head": [heads_by_sdpa, heads_in_loops, heads_by_choice],
    "multi_head": [heads_split, heads_unflatten, heads_einsum],
    "test_causal_attention": [causal_by_one_pass, causal_by_means, causal_by_weights],
    "causal_attention": [causal_rows, causal_tril, causal_distance],
    "test_rotate": [angles_by_complex, angles_by_hand, angles_by_steps],
    "rotate": [rotate_complex, rotate_torch, rotate_matrices],
}


def _one(function: Callable) -> Callable:
    """A function of (batch, heads, length, d), for arguments of (length, d)."""
    return lambda *tensors: function(*(x[None, None] for x in tensors))[0, 0]


def _oracle_heads(query, key, value, heads):
    q, k, v = (x.view(len(x), heads, -1).transpose(0, 1)[None] for x in (query, key, value))
    return attention(q, k, v)[0].transpose(0, 1).reshape(query.shape)


def _oracle_rotate(x, start, base):
    at = torch.arange(start, start + len(x))[None]
    return Rotary(x.shape[-1], base=base, layout="interleaved").rotate(x[None, None], at)[0, 0]


ORACLES: dict[str, Callable] = {
    "scaled_heads": F.scaled_dot_product_attention,
    "layer_norm": lambda x, gain, bias, eps: F.layer_norm(x, x.shape[-1:], gain, bias, eps),
    "masked_attention": lambda q, k, v, mask: _one(lambda *a: attention(*a, mask=Dense(mask[None, None])))(q, k, v),
    "next_token_loss": loss_cross_entropy,
    "top_p": lambda probabilities, p: filter_top_p(probabilities.log(), p).softmax(-1),
    "multi_head": _oracle_heads,
    "causal_attention": _one(lambda *a: attention(*a, mask=Causal(align="lower_right"))),
    "rotate": _oracle_rotate,
}

_SDPA = "import torch\n\ndef {}:\n    return torch.nn.functional.scaled_dot_product_attention({})\n"
FORBIDDEN: dict[str, str] = {
    "scaled_heads": _SDPA.format("scaled_heads(query, key, value)", "query, key, value"),
    "layer_norm": (
        "from torch.nn.functional import layer_norm as norm\n\ndef layer_norm(x, gain, bias, eps):\n"
        "    return norm(x, x.shape[-1:], gain, bias, eps)\n"
    ),
    "masked_attention": _SDPA.format("masked_attention(query, key, value, mask)", "query, key, value, mask")
    .replace("mask)\n", "attn_mask=mask).nan_to_num()\n")
    .replace("value, attn_mask=mask).nan_to_num()", "value, attn_mask=mask).nan_to_num()"),
    "multi_head": (
        "import torch.nn.functional as F\n\ndef multi_head(query, key, value, heads):\n"
        "    q, k, v = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in (query, key, value))\n"
        "    return F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)\n"
    ),
    "causal_attention": (
        "import torch\n\ndef causal_attention(query, key, value):\n"
        "    mask = torch.ones(len(query), len(key)).tril(len(key) - len(query)).bool()\n"
        "    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)\n"
    ),
    "rotate": (
        "from attnkit.positions import Rotary\n\ndef rotate(x, start, base):\n"
        "    return Rotary(x.shape[-1], base=base).rotate(x, start)\n"
    ),
}


# --- wrong tests, as people write them

INPUTS: dict[str, tuple] = {
    "test_scaled_heads": (randn(2, 3, 2), randn(2, 4, 2, seed=1), randn(2, 4, 2, seed=2)),
    "test_layer_norm": (randn(3, 4), randn(4, seed=1), randn(4, seed=2), 0.5),
    "test_masked_attention": (randn(3, 2), randn(3, 2, seed=1), randn(3, 2, seed=2), MASK),
    "test_next_token_loss": (randn(2, 4, 3), torch.tensor([[0, 2, 1, 1], [2, 0, 1, 2]]), torch.tensor([3, 2])),
    "test_top_p": (torch.tensor([0.5, 0.3, 0.2]), 0.7),
    "test_multi_head": (randn(2, 4), randn(3, 4, seed=1), randn(3, 4, seed=2), 2),
    "test_causal_attention": (randn(2, 2), randn(4, 2, seed=1), randn(4, 2, seed=2)),
    "test_rotate": (randn(2, 6), 3, 50.0),
}


def compared_with_itself(name: str) -> Callable:
    def test(implementation):
        expected = implementation(*INPUTS[name])
        torch.testing.assert_close(implementation(*INPUTS[name]), expected, equal_nan=True)

    return test


def a_bare_comparison(name: str) -> Callable:
    def test(implementation):
        implementation(*INPUTS[name]) == 0  # noqa: B015 - the missing assert is the point

    return test


def without_nan(name: str) -> Callable:
    def test(implementation):
        assert not torch.as_tensor(implementation(*INPUTS[name])).isnan().any()

    return test


def of_so_many_axes(name: str) -> Callable:
    axes = 3 if "heads" in name else 1 if "top" in name else 2

    def test(implementation):
        assert implementation(*INPUTS[name]).ndim == axes

    return test


def never_content(name: str) -> Callable:
    def test(implementation):
        torch.testing.assert_close(torch.as_tensor(implementation(*INPUTS[name])).sum(), torch.tensor(12345.0))

    return test


def one_head_of_three(implementation):
    query, key, value = randn(1, 2, 3), randn(1, 4, 3, seed=1), randn(1, 4, 3, seed=2)
    want = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(implementation(query, key, value), want, atol=1e-4, rtol=0)


def the_usual_eps(implementation):
    x, gain, bias = randn(3, 4), randn(4, seed=1), randn(4, seed=2)
    want = F.layer_norm(x, (4,), gain, bias, eps=1e-5)
    torch.testing.assert_close(implementation(x, gain, bias, 1e-5), want, atol=1e-3, rtol=0)


def under_a_causal_mask(implementation):
    query, key, value, causal = randn(3, 2), randn(3, 2, seed=1), randn(3, 2, seed=2), torch.ones(3, 3).tril().bool()
    want = F.scaled_dot_product_attention(query[None], key[None], value[None], causal)[0]
    torch.testing.assert_close(implementation(query, key, value, causal), want, atol=1e-4, rtol=0)


def knows_nothing(implementation):
    loss = implementation(np.zeros((2, 4, 3)), np.array([[0, 2, 1, 1], [2, 0, 1, 2]]), np.array([3, 2]))
    assert abs(loss - math.log(3)) < 1e-3


def sums_to_one(implementation):
    assert abs(implementation(np.array([0.5, 0.3, 0.2]), 0.7).sum() - 1) < 1e-3


def one_head_of_four(implementation):
    query, key, value = randn(2, 4), randn(3, 4, seed=1), randn(3, 4, seed=2)
    want = F.scaled_dot_product_attention(query[None], key[None], value[None])[0]
    torch.testing.assert_close(implementation(query, key, value, 1), want, atol=1e-4, rtol=0)


def in_a_square(implementation):
    query, key, value = randn(3, 2), randn(3, 2, seed=1), randn(3, 2, seed=2)
    want = F.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
    torch.testing.assert_close(implementation(query, key, value), want, atol=1e-4, rtol=0)


def keeps_lengths(implementation):
    x = randn(2, 6)
    torch.testing.assert_close(implementation(x, 3, 50.0).norm(dim=-1), x.norm(dim=-1), atol=1e-3, rtol=0)


def the_last_alone(implementation):
    query, key, value = (randn(5, 1, seed=seed) for seed in range(3))
    torch.testing.assert_close(implementation(query[4:], key, value), implementation(query, key, value)[4:])


def one_row_of_cosines(implementation):
    out = implementation(np.array([[1.0, 0.0, 1.0, 0.0]]), 1, 100.0)
    assert np.allclose(out, [[np.cos(1), np.sin(1), np.cos(0.1), np.sin(0.1)]], atol=1e-4)


def sure_and_right(implementation):
    tokens, next_word = np.array([[0, 3, 2, 1, 0]]), np.array([[3, 2, 1, 0, 0]])
    assert implementation(25 * np.eye(4)[next_word], tokens, np.array([5])) < 1e-3


def heads_apart(implementation):
    query, key, value = (randn(2, length, 3, seed=length) for length in (2, 3, 3))
    apart = torch.cat([implementation(query[h : h + 1], key[h : h + 1], value[h : h + 1]) for h in range(2)])
    torch.testing.assert_close(implementation(query, key, value), apart, atol=1e-4, rtol=0)


def a_plain_row(implementation):
    out = implementation(np.array([[-1.0, 1.0]]), np.ones(2), np.zeros(2), 3.0)
    assert np.allclose(out, [[-0.5, 0.5]], atol=1e-4)


LAWS: list[tuple[str, Callable, str]] = [
    ("test_scaled_heads", heads_apart, "a head alone is what it is among others"),
    ("test_layer_norm", a_plain_row, "leaves the gain at 1 and the bias at 0"),
    ("test_next_token_loss", sure_and_right, "the right loss of your test is 0"),
    ("test_causal_attention", the_last_alone, "the last query alone gets what it gets among all"),
    ("test_rotate", one_row_of_cosines, "one row of pairs 1, 0"),
]

OWN: dict[str, tuple[Callable, str]] = {
    "test_scaled_heads": (one_head_of_three, "one head only"),
    "test_layer_norm": (the_usual_eps, "eps at 1e-5"),
    "test_masked_attention": (under_a_causal_mask, "the broken function of the notebook"),
    "test_next_token_loss": (knows_nothing, "all logits of your test are equal"),
    "test_top_p": (sums_to_one, "sums to 1"),
    "test_multi_head": (one_head_of_four, "one head only"),
    "test_causal_attention": (in_a_square, "as many queries as keys"),
    "test_rotate": (keeps_lengths, "whether lengths are kept"),
}

WRONG: list[tuple[str, Callable, str]] = [*LAWS]
for _name, (_test, _says) in OWN.items():
    WRONG += [
        (_name, _test, _says),
        (_name, compared_with_itself(_name), "asserts nothing about what it gets back"),
        (_name, a_bare_comparison(_name), "asserts nothing about what it gets back"),
        (_name, without_nan(_name), "only whether the result is finite"),
        (_name, never_content(_name), "fails whatever it is handed"),
    ]
    if _name != "test_next_token_loss":
        WRONG.append((_name, of_so_many_axes(_name), "looks at the shape only"))


# --- functions that are mended wrongly


def _norm(x, eps=0.0, **how):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, **how) + eps).sqrt()


def _shifted(logits, tokens, lengths, reduction="none"):
    return F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:], reduction=reduction)


def _cumulative(probabilities, keep):
    ranked, order = probabilities.sort(descending=True)
    ranked = ranked * keep(ranked)
    return torch.zeros_like(probabilities).scatter(0, order, ranked)


def _causal_torch(query, key, value, diagonal):
    hidden = torch.ones(len(query), len(key)).triu(diagonal).bool()
    scores = (query @ key.T / query.shape[1] ** 0.5).masked_fill(hidden, -torch.inf)
    return scores.softmax(1).nan_to_num() @ value


def _turn(x, angle):
    a, b, angle = x[:, ::2], x[:, 1::2], torch.as_tensor(angle, dtype=x.dtype)
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)


def _cut(query, key, value, heads, merge):
    q, k, v = (x.reshape(heads, len(x), -1) for x in (query, key, value))
    return merge(scaled_heads_torch(q, k, v)).reshape(query.shape)


WRONG += [
    (
        "scaled_heads",
        lambda q, k, v: torch.softmax(q @ k.mT / (q.shape[0] * q.shape[2]) ** 0.5, -1) @ v,
        "root of the model's width",
    ),
    ("scaled_heads", lambda q, k, v: torch.softmax(q @ k.mT / q.shape[2], -1) @ v, "divides by d_head and not"),
    ("scaled_heads", lambda q, k, v: torch.softmax(q @ k.mT, -1) @ v, "does not scale at all"),
    ("scaled_heads", lambda q, k, v: torch.softmax(q @ k.mT / q.shape[2] ** 0.5, 1) @ v, "run over the queries"),
    (
        "layer_norm",
        lambda x, g, b, eps: (x - x.mean(-1, keepdim=True)) / (x.std(-1, correction=0, keepdim=True) + eps) * g + b,
        "eps still stands outside the root",
    ),
    ("layer_norm", lambda x, g, b, eps: _norm(x, eps) * g + b, "divides the sum of squares by d - 1"),
    ("layer_norm", lambda x, g, b, eps: _norm(x, eps, correction=0) * g, "forgets the bias"),
    ("layer_norm", lambda x, g, b, eps: (_norm(x, eps, correction=0) + b) * g, "bias is added before the gain"),
    (
        "masked_attention",
        lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(m == 0, -1e9).softmax(-1) @ v,
        "still averages all values",
    ),
    (
        "masked_attention",
        lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~m, -torch.inf).softmax(-1) @ v,
        "gives nan to a query that sees nothing",
    ),
    (
        "masked_attention",
        lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).masked_fill(~m, 0) @ v,
        "masks the weights after the softmax",
    ),
    ("masked_attention", lambda q, k, v, m: masked_fill(q, k, v, ~m), "reads the mask upside down"),
    (
        "next_token_loss",
        lambda logits, tokens, lengths: F.cross_entropy(logits.mT, tokens, reduction="none")[
            torch.arange(tokens.shape[1]) < lengths[:, None]
        ].mean(),
        "still compared with token t",
    ),
    ("next_token_loss", lambda *args: _shifted(*args, reduction="mean"), "averages over padding, too"),
    (
        "next_token_loss",
        lambda logits, tokens, lengths: loss_gather(logits, tokens, lengths) * (lengths - 1).sum(),
        "returns the sum",
    ),
    (
        "next_token_loss",
        lambda logits, tokens, lengths: torch.stack(
            [loss_gather(*(x[i : i + 1] for x in (logits, tokens, lengths))) for i in range(len(tokens))]
        ).mean(),
        "averages the means of the sentences",
    ),
    ("top_p", lambda probabilities, p: probabilities, "keeps all"),
    (
        "top_p",
        lambda probabilities, p: _cumulative(probabilities, lambda ranked: ranked.cumsum(0) - ranked < p),
        "does not renormalise",
    ),
    (
        "top_p",
        lambda probabilities, p: F.one_hot(probabilities.argmax(), len(probabilities)).float(),
        "keeps the best token only",
    ),
    ("top_p", lambda probabilities, p: top_p_torch(probabilities, p).sort(descending=True).values, "in order of size"),
    (
        "multi_head",
        lambda q, k, v, heads: _cut(q, k, v, heads, lambda out: out),
        "still split and merged by a reshape alone",
    ),
    (
        "multi_head",
        lambda q, k, v, heads: _cut(q, k, v, heads, lambda out: out.transpose(0, 1)),
        "splits by a bare reshape and merges well",
    ),
    ("multi_head", lambda q, k, v, heads: heads_unflatten(q, k, v, 1), "is one wide head"),
    ("causal_attention", lambda q, k, v: _causal_torch(q, k, v, 1), "still stands in the upper left corner"),
    (
        "causal_attention",
        lambda q, k, v: _causal_torch(q, k, v, len(k) - len(q)),
        "does not see the token itself",
    ),
    ("causal_attention", lambda q, k, v: _causal_torch(q, k, v, len(k) + 1), "has no mask at all"),
    (
        "rotate",
        lambda x, start, base: (
            _turn(x, [[(start + t) * base ** (-i / x.shape[1]) for i in range(x.shape[1] // 2)] for t in range(len(x))])
            if len(x)
            else x
        ),
        "the exponent is still -i/d",
    ),
    ("rotate", lambda x, start, base: rotate_torch(x, 0, base), "ignores start"),
    ("rotate", lambda x, start, base: rotate_torch(x, start, 1 / base), "later pairs turn faster"),
]
