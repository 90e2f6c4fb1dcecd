"""Ways to let the tokens of a sequence know of each other, behind one interface: recurrence, convolution, attention.

A core maps (batch, len, d_model) to the same shape. What it does between two tokens is all in which they differ; each
layer of a rival is x + out(mix(norm(x))), pre-norm and residual, as a Transformer's sub-layers are. A `causal` core
lets no token know of a later one. Sequences are padded on the right: a core never lets a real token know of padding.
"""

from __future__ import annotations

from typing import Literal, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnkit.masks import Causal, Mask, Padding
from attnkit.nn import Config, Encoder
from attnkit.positions.base import Position
from attnkit.variants.additive import AdditiveAttention

Cell = Literal["rnn", "gru", "lstm"]

CELLS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Core(nn.Module):
    """What every core is asked: the tokens, each knowing of others. `steps` says how many must be done one by one."""

    causal: bool

    def forward(
        self, x: Float[Tensor, "batch len d_model"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch len d_model"]:
        """`lengths` counts the real tokens of each sequence, all unless given. Outputs at padding mean nothing."""
        raise NotImplementedError  # each core says it for itself

    def steps(self, length: int) -> int:
        """How many operations wait for each other when `length` tokens are read, whatever the number of processors."""
        raise NotImplementedError  # each core says it for itself


class Recurrent(Core):
    """Read from left to right and keep a state of fixed size: h_t = cell(x_t, h_{t-1}).

    - `cell`: "rnn", tanh(W x_t + U h_{t-1} + b) (Elman's network); "gru" (Cho et al. 2014, arXiv:1406.1078); "lstm"
      (Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735), as torch has it, with a forget gate.
    - `hidden`: numbers in the state, or in each of both states of a core that is not causal: it also reads backwards.

    >>> Recurrent(8, hidden=12, cell="gru", causal=True)(torch.ones(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    hidden: int
    cell: str
    norms: nn.ModuleList
    cells: nn.ModuleList
    outs: nn.ModuleList

    @no_type_check  # wrong arguments are refused in words
    def __init__(self, d_model: int, hidden: int, layers: int = 1, *, cell: Cell = "gru", causal: bool = False) -> None:
        super().__init__()
        check_counts(d_model=d_model, hidden=hidden, layers=layers)
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}; it must be one of {', '.join(map(repr, CELLS))}")
        self.hidden, self.cell, self.causal = hidden, cell, causal
        ways = 1 if causal else 2
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(layers))
        self.cells = nn.ModuleList(
            CELLS[cell](d_model, hidden, batch_first=True, bidirectional=not causal) for _ in range(layers)
        )
        self.outs = nn.ModuleList(nn.Linear(ways * hidden, d_model) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "batch len d_model"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch len d_model"]:
        for norm, cell, out in zip(self.norms, self.cells, self.outs, strict=True):
            x = x + out(self._read(cell, norm(x), lengths))
        return x

    def _read(self, cell: nn.Module, x: Tensor, lengths: Tensor | None) -> Float[Tensor, "batch len states"]:
        """All states. Read forwards, padding comes too late to matter; read backwards, it would come first."""
        if lengths is None or self.causal:
            return cell(x)[0]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(cell(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def steps(self, length: int) -> int:
        return length * len(self.cells)


class Convolutional(Core):
    """Let each token see its neighbours, layer by layer: a 1-D convolution of `width` tokens, ReLU, and a projection.

    `dilation` multiplies the gap between the tokens that a layer sees at each layer: 1 is a plain stack, 2 doubles it
    (Bai et al. 2018, arXiv:1803.01271). A causal one sees `width` tokens up
    to its own, any other as many on both sides, and its width is odd.

    >>> core = Convolutional(8, hidden=12, layers=3, width=3, dilation=2)
    >>> core.reach
    7
    """

    width: int
    gaps: list[int]
    norms: nn.ModuleList
    convolutions: nn.ModuleList
    outs: nn.ModuleList

    @no_type_check  # wrong arguments are refused in words
    def __init__(
        self, d_model: int, hidden: int, layers: int = 1, *, width: int = 3, dilation: int = 1, causal: bool = False
    ) -> None:
        super().__init__()
        check_counts(d_model=d_model, hidden=hidden, layers=layers, width=width, dilation=dilation)
        if not causal and width % 2 == 0:
            raise ValueError(f"width is {width}; a core that is not causal sees equally far both ways: it must be odd")
        self.causal, self.width = causal, width
        self.gaps = [dilation**i for i in range(layers)]
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(layers))
        self.convolutions = nn.ModuleList(nn.Conv1d(d_model, hidden, width, dilation=gap) for gap in self.gaps)
        self.outs = nn.ModuleList(nn.Linear(hidden, d_model) for _ in range(layers))

    @property
    def reach(self) -> int:
        """How many tokens away, on each side that it sees, the farthest is that can matter: the receptive field."""
        one_way = self.width - 1 if self.causal else (self.width - 1) // 2
        return one_way * sum(self.gaps)

    def forward(
        self, x: Float[Tensor, "batch len d_model"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch len d_model"]:
        real = None if lengths is None else torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        for gap, norm, convolution, out in zip(self.gaps, self.norms, self.convolutions, self.outs, strict=True):
            seen = norm(x) if real is None else norm(x) * real[..., None]  # padding is as what lies beyond the end: 0
            lacking = (self.width - 1) * gap
            around = (lacking, 0) if self.causal else (lacking // 2, lacking // 2)
            x = x + out(convolution(nn.functional.pad(seen.mT, around)).mT.relu())
        return x

    def steps(self, length: int) -> int:
        return len(self.gaps)


class Attentive(Core):
    """Let each token look at every other: the encoder of `attnkit.nn`, with a mask for causality and padding.

    `mask` is laid over these two: `Attentive(..., mask=Window(8, 8))`. `position` as in `attnkit.nn.Encoder`; one that
    acts on the embedding is added before the first layer.

    >>> Attentive(8, hidden=32, layers=2, heads=2)(torch.ones(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        hidden: int,
        layers: int = 1,
        *,
        heads: int = 1,
        causal: bool = False,
        position: Position | None = None,
        mask: Mask | None = None,
    ) -> None:
        super().__init__()
        self.causal, self.mask = causal, mask
        config = Config(d_model=d_model, d_hidden=hidden, layers=layers, heads=heads)
        self.embed = position if position is not None and position.acts_on == "embedding" else None
        self.encoder = Encoder(config, None if self.embed is position else position)

    def forward(
        self, x: Float[Tensor, "batch len d_model"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch len d_model"]:
        if self.embed is not None:
            x = self.embed.embed(x, torch.arange(x.shape[1], device=x.device)[None])
        return self.encoder(x, mask=both(self.mask, self.causal, lengths))

    def steps(self, length: int) -> int:
        return len(self.encoder.layers)


class Remembering(Core):
    """Another core, and additive attention over all that it has said: what Bahdanau et al. 2015 gave recurrent models.

    out_t = h_t + project(sum_j a_tj h_j), with a_t the softmax of v . tanh(W h_t + U h_j) (arXiv:1409.0473). The
    states of the inner core are the memory: none is overwritten by the next.

    >>> Remembering(Recurrent(8, hidden=12, causal=True), 8, hidden=10)(torch.ones(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, inner: Core, d_model: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.causal = inner, inner.causal
        self.attention = AdditiveAttention(d_model, d_model, hidden)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self, x: Float[Tensor, "batch len d_model"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch len d_model"]:
        states = self.inner(x, lengths)
        found, _ = self.attention(states, states, states, mask=both(None, self.causal, lengths))
        return states + self.out(found)

    def steps(self, length: int) -> int:
        return self.inner.steps(length) + 1


def both(mask: Mask | None, causal: bool, lengths: Int[Tensor, " batch"] | None) -> Mask | None:
    """A mask, causality and padding in one; None where nothing is hidden."""
    parts = [mask, Causal() if causal else None, None if lengths is None else Padding(lengths)]
    whole = None
    for part in parts:
        whole = part if whole is None else whole if part is None else whole & part
    return whole


def check_counts(**counts: int) -> None:
    """Each is a whole number of at least 1. Raises ValueError naming the one that is not."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
