"""Right answers to the attention lab that were written apart from each other, and what people do to a copy."""

from __future__ import annotations

import ast
import random
import textwrap
from collections.abc import Callable

from tests.redteam.answers import RIGHT_EINSUM, RIGHT_LOOPS, RIGHT_NUMPY, RIGHT_TORCH

_MORE = {
    "softmax": [
        """
        def softmax(x):
            shifted = x - np.amax(x, -1)[..., None]
            weights = np.exp(shifted)
            total = np.sum(weights, axis=-1)[..., None]
            return np.divide(weights, total)
        """,
        """
        def softmax(logits):
            biggest, _ = torch.max(logits, dim=-1, keepdim=True)
            numerators = torch.exp(logits - biggest)
            return numerators / torch.sum(numerators, -1, True)
        """,
        """
        def softmax(x):
            def log_total(z):
                top = z.max(axis=-1, keepdims=True)
                return top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True))
            return np.exp(x - log_total(x))
        """,
        """
        def softmax(x):
            rows = x.reshape(-1, x.shape[-1])
            done = [np.exp(r - r.max()) for r in rows]
            done = [d / d.sum() for d in done]
            return np.stack(done).reshape(x.shape)
        """,
        """
        def softmax(x):
            # subtract, exponentiate, share out
            if isinstance(x, torch.Tensor):
                e = (x - x.amax(-1, keepdim=True)).exp()
                return e.div(e.sum(-1, keepdim=True))
            return softmax(torch.from_numpy(x)).numpy()
        """,
    ],
    "attention": [
        """
        def attention(query, key, value):
            d = key.shape[-1]
            logits = np.matmul(query, key.swapaxes(-2, -1))
            logits *= d ** -0.5
            probabilities = softmax(logits)
            return np.matmul(probabilities, value)
        """,
        """
        def attention(query, key, value):
            q = query / math.sqrt(query.size(-1))
            w = softmax(torch.matmul(q, key.mT))
            return torch.matmul(w, value)
        """,
        """
        def attention(query, key, value):
            sims = np.einsum('...qd,...kd->...qk', query, key)
            p = softmax(sims / np.sqrt(query.shape[-1]))
            return np.einsum('...qk,...kv->...qv', p, value)
        """,
        """
        def attention(query, key, value):
            outputs = []
            for i in range(query.shape[-2]):
                q = query[..., i : i + 1, :]
                similarity = (q * key).sum(-1) / query.shape[-1] ** 0.5
                p = softmax(similarity)
                outputs.append((p[..., None] * value).sum(-2))
            return torch.stack(outputs, -2)
        """,
        """
        def attention(query, key, value):
            temperature = float(query.shape[-1]) ** 0.5
            scores = torch.bmm(query, key.transpose(1, 2)).div(temperature)
            return softmax(scores).bmm(value)
        """,
    ],
    "masked_attention": [
        """
        def masked_attention(query, key, value, mask):
            logits = query @ key.mT / query.shape[-1] ** 0.5
            logits = torch.where(mask, logits, -torch.inf)
            p = torch.softmax(logits, -1)
            p = torch.where(torch.isnan(p), torch.zeros_like(p), p)
            return p @ value
        """,
        """
        def masked_attention(query, key, value, mask):
            s = np.matmul(query, np.moveaxis(key, -1, -2)) / key.shape[-1] ** 0.5
            s = s + np.where(mask, 0.0, -np.inf)
            top = np.nan_to_num(s.max(-1, keepdims=True), neginf=0.0)
            e = np.exp(s - top)
            z = e.sum(-1, keepdims=True)
            z[z == 0] = 1
            return (e / z) @ value
        """,
        """
        def masked_attention(query, key, value, mask):
            sims = np.einsum('...qd,...kd->...qk', query, key) / np.sqrt(query.shape[-1])
            e = np.exp(sims - np.max(np.where(mask, sims, -1e30), axis=-1, keepdims=True)) * mask
            return np.einsum('...qk,...kv->...qv', e, value) / np.maximum(e.sum(-1, keepdims=True), 1e-30)
        """,
        """
        def masked_attention(query, key, value, mask):
            out = np.zeros(query.shape[:-1] + (value.shape[-1],))
            blind = ~np.any(mask, axis=-1)
            safe = np.logical_or(mask, blind[..., None])
            bias = np.zeros(safe.shape)
            bias[~safe] = -np.inf
            out += softmax(query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1]) + bias) @ value
            out[np.broadcast_to(blind, out.shape[:-1])] = 0
            return out
        """,
        """
        def masked_attention(query, key, value, mask):
            dots = torch.einsum('...id,...jd->...ij', query, key) * key.shape[-1] ** -0.5
            dots.masked_fill_(mask.logical_not(), float('-inf'))
            lonely = mask.sum(-1, keepdim=True).eq(0)
            probabilities = softmax(dots.masked_fill(lonely, 0.0))
            return (probabilities @ value).masked_fill(lonely, 0.0)
        """,
    ],
}
APART = {
    name: [styles[name] for styles in (RIGHT_NUMPY, RIGHT_TORCH, RIGHT_EINSUM, RIGHT_LOOPS)]
    + [textwrap.dedent(source) for source in more]
    for name, more in _MORE.items()
}


