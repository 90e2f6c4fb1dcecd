"""A trained Transformer that runs inside the page: type a number, watch it being read out in French, head by head.

Its weights (23,648 numbers, rounded to float16) lie in `attnkit/viz/weights`; `attnkit.authoring.explorer_weights`
makes them. The script computes in float64 what `attnkit.models.Translator` computes in float32: a test compares logits
and every attention map.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, no_type_check

import numpy as np
import torch

from attnkit.viz.explorer import Explorer, pack
from attnkit.viz.tables import Table

if TYPE_CHECKING:
    from attnkit.models import Translator

WEIGHTS = Path(__file__).parents[1] / "weights"
NAME = "number_names"
BOS, EOS = 1, 2
LONGEST = 20  # tokens that the decoder writes at most, the end included: 497497 takes them all


@dataclass(frozen=True)
class NumberTranslator:
    """The model as it runs in the page, its vocabularies by id, and how it was made.

    `source` and `target` name each id; the first five are padding, beginning, end, unknown, mask. A target token
    holds the space before it.
    """

    model: Translator
    source: list[str]
    target: list[str]
    stamp: dict[str, Any]

    @no_type_check
    def translate(self, number: int | str) -> str:
        """The number in French words, as the model writes it greedily, right or wrong.

        >>> number_translator().translate(92)
        'quatre-vingt-douze'
        """
        return "".join(self.target[token] for token in self.tokens(number))

    @no_type_check
    def tokens(self, number: int | str) -> list[int]:
        """What it writes, without the end."""
        source = torch.tensor([[*self._digits(number), EOS]])
        written = [BOS]
        with torch.inference_mode():
            memory = self.model.encode(source)
            while len(written) < LONGEST:
                best = int(self.model.decode(torch.tensor([written]), memory, last=True).argmax())
                if best == EOS:
                    break
                written.append(best)
        return written[1:]

    @no_type_check
    def _digits(self, number: int | str) -> list[int]:
        text = str(number)
        if not (text.isascii() and text.isdigit() and len(text) <= 6) or str(int(text)) != text:
            raise ValueError(
                f"number is {number!r}; it should be a whole number from 0 to 999999, without leading zeros"
            )
        return [self.source.index(digit) for digit in text]


@cache
def number_translator() -> NumberTranslator:
    """The translator of the page, in PyTorch: float32, evaluation mode, weights as stored."""
    from attnkit.models import Translator, TranslatorConfig

    found = json.loads((WEIGHTS / f"{NAME}.json").read_text("utf-8"))
    sizes = {"source_vocab": len(found["source"]), "target_vocab": len(found["target"])}
    config = TranslatorConfig.from_dict({**found["config"], **sizes, "pad": 0, "norm_first": False})
    model = Translator(config).eval()
    weights = {name: torch.from_numpy(array.astype(np.float32)) for name, array in stored().items()}
    model.load_state_dict(weights)
    return NumberTranslator(model, found["source"], found["target"], found["stamp"])


def stored(path: Path = WEIGHTS / f"{NAME}.safetensors") -> dict[str, np.ndarray]:
    """The float16 tensors of a safetensors file, read with NumPy alone: whoever shows the page may lack the package."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F16":
            raise ValueError(f"{path.name}: {name} is of dtype {entry['dtype']}; it should be F16")
        first, last = entry["data_offsets"]
        arrays[name] = np.frombuffer(data[start + first : start + last], "<f2").reshape(entry["shape"])
    return arrays


@no_type_check
def explore_translator(*, number: int = 371, title: str = "") -> Explorer:
    """A trained encoder-decoder in the page. The reader types a number; it is written out in French token by token.

    It was trained with label smoothing 0.1, so its best token gets about 0.9 even where it is sure.
    Every head's map of the encoder, of the decoder's own tokens and of its look at the digits moves along, with the
    probabilities of the next token. `number` is shown at first. Raises ValueError unless it is 0 to 999,999.
    """
    found = number_translator()
    text = found.translate(number)
    config = found.model.config
    spec = {
        "config": {name: getattr(config, name) for name in ("d_model", "d_hidden", "heads", "layers", "eps")},
        "weights": {name: pack(array, "float16") for name, array in stored().items()},
        "source": found.source,
        "target": found.target,
        "longest": LONGEST,
        "smoothing": found.stamp["smoothing"],
    }
    tokens = [found.target[token] for token in found.tokens(number)]
    alt = (
        f"A trained Transformer with {config.heads} heads reads a number digit by digit and writes its French name: "
        f"{number} becomes “{text}” in {len(tokens)} tokens. Type a number and step through what each head looks at."
    )
    rows = [
        [str(step + 1), token.strip(), f"{weight:.2f}", digit] for step, token, digit, weight in _looks(found, number)
    ]
    table = Table(["step", "token written", "weight, mean of the heads", "digit looked at most"], rows)
    return Explorer("translator", spec, alt=alt, fallback=table, title=title, state={"number": str(number)})


def _looks(found: NumberTranslator, number: int | str) -> list[tuple[int, str, str, float]]:
    """For each token written: which source token the last layer's heads look at most on the average."""
    from attnkit.nn import recording

    tokens, digits = found.tokens(number), [*str(number), "end"]
    source = torch.tensor([[*found._digits(number), EOS]])
    with recording(found.model) as maps, torch.inference_mode():
        found.model(source, torch.tensor([[BOS, *tokens]]))
    last = f"transformer.decoder.layers.{found.model.config.layers - 1}.cross_attention"
    mean = maps[last][0][0].mean(0)
    return [(i, found.target[t], digits[int(mean[i].argmax())], float(mean[i].max())) for i, t in enumerate(tokens)]
