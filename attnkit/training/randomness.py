"""The state of every random generator that a training step may draw from: kept, put back, left undisturbed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch, on every device, Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> dict[str, Any]:
    """torch's generators (CPU, and each CUDA device when CUDA is in use), Python's and NumPy's global ones."""
    version, words, gauss = random.getstate()
    numbers: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = numbers
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `random_state` gave; CUDA devices that are not there now are passed over."""
    torch.set_rng_state(state["torch"])
    for index, device_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state, index)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is drawn inside leaves the generators as they were: looking at a model must not change its training."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
