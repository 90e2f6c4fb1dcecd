"""Where the keys come from: from the tokens themselves and a cache of those before, or from a memory projected once."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from attnkit.nn.cache import CrossCache, LayerCache
from attnkit.nn.inputs import check_cache
from attnkit.nn.recording import Recordable
from attnkit.positions.base import Position

Keys = Float[Tensor, "batch kv_heads k_len d"]
Values = Float[Tensor, "batch kv_heads k_len d_v"]


class CachedAttention(Recordable):
    """Attention that projects keys and values, and caches what it projected."""

    position: Position | None

    def project(self, source: Tensor, value_source: Tensor | None) -> tuple[Keys, Values]:
        """Keys and values as they are cached, not rotated; values from `source` too when there is no other."""
        raise NotImplementedError

    def rotate_key(self, key: Keys, positions: Int[Tensor, "#batch k_len"]) -> Keys:
        """The keys, turned by their positions."""
        return key if self.position is None else self.position.rotate(key, positions)

    def own_keys(
        self,
        x: Float[Tensor, "batch q_len d_model"],
        value_source: Float[Tensor, "batch q_len d_value_input"] | None,
        at: Int[Tensor, "#batch q_len"],
        cache: LayerCache | None,
    ) -> tuple[Keys, Values, Int[Tensor, "#batch q_len"], Int[Tensor, "#batch k_len"]]:
        """Keys and values of all tokens that x attends to, the positions of x's own, and those of the keys."""
        key, value = self.project(x, value_source)
        if cache is None:
            return self.rotate_key(key, at), value, at, at
        if cache.rotated:
            key, value, key_at = cache.append(self.rotate_key(key, at), value, at)
            return key, value, at, key_at
        key, value, key_at = cache.append(key, value, at)
        return self.rotate_key(key, key_at), value, key_at[:, key_at.shape[1] - x.shape[1] :], key_at

    def memory_keys(
        self,
        memory: Float[Tensor, "batch k_len d_key_input"],
        value_source: Float[Tensor, "batch k_len d_value_input"] | None,
        memory_at: Int[Tensor, "#batch k_len"],
        cache: CrossCache | None,
    ) -> tuple[Keys, Values]:
        """Keys and values of the memory, from the cache once they are there."""
        if cache is not None and cache.filled:
            return check_cache(cache, memory)
        key, value = self.project(memory, value_source)
        key = self.rotate_key(key, memory_at)
        if cache is not None:
            cache.store(key, value)
        return key, value
