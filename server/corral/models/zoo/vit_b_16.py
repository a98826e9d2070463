"""ViT-B/16, with torchvision's parameter names, so that its checkpoints load.

A picture becomes 14 x 14 patches and one token more, which twelve encoder layers work on; the
published checkpoint is torchvision's IMAGENET1K_V1 (81.07 % top-1), and the recipe the one that
it was evaluated with.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from corral.models.loading import fill
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.models.weights import Published, find_published

if TYPE_CHECKING:
    import torch

_CLASSES = 1000
_PATCH = 16
_WIDTH = 768
_HEADS = 12
_LAYERS = 12
_MLP_WIDTH = 3072

_PUBLISHED = Published(
    url="https://download.pytorch.org/models/vit_b_16-c867db91.pth",
    description="ImageNet-1K, torchvision's IMAGENET1K_V1",
)
_RECIPE = Recipe(resize=256, crop=224, interpolation="bilinear")


def _build(weights: Weights) -> torch.nn.Module:
    return fill(_network(), weights, _RECIPE)


def _network() -> torch.nn.Module:
    """The network, without weights worth having."""
    import torch
    from torch import nn

    layer = _layer_class()

    class Encoder(nn.Module):  # type: ignore[misc]
        """[n,197,768] to [n,197,768]."""

        def __init__(self) -> None:
            super().__init__()
            tokens = (_RECIPE.crop // _PATCH) ** 2 + 1
            self.pos_embedding = nn.Parameter(torch.zeros(1, tokens, _WIDTH))
            self.layers = nn.Sequential()
            for index in range(_LAYERS):
                self.layers.add_module(f"encoder_layer_{index}", layer())
            self.ln = nn.LayerNorm(_WIDTH, eps=1e-6)

        def forward(self, x: torch.Tensor) -> Any:
            return self.ln(self.layers(x + self.pos_embedding))

    class VisionTransformer(nn.Module):  # type: ignore[misc]
        """FP32 [n,3,224,224] to FP32 [n,1000]."""

        def __init__(self) -> None:
            super().__init__()
            self.conv_proj = nn.Conv2d(3, _WIDTH, _PATCH, stride=_PATCH)
            self.class_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
            self.encoder = Encoder()
            self.heads = nn.Sequential()
            self.heads.add_module("head", nn.Linear(_WIDTH, _CLASSES))

        def forward(self, x: torch.Tensor) -> Any:
            patches = self.conv_proj(x).flatten(2).transpose(1, 2)
            token = self.class_token.expand(patches.shape[0], -1, -1)
            return self.heads(self.encoder(torch.cat([token, patches], dim=1))[:, 0])

    return VisionTransformer()


def _layer_class() -> type[Any]:
    """An encoder layer; a class made here, because its base needs torch."""
    import torch
    from torch import nn

    class SelfAttention(nn.Module):  # type: ignore[misc]
        """nn.MultiheadAttention's parameters, and no more of it than a picture needs."""

        def __init__(self) -> None:
            super().__init__()
            self.in_proj_weight = nn.Parameter(torch.empty(3 * _WIDTH, _WIDTH))
            self.in_proj_bias = nn.Parameter(torch.zeros(3 * _WIDTH))
            self.out_proj = nn.Linear(_WIDTH, _WIDTH)
            nn.init.xavier_uniform_(self.in_proj_weight)

        def forward(self, x: torch.Tensor) -> Any:
            both = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
            split = both.unflatten(2, (3, _HEADS, _WIDTH // _HEADS)).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2])
            return self.out_proj(mixed.transpose(1, 2).flatten(2))

    class EncoderLayer(nn.Module):  # type: ignore[misc]
        """Attention and a perceptron, each normalised before and added."""

        def __init__(self) -> None:
            super().__init__()
            self.ln_1 = nn.LayerNorm(_WIDTH, eps=1e-6)
            self.self_attention = SelfAttention()
            self.ln_2 = nn.LayerNorm(_WIDTH, eps=1e-6)
            # torchvision's dropouts have no parameters but count: the linears are 0 and 3.
            self.mlp = nn.Sequential(
                nn.Linear(_WIDTH, _MLP_WIDTH),
                nn.GELU(),
                nn.Identity(),
                nn.Linear(_MLP_WIDTH, _WIDTH),
            )

        def forward(self, x: torch.Tensor) -> Any:
            x = x + self.self_attention(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    return EncoderLayer


SPEC = ModelSpec(
    name="vit_b_16",
    recipe=_RECIPE,
    classes=_CLASSES,
    find_weights=functools.partial(find_published, model="vit_b_16", published=_PUBLISHED),
    build=_build,
    transformer=True,
)
