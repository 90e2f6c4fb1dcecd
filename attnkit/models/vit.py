"""The Vision Transformer: an image is cut into patches, and these are read like words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, no_type_check

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attnkit.models.initial import as_published, initialize
from attnkit.models.pretrained import Pretrained
from attnkit.nn import Config, Encoder
from attnkit.nn.config import Activation
from attnkit.positions import Learned


@no_type_check
@dataclass(frozen=True, kw_only=True)
class ViTConfig(Config):
    """The settings of a ViT; the defaults are those of ViT-Base with patches of 16 x 16.

    - `image`, `patch`: sides of the image and of a patch, in pixels; the one is a multiple of the other.
    - `pool`: what is classified: a token of its own ("class"), or the mean of the patches ("mean").
    - `qkv_bias`: have queries, keys and values a bias?
    """

    image: int = 224
    patch: int = 16
    channels: int = 3
    labels: int = 1000
    pool: Literal["class", "mean"] = "class"
    qkv_bias: bool = True
    d_model: int = 768
    heads: int = 12
    layers: int = 12
    d_hidden: int = 3072
    activation: Activation = "gelu"
    eps: float = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image", "patch", "channels", "labels"):
            self.check_count(name)
        self.check_choice("pool", ("class", "mean"))
        if self.image % self.patch:
            self.refuse("image", f"be a multiple of patch = {self.patch}")


class ViT(Pretrained):
    """patches -> linear -> (class token +) position -> pre-norm layers -> norm -> class token or mean -> logits.

    Dosovitskiy et al. 2020, arXiv:2010.11929, equations 1 to 4 and figure 1.

    >>> model = ViT(ViTConfig(image=32, patch=8, labels=10, d_model=16, heads=2, layers=2, d_hidden=64)).eval()
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    config: ViTConfig
    config_class = ViTConfig
    family = "vit"

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        pieces = (config.image // config.patch) ** 2
        classed = config.pool == "class"
        self.patches = nn.Linear(config.channels * config.patch**2, config.d_model)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.d_model)) if classed else None
        self.position = Learned(pieces + classed, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.head = nn.Linear(config.d_model, config.labels)
        as_published(self.encoder, qkv=config.qkv_bias)
        initialize(self)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch labels"]:
        """The logits of each image's labels."""
        config = self.config
        if images.shape[1:] != (config.channels, config.image, config.image):
            needed = f"(batch, {config.channels}, {config.image}, {config.image})"
            raise ValueError(f"images have shape {tuple(images.shape)}; this ViT needs {needed}")
        x = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=config.patch, q=config.patch)
        x = self.patches(x)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        x = self.position.embed(x, torch.arange(x.shape[1], device=x.device)[None])
        x = self.encoder(self.dropout(x))
        return self.head(x[:, 0] if config.pool == "class" else x.mean(dim=1))
