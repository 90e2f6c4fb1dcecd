"""Right and wrong answers to the lab positions, each as a student might write it, none like the reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

import attnkit
from attnkit.lab.bank import load_lab
from attnkit.lab.variants import PRACTICE
from attnkit.masks import Causal
from attnkit.positions import ALiBi, Rotary, Sinusoidal, t5_bucket

# The student's own numbers, as the notebook's variant cells set them; the tests put other students' in their place.
_DRAWN = load_lab("positions").for_student(PRACTICE).questions
base = _DRAWN["rotate"].variant["base"]
kind = _DRAWN["relative_bias"].variant["kind"]
both_ways = _DRAWN["relative_bias"].variant["both_ways"]
max_distance = _DRAWN["relative_bias"].variant["max_distance"]

# --- sinusoidal


def sinusoidal_torch_filled(positions, d_model):
    table = torch.zeros(*positions.shape, d_model)
    for c in range((d_model + 1) // 2):
        angle = positions / 10000 ** (2 * c / d_model)
        table[..., 2 * c] = torch.sin(angle)
        if 2 * c + 1 < d_model:
            table[..., 2 * c + 1] = torch.cos(angle)
    return table


def sinusoidal_exp_log(positions, d_model):
    """The way of many tutorials: exp(-log(10000) 2c / d), and slices."""
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angles = positions.unsqueeze(-1) * rates
    table = torch.empty(*positions.shape, d_model)
    table[..., 0::2] = angles.sin()
    table[..., 1::2] = angles.cos()[..., : d_model // 2]
    return table


def sinusoidal_one_sine(positions, d_model):
    """A cosine is a sine a quarter of a turn ahead."""
    column = np.arange(d_model)
    phase = (column % 2) * np.pi / 2
    return np.sin(np.multiply.outer(positions, np.power(10000.0, -2 * (column // 2) / d_model)) + phase)


def sinusoidal_complex(positions, d_model):
    pairs = (d_model + 1) // 2
    hands = np.exp(1j * positions[..., None] * 10000.0 ** (-2 * np.arange(pairs) / d_model))
    return np.stack([hands.imag, hands.real], axis=-1).reshape(*positions.shape, 2 * pairs)[..., :d_model]


def sinusoidal_plain_python(positions, d_model):
    def row(p):
        return [
            (math.cos if c % 2 else math.sin)(int(p) * math.exp(-math.log(10000) * (c - c % 2) / d_model))
            for c in range(d_model)
        ]

    return np.array([row(p) for p in positions.ravel()]).reshape(*positions.shape, d_model)


# --- rotate


def rotate_complex_torch(x, positions):
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())
    rates = 1.0 / (base ** (torch.arange(0, x.shape[-1], 2) / x.shape[-1]))
    angles = positions[..., None] * rates
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def rotate_with_a_partner(x, positions):
    """x cos + (rotate every two) x sin, as GPT-J's code has it."""
    d = x.size(-1)
    angles = positions.unsqueeze(-1).float() * base ** (-torch.arange(0, d, 2).float() / d)
    angles = angles.repeat_interleave(2, dim=-1)
    partner = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * angles.cos() + partner * angles.sin()


