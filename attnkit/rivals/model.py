"""A whole model around a core: tokens in, logits out at every token, so that any core can be held to any task."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from attnkit.nn import Embedding
from attnkit.rivals.cores import Core


class SequenceModel(nn.Module):
    """embedding -> core -> norm -> linear: the same but for the core.

    A token may be told by several numbers, such as a key and its value: the sum of their embeddings, as BERT adds
    those of word and sentence. `pad` (0) adds nothing.

    >>> import torch
    >>> from attnkit.rivals import Recurrent, SequenceModel
    >>> model = SequenceModel(10, 3, 8, Recurrent(8, hidden=12))
    >>> model(torch.tensor([[5, 6, 7]])).shape, model(torch.tensor([[[5, 6], [7, 0]]])).shape
    (torch.Size([1, 3, 3]), torch.Size([1, 2, 3]))
    """

    def __init__(self, vocab: int, outputs: int, d_model: int, core: Core) -> None:
        super().__init__()
        self.embedding = Embedding(vocab, d_model, scale=True, pad=0)
        self.core = core
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, outputs)

    def forward(
        self,
        ids: Int[Tensor, "batch len"] | Int[Tensor, "batch len parts"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch len outputs"]:
        """Logits at each token; `lengths` counts the real tokens of each sequence, all unless given."""
        x = self.embedding(ids.flatten(1)).unflatten(1, ids.shape[1:])
        x = x.sum(2) if ids.ndim == 3 else x
        return self.head(self.norm(self.core(x, lengths)))
