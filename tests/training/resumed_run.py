"""A run that a test repeats in pieces, each in a process of its own: `python resumed_run.py FOLDER FROM TO`.

Dropout, shuffled buckets, accumulation, clipping and a schedule; FROM 0 starts anew, another resumes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attnkit.training import Buckets, CrossEntropy, Total, Trainer, adamw, cosine, pad, resume, save
from tests.training.tools import VOCAB, Model

# Inside a test beartype draws from Python's generator, to choose the elements that it checks; so only a process of its
# own can be held to that one.
ALONE = __name__ == "__main__"


def noisy(model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> Total:
    """Draws from NumPy's and Python's generators too."""
    total = CrossEntropy(smoothing=0.1)(model, batch)
    noise = np.random.rand() + (random.random() if ALONE else 0.0)
    return Total(total.sum * (1 + 0.1 * noise), total.tokens)


def collate(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    ids = pad(rows, value=-100).ids
    return ids[:, :-1].clamp(min=0), ids[:, 1:]


def batches() -> Buckets[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(0)
    rows = [rng.integers(VOCAB, size=rng.integers(2, 9)).tolist() for _ in range(50)]
    return Buckets(rows, list(map(len, rows)), batch=4, seed=5, collate=collate)


def trainer() -> Trainer:
    model = Model(dropout=0.4, dtype=torch.float32)
    return Trainer(
        model,
        noisy,
        adamw(model, 0.05, decay=0.1, spare=("bias",)),
        schedule=cosine(20, warmup=4),
        accumulate=3,
        clip=0.5,
        seed=7,
    )


def run(folder: Path, start: int, end: int) -> Trainer:
    """Updates start + 1 to end; the checkpoint is `folder/END.safetensors`."""
    made = trainer()
    if start:
        torch.manual_seed(12345)  # what a process happens to have drawn before must not matter
        resume(made, folder / f"{start}.safetensors")
    made.fit(batches(), steps=end - start, progress=False)
    save(made, folder / f"{end}.safetensors")
    return made


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