def rotate_matrices(x, positions):
    """A block of two by two for each pair and position, multiplied by einsum."""
    d = x.shape[-1]
    angles = positions[..., None] * np.power(base, -2 * np.arange(d // 2) / d)
    blocks = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], axis=-1)
    blocks = blocks.reshape(*angles.shape, 2, 2)
    return np.einsum("...ij,...j->...i", blocks, x.reshape(*x.shape[:-1], d // 2, 2)).reshape(x.shape)


def rotate_loops(x, positions):
    out = np.empty(x.shape)
    d = x.shape[-1]
    where = np.broadcast_to(positions, x.shape[:-1])
    for place in np.ndindex(x.shape[:-1]):
        for c in range(d // 2):
            angle = float(where[place]) / base ** (2 * c / d)
            a, b = float(x[place][2 * c]), float(x[place][2 * c + 1])
            out[(*place, 2 * c)] = a * math.cos(angle) - b * math.sin(angle)
            out[(*place, 2 * c + 1)] = b * math.cos(angle) + a * math.sin(angle)
    return out


# --- test_relative


def test_by_diagonals(scores):
    """The same query and the same key everywhere: one number for each distance, along a diagonal and in any table."""
    g = torch.Generator().manual_seed(3)
    query, key = torch.randn(2, 1, 16, generator=g)
    seen = {}
    for start in (0, 45, 250, 1000):
        for step in (1, 37):
            at = start + step * torch.arange(7)
            table = scores(query.expand(7, -1), key.expand(7, -1), at, at)
            for i in range(7):
                for j in range(7):
                    known = seen.setdefault(step * (i - j), table[i, j])
                    torch.testing.assert_close(table[i, j], known, rtol=0, atol=1e-2)
            one = scores(query, key, at[4:5], at[1:2])
            torch.testing.assert_close(one[0, 0], table[4, 1], rtol=0, atol=1e-2)


def test_pair_by_pair(scores):
    """One query and one key at a time, here and elsewhere, then all of them together in another order."""
    rng = np.random.default_rng(11)
    query, key = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    at_query, at_key = np.array([5, 130, 600, 44]), np.array([2, 130, 17, 420])
    order = [2, 0, 3, 1]
    together = scores(query[order], key, at_query[order], at_key)
    for row, i in enumerate(order):
        for j in range(4):
            for shift in (0, 3, 299, 1100):
                alone = scores(query[i : i + 1], key[j : j + 1], at_query[i : i + 1] + shift, at_key[j : j + 1] + shift)
                if abs(float(alone[0, 0]) - float(together[row, j])) > 0.01:
                    raise AssertionError(f"query {i}, key {j}, {shift} further on")


def test_with_numpy_testing(scores):
    rng = np.random.default_rng(5)
    q, k = rng.uniform(-1, 1, size=(2, 6, 12)).astype(np.float32)
    p = np.array([0, 1, 90, 301, 700, 1000])
    s = scores(q, k, p, p)
    for shift in (2, 50, 513, 999):
        np.testing.assert_allclose(scores(q, k, p + shift, p + shift), s, rtol=0, atol=0.01)
    np.testing.assert_allclose(scores(q[3:4], k, p[3:4], p), s[3:4], rtol=0, atol=0.01)
    np.testing.assert_allclose(scores(q, k[2:3], p, p[2:3]), s[:, 2:3], rtol=0, atol=0.01)
    np.testing.assert_allclose(scores(q[::-1].copy(), k, p[::-1].copy(), p), s[::-1], rtol=0, atol=0.01)
    np.testing.assert_allclose(scores(q[1:2], k[4:5], p[1:2], p[4:5]), s[1:2, 4:5], rtol=0, atol=0.01)


# --- relative_bias


def bias_torch(query_positions, key_positions, heads, table=None):
    behind = query_positions.unsqueeze(1) - key_positions.unsqueeze(0)
    distance = behind.abs() if both_ways else behind.clamp(min=0)
    if kind == "ALiBi":
        start = 2.0 ** (-8.0 / heads)
        slopes = torch.tensor([start * start**i for i in range(heads)])
        return -torch.einsum("h,qk->hqk", slopes, distance.float())
    rows = table.shape[0] // (2 if both_ways else 1)
    exact = rows // 2
    log = torch.log(distance.float().clamp(min=exact) / exact) / math.log(max_distance / exact)
    bucket = torch.where(distance < exact, distance, (exact + (log * (rows - exact)).long()).clamp(max=rows - 1))
    if both_ways:
        bucket = bucket + rows * (behind < 0).long()
    return torch.nn.functional.embedding(bucket, table).permute(2, 0, 1)


def bias_loops(query_positions, key_positions, heads, table=None):
    out = np.zeros((heads, len(query_positions), len(key_positions)))
    for h in range(heads):
        for i, p in enumerate(map(int, query_positions)):
            for j, r in enumerate(map(int, key_positions)):
                n = abs(p - r) if both_ways or p > r else 0
                out[h, i, j] = -n / 2 ** (8 * (h + 1) / heads) if kind == "ALiBi" else table[_row(p, r, table), h]
    return out


def _row(p, r, table):
    """The bucket by the distances at which each one begins, without rounding a logarithm."""
    rows = len(table) // 2 if both_ways else len(table)
    exact = rows // 2
    n = abs(p - r) if both_ways or p > r else 0
    begins = [exact * (max_distance / exact) ** (b / (rows - exact)) for b in range(1, rows - exact)]
    bucket = n if n < exact else exact + sum(n >= begin for begin in begins)
    return bucket + rows * (both_ways and r > p)


def bias_by_lookup(query_positions, key_positions, heads, table=None):
    """A bias for each offset that can occur, then picked: what a real implementation does for long texts."""
    offset = np.subtract.outer(key_positions, query_positions).T
    longest = int(np.abs(offset).max(initial=1))
    every = np.arange(-longest, longest + 1)
    far = np.where(every < 0, -every, every if both_ways else 0)
    if kind == "ALiBi":
        by_offset = np.outer(-np.geomspace(2 ** (-8 / heads), 2.0**-8, heads), far)
    else:
        rows = len(table) // 2 if both_ways else len(table)
        edges = (rows // 2) * (max_distance / (rows // 2)) ** (np.arange(1, rows // 2) / (rows // 2))
        edges = np.concatenate([np.arange(1, rows // 2 + 1), edges])
        bucket = np.searchsorted(edges, far, side="right") + (rows * (every > 0) if both_ways else 0)
        by_offset = table[bucket].T
    return by_offset[:, offset + longest]


# --- extrapolation


def extrapolation_torch(scores, tokens, back, lengths):
    found = []
    for n in lengths.tolist():
        block = scores[:n, :n].masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
        log_weights = block.log_softmax(-1)[n - n // 4 :]  # (queries, n)
        answers = tokens[:, n - n // 4 - back : n - back]  # (texts, queries)
        hidden = tokens[:, None, :n] != answers[:, :, None]
        found.append(-log_weights.expand(len(tokens), -1, -1).masked_fill(hidden, -torch.inf).logsumexp(-1).mean())
    return torch.stack(found).exp()


def extrapolation_one_hot(scores, tokens, back, lengths):
    """What the head hands out for every symbol, then the one that is asked for."""
    symbols = np.eye(int(tokens.max()) + 1)[tokens]  # (texts, L, symbols)
    result = []
    for n in lengths:
        e = np.exp(scores[:n, :n] - np.max(scores[:n, :n], axis=1, keepdims=True)) * np.tri(n)
        handed_out = np.einsum("ij,tjs->tis", e / e.sum(1, keepdims=True), symbols[:, :n])
        asked = np.roll(symbols, back, axis=1)[:, :n]
        p = (handed_out * asked).sum(-1)[:, n - n // 4 :]
        result.append(float(np.prod(p ** (-1 / p.size))))
    return np.asarray(result)


def extrapolation_loops(scores, tokens, back, lengths):
    out = []
    for n in [int(one) for one in lengths]:
        losses = []
        for text in tokens:
            for i in range(n - n // 4, n):
                top = max(float(s) for s in scores[i, : i + 1])
                e = [math.exp(float(s) - top) for s in scores[i, : i + 1]]
                hit = sum(e[j] for j in range(i + 1) if text[j] == text[i - back])
                losses.append(math.log(sum(e)) - math.log(hit))
        out.append(math.exp(sum(losses) / len(losses)))
    return np.array(out)


RIGHT: dict[str, list] = {
    "sinusoidal": [
        sinusoidal_torch_filled,
        sinusoidal_exp_log,
        sinusoidal_one_sine,
        sinusoidal_complex,
        sinusoidal_plain_python,
    ],
    "rotate": [rotate_complex_torch, rotate_with_a_partner, rotate_matrices, rotate_loops],
    "test_relative": [test_by_diagonals, test_pair_by_pair, test_with_numpy_testing],
    "relative_bias": [bias_torch, bias_loops, bias_by_lookup],
    "extrapolation": [extrapolation_torch, extrapolation_one_hot, extrapolation_loops],
}


# --- the same by attnkit, in double precision


def sinusoidal_oracle(positions, d_model):
    """attnkit refuses odd widths: those are a wider table whose positions are changed so that its angles fit."""
    if d_model % 2 == 0:
        at = positions.reshape(1, -1)
        return Sinusoidal(d_model).embed(torch.zeros(*at.shape, d_model), at).reshape(*positions.shape, d_model)
    # base^(-2c/d) is b^(-2c/(d+1)) for b = base^((d+1)/d).
    wider = Sinusoidal(d_model + 1, base=10000.0 ** ((d_model + 1) / d_model))
    at = positions.reshape(1, -1)
    return wider.embed(torch.zeros(*at.shape, d_model + 1), at)[..., :-1].reshape(*positions.shape, d_model)


def rotate_oracle(x, positions):
    d = x.shape[-1]
    at = positions.expand(x.shape[:-1]).reshape(1, -1)
    return Rotary(d, base=base, layout="interleaved").rotate(x.reshape(1, 1, -1, d), at).reshape(x.shape)


def bias_oracle(query_positions, key_positions, heads, table=None):
    if kind == "ALiBi":
        return ALiBi(heads, symmetric=both_ways)(query_positions[None], key_positions[None], torch.float64)[0]
    offset = key_positions - query_positions[:, None]
    return table[t5_bucket(offset, len(table), max_distance, bidirectional=both_ways)].movedim(-1, 0)


def extrapolation_oracle(scores, tokens, back, lengths):
    """Attention whose scores are all bias and whose values are one-hot symbols: it hands out probabilities."""
    symbols = torch.nn.functional.one_hot(tokens).to(scores)[:, None]  # (texts, 1, L, symbols)
    found = []
    for n in lengths.tolist():
        nothing = torch.zeros(len(tokens), 1, n, 1)
        out = attnkit.attention(nothing, nothing, symbols[:, :, :n], bias=scores[None, None, :n, :n], mask=Causal())
        last = torch.arange(n - n // 4, n)
        p = out[:, 0, last].gather(-1, tokens[:, last - back, None])
        found.append((-p.log()).mean().exp())
    return torch.stack(found)


ORACLES: dict[str, Callable] = {
    "sinusoidal": sinusoidal_oracle,
    "rotate": rotate_oracle,
    "relative_bias": bias_oracle,
    "extrapolation": extrapolation_oracle,
}

# --- what the questions ask for, called instead

FORBIDDEN: dict[str, str] = {
    "sinusoidal": (
        "import torch\nfrom attnkit.positions import Sinusoidal\n\ndef sinusoidal(positions, d_model):\n"
        "    return Sinusoidal(d_model).embed(torch.zeros(1, len(positions), d_model), positions[None])[0]\n"
    ),
    "rotate": (
        "import attnkit.positions as p\n\ndef rotate(x, positions):\n"
        "    turn = p.Rotary(x.shape[-1], 100.0, 'interleaved')\n"
        "    return turn.rotate(x[None, None], positions[None])[0, 0]\n"
    ),
    "relative_bias": (
        "import attnkit\n\ndef relative_bias(query_positions, key_positions, heads, table=None):\n"
        "    return attnkit.positions.ALiBi(heads)(query_positions[None], key_positions[None])[0]\n"
    ),
    "extrapolation": (
        "import torch\nfrom attnkit import attention\n\ndef extrapolation(scores, tokens, back, lengths):\n"
        "    nothing = torch.zeros(1, 1, len(scores), 1)\n"
        "    return attention(nothing, nothing, nothing, bias=scores[None, None])\n"
    ),
}

# --- wrong ones


def sinusoidal_tensor2tensor(positions, d_model):
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angles = positions[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()[..., : d_model // 2]], dim=-1)


def sinusoidal_range(positions, d_model):
    angles = torch.arange(positions.size(-1))[:, None] / 10000 ** (torch.arange(0, d_model, 2) / d_model)
    table = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)[:, :d_model]
    return table.expand(*positions.shape, d_model)


def sinusoidal_column_as_pair(positions, d_model):
    table = np.zeros((*positions.shape, d_model))
    for c in range(d_model):
        angle = positions / 10000 ** (c / d_model)
        table[..., c] = np.sin(angle) if c % 2 == 0 else np.cos(angle)
    return table


def sinusoidal_c_over_d(positions, d_model):
    c = torch.div(torch.arange(d_model), 2, rounding_mode="floor")
    angles = positions[..., None] * torch.pow(torch.tensor(10000.0), -c / d_model)
    return torch.where(torch.arange(d_model) % 2 == 0, angles.sin(), angles.cos())


def _rates(x, theta):
    return 1.0 / theta ** (torch.arange(0, x.shape[-1], 2).float() / x.shape[-1])


def rotate_half(x, positions):
    """As in Llama's code in many libraries."""
    angles = torch.cat([positions[..., None] * _rates(x, base)] * 2, dim=-1)
    one, two = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-two, one], dim=-1) * angles.sin()


def rotate_cat(x, positions):
    angles = positions[..., None] * _rates(x, base)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)


def rotate_default_base(x, positions):
    z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(z * torch.exp(1j * positions[..., None] * _rates(x, 10000.0))).flatten(-2)


def rotate_in_place(x, positions):
    x = x.copy()
    angles = positions[..., None] * base ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1])
    x[..., 0::2] = x[..., 0::2] * np.cos(angles) - x[..., 1::2] * np.sin(angles)
    x[..., 1::2] = x[..., 0::2] * np.sin(angles) + x[..., 1::2] * np.cos(angles)
    return x


def rotate_arange(x, positions):
    return rotate_with_a_partner(x, torch.arange(x.size(-2)))


def rotate_conjugate(x, positions):
    return rotate_with_a_partner(x, -positions)


def test_returns_false(scores):
    query, key = torch.randn(2, 4, 8)
    at = torch.arange(4)
    return torch.allclose(scores(query, key, at, at), scores(query, key, at + 5, at + 5))


def test_bitwise(scores):
    query, key = torch.ones(4, 8), torch.linspace(-1, 1, 32).view(4, 8)
    at = torch.tensor([0, 50, 300, 800])
    assert torch.equal(scores(query, key, at, at), scores(query, key, at + 333, at + 333))


def test_small_steps(scores):
    rng = np.random.default_rng(1)
    query, key = rng.normal(size=(2, 4, 8))
    at = np.arange(4)
    here = scores(query, key, at, at)
    for step in range(1, 5):
        np.testing.assert_allclose(scores(query, key, at + step, at + step), here, atol=0.01, rtol=0)
    for i in range(4):
        np.testing.assert_allclose(scores(query[[i]], key[[0]], at[[i]], at[[0]])[0, 0], here[i, 0], atol=0.01, rtol=0)


def test_shift_only(scores):
    rng = np.random.default_rng(2)
    query, key = rng.normal(size=(2, 6, 4))
    at = np.array([2, 9, 77, 260, 515, 990])
    for step in (1, 20, 300, 1000):
        if np.abs(scores(query, key, at, at) - scores(query, key, at + step, at + step)).max() > 0.01:
            raise AssertionError(step)


def test_queries_move(scores):
    query, key = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    at = torch.tensor([1, 20, 400])
    torch.testing.assert_close(scores(query, key, at, at), scores(query, key, at + 9, at), rtol=0, atol=0.01)


def _alibi(slopes, distance):
    return -torch.as_tensor(slopes)[:, None, None] * distance


def _behind(query_positions, key_positions):
    return query_positions[:, None] - key_positions[None]


def bias_up(query_positions, key_positions, heads, table=None):
    slopes = [2 ** (-8 * (h + 1) / heads) for h in range(heads)]
    return -_alibi(slopes, _behind(query_positions, key_positions).abs())


def bias_by_key(query_positions, key_positions, heads, table=None):
    slopes = [2 ** (-8 * (h + 1) / heads) for h in range(heads)]
    return -_alibi(slopes, key_positions.expand(len(query_positions), -1))


def bias_from_one(query_positions, key_positions, heads, table=None):
    return _alibi([2 ** (-8 * h / heads) for h in range(heads)], _behind(query_positions, key_positions).abs())


def bias_of_eight(query_positions, key_positions, heads, table=None):
    return _alibi([0.5 ** (h + 1) for h in range(heads)], _behind(query_positions, key_positions).abs())


def _extrapolated(tokens, back, lengths, weigh, judge=lambda p: (-p.log()).mean().exp(), first=lambda n: n - n // 4):
    found = []
    for n in lengths.tolist():
        symbols = torch.nn.functional.one_hot(tokens[:, :n]).float()
        p = (weigh(n) @ symbols).gather(-1, tokens[:, :n].roll(back, 1)[..., None])[..., 0]
        found.append(judge(p[:, first(n) :]))
    return torch.stack(found)


def _masked(scores, n):
    return scores[:n, :n].masked_fill(torch.ones(n, n).triu(1) > 0, -torch.inf).softmax(-1)


def extrapolation_sees_all(scores, tokens, back, lengths):
    return _extrapolated(tokens, back, lengths, lambda n: scores[:n, :n].softmax(-1))


def extrapolation_every_query(scores, tokens, back, lengths):
    return _extrapolated(tokens, back, lengths, lambda n: _masked(scores, n), first=lambda n: back)


def extrapolation_mean_first(scores, tokens, back, lengths):
    return _extrapolated(tokens, back, lengths, lambda n: _masked(scores, n), lambda p: 1 / p.mean())


def extrapolation_loss(scores, tokens, back, lengths):
    return _extrapolated(tokens, back, lengths, lambda n: _masked(scores, n), lambda p: -p.log().mean())


def extrapolation_tril_late(scores, tokens, back, lengths):
    return _extrapolated(tokens, back, lengths, lambda n: scores[:n, :n].softmax(-1).tril())


WRONG: list[tuple[str, Callable, str]] = [
    ("sinusoidal", sinusoidal_tensor2tensor, "all sines come first"),
    ("sinusoidal", sinusoidal_range, "rows are counted instead"),
    ("sinusoidal", sinusoidal_column_as_pair, "frequency of its own"),
    ("sinusoidal", sinusoidal_c_over_d, "exponent is c/d_model"),
    ("rotate", rotate_half, "c and c + d/2"),
    ("rotate", rotate_cat, "written back as halves"),
    ("rotate", rotate_default_base, "10000 and not yours"),
    ("rotate", rotate_in_place, "from the first one's new value"),
    ("rotate", rotate_arange, "vectors are counted"),
    ("rotate", rotate_conjugate, "turned backwards"),
    ("test_relative", test_returns_false, "never raises AssertionError"),
    ("test_relative", test_bitwise, "your test fails a right implementation"),
    ("test_relative", test_small_steps, "by a few steps only"),
    ("test_relative", test_shift_only, "only moves positions"),
    ("test_relative", test_queries_move, "leaves the keys"),
    ("relative_bias", bias_up, "raised and not lowered"),
    ("relative_bias", bias_by_key, "counts upwards"),
    ("relative_bias", bias_from_one, "slopes begin with 1"),
    ("relative_bias", bias_of_eight, "those of eight heads"),
    ("extrapolation", extrapolation_sees_all, "no causal mask"),
    ("extrapolation", extrapolation_every_query, "all queries are judged"),
    ("extrapolation", extrapolation_mean_first, "the logarithm comes later"),
    ("extrapolation", extrapolation_loss, "returned the loss"),
    ("extrapolation", extrapolation_tril_late, "hidden after the softmax"),
]
