"""Configurations: what is refused and how, through JSON and back, and by inheritance."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import json
from dataclasses import dataclass

import pytest

from attnkit.nn import Config

# Each bad setting, and the words that the message must hold.
REFUSED: list[tuple[dict, list[str]]] = [
    ({"d_model": 0}, ["d_model is 0", "at least 1"]),
    ({"d_model": 64.0}, ["d_model is 64.0", "whole number"]),
    ({"d_hidden": -1}, ["d_hidden is -1"]),
    ({"layers": True}, ["layers is True", "whole number"]),
    ({"heads": 7}, ["heads is 7", "divide d_model = 512", "d_head"]),
    ({"heads": "8"}, ["heads is '8'"]),
    ({"kv_heads": 3}, ["kv_heads is 3", "divide heads = 8"]),
    ({"kv_heads": 0}, ["kv_heads is 0", "or None"]),
    ({"kv_heads": 16}, ["kv_heads is 16", "divide heads = 8"]),
    ({"d_head": 0}, ["d_head is 0", "or None"]),
    ({"activation": "swish"}, ["activation is 'swish'", "'silu'", "'swiglu'"]),
    ({"norm": "batch"}, ["norm is 'batch'", "'layer', 'rms'"]),
    ({"eps": 0.0}, ["eps is 0.0", "above 0"]),
    ({"eps": float("nan")}, ["eps is nan"]),
    ({"norm_first": 1}, ["norm_first is 1", "True, False"]),
    ({"bias": None}, ["bias is None", "True, False"]),
    ({"qk_norm": "yes"}, ["qk_norm is 'yes'"]),
    ({"dropout": 1.0}, ["dropout is 1.0", "below 1"]),
    ({"dropout": -0.1}, ["dropout is -0.1", "at least 0"]),
    ({"dropout": None}, ["dropout is None", "probability"]),
    ({"attention_dropout": 1}, ["attention_dropout is 1", "or None"]),
    ({"backend": "cuda"}, ["backend is 'cuda'", "'auto'", "'naive'"]),
    ({"backend": None}, ["backend is None", "'auto'"]),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_bad_settings_are_named(settings: dict, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Config: ") as error:
        Config(**settings)
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.parametrize(
    "settings", [{"heads": 7, "d_head": 64}, {"kv_heads": 1}, {"dropout": 0}, {"attention_dropout": 0.5}, {"eps": 1}]
)
def test_good_settings_pass(settings: dict) -> None:
    assert dataclasses.asdict(Config(**settings)).items() >= settings.items()


def test_through_json_and_back() -> None:
    config = Config(d_model=64, heads=4, kv_heads=2, norm="rms", attention_dropout=0.1)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict({}) == Config()


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Config has no field 'head'; did you mean 'heads'\?"):
        Config.from_dict({"head": 4})
    with pytest.raises(ValueError, match=r"no field 'zzz'; it has d_model, heads"):
        Config.from_dict({"zzz": 4})


def test_it_cannot_be_changed_only_replaced() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_model = 64
    with pytest.raises(ValueError, match="heads is 3"):
        dataclasses.replace(config, heads=3)
    assert dataclasses.replace(config, layers=2).layers == 2


@dataclass(frozen=True, kw_only=True)
class Larger(Config):
    vocab: int
    d_model: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("vocab")


def test_subclasses_add_fields_and_checks() -> None:
    config = Larger(vocab=10)
    assert Larger.from_dict(config.to_dict()) == config
    assert config.d_model == 64
    with pytest.raises(ValueError, match="Larger: vocab is 0"):
        Larger(vocab=0)
    with pytest.raises(ValueError, match="Larger: heads is 5"):
        Larger(vocab=10, heads=5)
    with pytest.raises(ValueError, match="Larger has no field 'vocabulary'; did you mean 'vocab'"):
        Larger.from_dict({"vocabulary": 10})


@pytest.mark.parametrize("name", ["config", "norm", "feedforward", "embedding", "encoder", "decoder", "transformer"])
def test_the_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"attnkit.nn.{name}"))
    assert result.attempted > 1
    assert not result.failed
