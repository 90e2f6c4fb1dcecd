"""Published models as short assemblies of `attnkit.nn`, each of which reads like the figure in its paper.

>>> from attnkit.models import GPT, GPTConfig
>>> model = GPT(GPTConfig(vocab=100, context=32, d_model=16, heads=2, layers=2, d_hidden=64))

`GPT.from_pretrained(folder_or_name)` (and BERT's, Llama's, ViT's) reads what Hugging Face publishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnkit._lazy import on_first_use

if TYPE_CHECKING:
    from attnkit.models.bert import BERT, BERTConfig
    from attnkit.models.bert_heads import MaskedLanguageModel, SequenceClassifier, TokenClassifier
    from attnkit.models.gpt import GPT, GPTConfig
    from attnkit.models.llama import Llama, LlamaConfig
    from attnkit.models.pretrained import Pretrained
    from attnkit.models.translator import Conditioned, Translator, TranslatorConfig
    from attnkit.models.vit import ViT, ViTConfig

__all__ = [
    "BERT",
    "GPT",
    "BERTConfig",
    "Conditioned",
    "GPTConfig",
    "Llama",
    "LlamaConfig",
    "MaskedLanguageModel",
    "Pretrained",
    "SequenceClassifier",
    "TokenClassifier",
    "Translator",
    "TranslatorConfig",
    "ViT",
    "ViTConfig",
]

# Where each name lives. Loaded on first use: who reads one model does not wait for the others.
_HOMES = {
    "BERT": "bert",
    "BERTConfig": "bert",
    "Conditioned": "translator",
    "GPT": "gpt",
    "GPTConfig": "gpt",
    "Llama": "llama",
    "LlamaConfig": "llama",
    "MaskedLanguageModel": "bert_heads",
    "Pretrained": "pretrained",
    "SequenceClassifier": "bert_heads",
    "TokenClassifier": "bert_heads",
    "Translator": "translator",
    "TranslatorConfig": "translator",
    "ViT": "vit",
    "ViTConfig": "vit",
}

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
