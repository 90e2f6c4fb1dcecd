"""Training: any module, any loss that returns (sum, tokens), and batches that can be taken up where they were left.

losses       cross-entropy with label smoothing, as a sum and a count; perplexity
schedules    noam, cosine, linear, constant, one_cycle: step (from 1) -> factor of the learning rate
optim        AdamW, and what weight decay leaves alone
batches      one long text in windows, items in buckets by length; packing: documents into rows; masking: BERT's
loop         Trainer: accumulation, clipping, mixed precision, evaluation, Ctrl-C
checkpoint   save and resume, bit for bit on the CPU; average_checkpoints
tensorboard  TensorBoard, for Trainer(log=...)
recipes      copy, reverse, number names: whole trainings; `python -m attnkit.training.recipes`
"""

from attnkit.training.batches import Buckets, Epochs, Padded, Stream, pad
from attnkit.training.checkpoint import Checkpoints, Damaged, average_checkpoints, latest, resume, save
from attnkit.training.history import History
from attnkit.training.loop import NonFinite, Trainer
from attnkit.training.losses import IGNORE, CrossEntropy, Total, cross_entropy, perplexity
from attnkit.training.masking import Corrupted, corrupt
from attnkit.training.optim import adamw, parameter_groups
from attnkit.training.packing import Packed, pack
from attnkit.training.schedules import Schedule, constant, cosine, linear, noam, one_cycle, scheduler
from attnkit.training.tensorboard import TensorBoard

__all__ = [
    "IGNORE",
    "Buckets",
    "Checkpoints",
    "Corrupted",
    "CrossEntropy",
    "Damaged",
    "Epochs",
    "History",
    "NonFinite",
    "Packed",
    "Padded",
    "Schedule",
    "Stream",
    "TensorBoard",
    "Total",
    "Trainer",
    "adamw",
    "average_checkpoints",
    "constant",
    "corrupt",
    "cosine",
    "cross_entropy",
    "latest",
    "linear",
    "noam",
    "one_cycle",
    "pack",
    "pad",
    "parameter_groups",
    "perplexity",
    "resume",
    "save",
    "scheduler",
]
