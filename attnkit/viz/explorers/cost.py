"""What a model costs: parameters, operations, bytes of the cache. The formulas are those of `attnkit.nn.cost`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, no_type_check

from attnkit.viz.explorer import Explorer
from attnkit.viz.tables import Table

if TYPE_CHECKING:
    from attnkit.nn import Config
    from attnkit.nn.cost_config import CostConfig

LENGTH = 4096


def presets() -> dict[str, CostConfig]:
    """Published sizes to start from."""
    from attnkit.models import GPTConfig, LlamaConfig
    from attnkit.nn.cost_config import CostConfig

    llama = LlamaConfig()
    return {
        "Llama 3 8B (2024)": CostConfig.of(replace(llama, kv_heads=8, d_hidden=14336, vocab=128256)),
        "Mistral 7B (2023)": CostConfig.of(replace(llama, kv_heads=8, d_hidden=14336, window=4096)),
        "Llama 2 7B (2023)": CostConfig.of(llama),
        "GPT-2 (2019)": CostConfig.of(GPTConfig()),
    }


@no_type_check
def explore_cost(config: Config | None = None, *, length: int = LENGTH, title: str = "") -> Explorer:
    """A calculator of what a decoder costs: parameters, operations, and the cache with and without shared heads.

    - `config`: of a `GPT` or a `Llama`, or a `CostConfig` without source; it comes first, before published sizes.
    - `length`: tokens at first.

    Raises ValueError for a length below 1, and for a config that `attnkit.nn.cost` cannot count or that has a source.
    """
    from attnkit.nn.cost import cost, quadratic_from
    from attnkit.nn.cost_config import CostConfig

    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= 2**20:
        raise ValueError(f"length is {length!r}; it should be a whole number from 1 to {2**20}")
    own = {} if config is None else {"yours": CostConfig.of(config)}
    if own and own["yours"].source_vocab:
        raise ValueError(f"config is a {type(config).__name__} with a source; the calculator shows decoders alone")
    found = {**own, **presets()}
    first = next(iter(found.values()))
    read, step = cost(first, length, last=True), cost(first, 1, cached=length - 1)
    alt = (
        f"A calculator of parameters, operations and cache bytes; at first a model of {read.total_parameters:,} "
        f"parameters that has read {length:,} tokens. Change any size."
    )
    rows = [
        ["parameters", f"{read.total_parameters:,}"],
        ["operations to read all", f"{read.total_flops:.3g}"],
        ["operations for one more token", f"{step.total_flops:.3g}"],
        ["cache in bytes", f"{read.cache_bytes:,}"],
        ["scores overtake the rest from", f"{quadratic_from(first):,} tokens" if quadratic_from(first) else "never"],
    ]
    table = Table(["what", f"{next(iter(found))}, {length:,} tokens, 2 bytes a number"], rows)
    spec = {"presets": [[name, one.to_dict()] for name, one in found.items()]}
    return Explorer("cost", spec, alt=alt, fallback=table, title=title, state={"length": length})