# In a way of its own: nobody else of the class writes it.
ORIGINAL = {
    "softmax": """
def softmax(x):
    if x.shape[-1] == 0:
        return np.array(x, copy=True)
    highest = functools.reduce(np.maximum, np.moveaxis(x, -1, 0))
    lowered = np.subtract(x, np.expand_dims(highest, -1))
    powers = math.e ** lowered
    normaliser = functools.reduce(np.add, np.moveaxis(powers, -1, 0))
    return powers * (1.0 / np.expand_dims(normaliser, -1))
""",
    "attention": """
def attention(query, key, value):
    answers = []
    scale = 1.0 / np.sqrt(np.shape(query)[-1])
    for row in np.moveaxis(query, -2, 0):
        agreement = np.sum(key * np.expand_dims(row, -2), axis=-1) * scale
        portions = softmax(agreement)
        answers.append(np.sum(np.expand_dims(portions, -1) * value, axis=-2))
    return np.stack(answers, axis=-2)
""",
    "masked_attention": """
def masked_attention(query, key, value, mask):
    answers = []
    scale = 1.0 / np.sqrt(np.shape(query)[-1])
    allowed = np.broadcast_to(mask, np.shape(query)[:-1] + (np.shape(key)[-2],))
    for number, row in enumerate(np.moveaxis(query, -2, 0)):
        open_here = allowed[..., number, :]
        agreement = np.sum(key * np.expand_dims(row, -2), axis=-1) * scale
        agreement = np.where(open_here, agreement, np.min(agreement) - 1e6)
        portions = np.multiply(softmax(agreement), open_here)
        answers.append(np.sum(np.expand_dims(portions, -1) * value, axis=-2))
    return np.stack(answers, axis=-2)
""",
}


def independent(students: int, seed: int = 0, without: int = -1) -> dict[str, dict[str, str]]:
    """A class in which everybody wrote alone, in one of nine ways for each question; `without` leaves one way out."""
    draw = random.Random(seed)
    ways = {name: [way for i, way in enumerate(all_ways) if i != without] for name, all_ways in APART.items()}
    return {f"s{i:03}": {name: draw.choice(ways[name]) for name in ways} for i in range(students)}


# --- what people do to a copy ----------------------------------------------------------------------------------------


def renamed(source: str) -> str:
    """All own names replaced."""
    tree = ast.parse(source)
    own = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    new = {name: f"variable_{i}" for i, name in enumerate(sorted(own))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in new:
            node.id = new[node.id]
        if isinstance(node, ast.arg):
            node.arg = new[node.arg]
    return ast.unparse(tree)


def commented(source: str) -> str:
    """Comments, a docstring and other constants."""
    lines = [f"{line}  # step {i}" if line.strip() else line for i, line in enumerate(source.split("\n"))]
    return "\n".join(lines).replace("1e-30", "1e-20").replace("0.5", "0.50")


def padded(source: str) -> str:
    """Dead code between all statements of each function."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [one for step in node.body for one in (*ast.parse("unused = 3\nassert unused").body, step)]
    return ast.unparse(ast.fix_missing_locations(tree))


def reordered(source: str) -> str:
    """Functions and the independent statements at the top of each in another order."""
    tree = ast.parse(source)
    tree.body.reverse()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and len(node.body) > 2:
            node.body[0], node.body[1] = node.body[1], node.body[0]
    return ast.unparse(tree)


def split(source: str) -> str:
    """The first half of each function becomes a helper."""
    tree = ast.parse(source)
    made: list[ast.stmt] = []
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef) and len(node.body) > 2:
            half = len(node.body) // 2
            helper = ast.parse(f"def part_{place}(*inputs):\n    pass").body[0]
            assert isinstance(helper, ast.FunctionDef)
            helper.body = [*node.body[:half], *ast.parse("return locals()").body]
            node.body = [*ast.parse(f"parts = part_{place}()").body, *node.body[half:]]
            made.append(helper)
        made.append(node)
    return ast.unparse(ast.fix_missing_locations(ast.Module(made, [])))


def other_loops(source: str) -> str:
    """`for` loops written as `while` loops."""

    class Loops(ast.NodeTransformer):
        def visit_For(self, node: ast.For) -> list[ast.stmt]:
            self.generic_visit(node)
            things = ast.unparse(node.iter)
            new = ast.parse(f"walk = iter({things})\nwhile True:\n    {ast.unparse(node.target)} = next(walk)").body
            loop = new[1]
            assert isinstance(loop, ast.While)
            loop.body += node.body
            return new

    return ast.unparse(ast.fix_missing_locations(Loops().visit(ast.parse(source))))


def all_of_it(source: str) -> str:
    """Everything at once."""
    for change in (other_loops, padded, renamed, commented):
        source = change(source)
    return source


CHANGES: tuple[Callable[[str], str], ...] = (
    *(renamed, commented, padded, reordered, split, other_loops, all_of_it),
)  # fmt: skip
