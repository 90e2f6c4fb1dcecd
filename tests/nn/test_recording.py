"""Recording: the maps are the weights of that very forward pass, and the model does not notice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnkit.masks import Causal, Padding
from attnkit.nn import CrossCache, DynamicCache, LatentAttention, MultiHeadAttention, causal, recording
from attnkit.positions import Rotary, Shaw

D, HEADS, BATCH, LEN = 24, 4, 2, 6
LENGTHS = torch.tensor([6, 4])
TIGHT = {"rtol": 0, "atol": 1e-12}


class Model(nn.Module):
    """Attention in several places: listed, nested, shared, to a memory, latent."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        rotary = Rotary(D // HEADS)
        self.layers = nn.ModuleList(MultiHeadAttention(D, HEADS, position=rotary, dropout=dropout) for _ in range(2))
        shaw = Shaw(D // HEADS, 2, values=True)
        self.deep = nn.Sequential(nn.Sequential(MultiHeadAttention(D, HEADS, position=shaw)))
        self.cross = MultiHeadAttention(D, HEADS, kv_heads=1, sink=True, backend="sdpa" if dropout else "auto")
        self.latent = LatentAttention(D, HEADS, d_latent=8, d_head=6, d_rope=4)
        self.again = self.latent
        self.unused = MultiHeadAttention(D, HEADS)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x, mask=Causal() & Padding(LENGTHS))
        x = x + self.deep(x)
        x = x + self.cross(x, memory) if self.cross.backend == "auto" else x
        return self.again(x + self.latent(x))


def model_and_inputs(**options) -> tuple[Model, Tensor, Tensor]:
    torch.manual_seed(0)
    model = Model(**options).double()
    return model, torch.randn(BATCH, LEN, D).double(), torch.randn(BATCH, 9, D).double()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_every_attention_anywhere_is_heard_and_none_notices(grad: bool, training: bool) -> None:
    model, x, memory = model_and_inputs()
    model.train(training)
    with torch.set_grad_enabled(grad):
        want = model(x, memory)
        with recording(model) as maps:
            got = model(x, memory)
    torch.testing.assert_close(got, want, **TIGHT)
    assert got.requires_grad == grad
    assert list(maps) == ["layers.0", "layers.1", "deep.0.0", "cross", "latent"]
    assert [len(calls) for calls in maps.values()] == [1, 1, 1, 1, 2]
    assert maps["cross"][0].shape == (BATCH, HEADS, LEN, 9)
    assert all(w.shape[:3] == (BATCH, HEADS, LEN) and not w.requires_grad for calls in maps.values() for w in calls)
    if grad:
        wanted = torch.autograd.grad(want.sum(), model.layers[0].query.weight)
        torch.testing.assert_close(torch.autograd.grad(got.sum(), model.layers[0].query.weight), wanted, **TIGHT)


def test_maps_are_the_weights_of_that_pass_in_every_layer() -> None:
    """Each attention is called again on the inputs it had, masks and all: the usual error is to leave those out."""
    model, x, memory = model_and_inputs()
    calls: dict[str, tuple] = {}

    def note(name: str, args: tuple, options: dict) -> None:
        calls.setdefault(name, (args, options))

    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention | LatentAttention):
            module.register_forward_pre_hook(lambda _, *call, name=name: note(name, *call), with_kwargs=True)
    with recording(model) as maps:
        model(x, memory)
    for name, recorded in maps.items():
        args, options = calls[name]
        weights = model.get_submodule(name)(*args, **options, aux=("weights",))[1].weights
        torch.testing.assert_close(recorded[0], weights, **TIGHT)
    first = maps["layers.1"][0]
    assert not first.triu(1).any()
    assert not first[1, :, :, 4:].any()
    torch.testing.assert_close(first.sum(-1), torch.ones_like(first.sum(-1)), **TIGHT)


def test_a_named_backend_that_gives_no_weights_is_no_obstacle() -> None:
    module, x = MultiHeadAttention(D, HEADS, backend="sdpa").double(), torch.randn(BATCH, LEN, D).double()
    with recording(module) as maps:
        got = module(x)
    torch.testing.assert_close(got, module(x), **TIGHT)
    torch.testing.assert_close(maps[""][0] @ torch.ones(LEN, 1).double(), torch.ones(BATCH, HEADS, LEN, 1).double())


def test_dropout_is_drawn_as_it_would_have_been() -> None:
    model, x, memory = model_and_inputs(dropout=0.3)
    torch.manual_seed(4)
    want = model(x, memory)
    torch.manual_seed(4)
    with recording(model) as maps:
        got = model(x, memory)
    torch.testing.assert_close(got, want, **TIGHT)
    rows = maps["layers.0"][0].sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows), **TIGHT)  # weights before dropout


def test_what_the_caller_asked_for_is_what_the_caller_gets() -> None:
    module, x = MultiHeadAttention(D, HEADS), torch.randn(BATCH, LEN, D)
    with recording(module) as maps:
        assert isinstance(module(x), Tensor)
        _, aux = module(x, aux=("lse",))
        assert aux.weights is None
        assert aux.lse is not None
        _, aux = module(x, aux=("weights",))
    assert torch.equal(aux.weights, maps[""][2])


def test_recordings_nest_and_end() -> None:
    """Also across each other, of a part and of the whole; and an error inside ends them."""
    model, x, memory = model_and_inputs()
    with recording(model) as outer:
        model(x, memory)
        with recording(model.layers[0]) as inner, recording(model) as second:
            model(x, memory)
        model(x, memory)
    model(x, memory)
    assert (len(outer["layers.0"]), len(inner[""]), len(second["layers.0"])) == (3, 1, 1)
    first, second = recording(model), recording(model)
    early, late = first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    model(x, memory)
    second.__exit__(None, None, None)
    assert (early, len(late["cross"])) == ({}, 1)
    with pytest.raises(ZeroDivisionError), recording(model):
        raise ZeroDivisionError
    assert not any(m.recorders for m in model.modules() if hasattr(m, "recorders"))


def test_steps_of_decoding_are_recorded_one_by_one() -> None:
    module, x = MultiHeadAttention(D, HEADS, position=Rotary(D // HEADS)).double(), torch.randn(1, LEN, D).double()
    memory, cross = torch.randn(1, 3, D).double(), CrossCache()
    cache = DynamicCache()
    with recording(module) as maps:
        for t in range(LEN):
            module(x[:, t : t + 1], mask=causal(None, 1, cache), cache=cache)
        module(x, memory, cache=cross)
    whole = module(x, mask=Causal(), aux=("weights",))[1].weights
    for t, row in enumerate(maps[""][:LEN]):
        assert row.shape == (1, HEADS, 1, t + 1)
        torch.testing.assert_close(row[:, :, 0], whole[:, :, t, : t + 1], **TIGHT)
    assert maps[""][LEN].shape == (1, HEADS, LEN, 3)


def test_a_model_without_attention_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"model is Linear.*no attention"), recording(nn.Linear(2, 2)):
        pass
