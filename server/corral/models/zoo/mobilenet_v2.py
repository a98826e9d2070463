"""MobileNetV2, with torchvision's parameter names, so that its checkpoints load.

Depthwise convolutions between 1x1 ones: 3.5 million parameters, a thirteenth of ResNet50's work.
The published checkpoint is torchvision's IMAGENET1K_V1 (71.88 % top-1), and the recipe the one that
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
#: how much a block widens inside, its channels, how many there are, and the first one's stride
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_FIRST, _LAST = 32, 1280

_PUBLISHED = Published(
    url="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
    description="ImageNet-1K, torchvision's IMAGENET1K_V1",
)
_RECIPE = Recipe(resize=256, crop=224, interpolation="bilinear")


def _build(weights: Weights) -> torch.nn.Module:
    return fill(_network(), weights, _RECIPE)


def _network() -> torch.nn.Module:
    """The network, without weights worth having."""
    from torch import nn

    block = _block_class()

    class MobileNetV2(nn.Module):  # type: ignore[misc]
        """FP32 [n,3,h,w] to FP32 [n,1000]."""

        def __init__(self) -> None:
            super().__init__()
            layers = [_convolution(3, _FIRST, 3, stride=2)]
            channels = _FIRST
            for factor, out, blocks, first_stride in _STAGES:
                for index in range(blocks):
                    stride = first_stride if index == 0 else 1
                    layers.append(block(channels, out, stride, factor))
                    channels = out
            layers.append(_convolution(channels, _LAST, 1))
            self.features = nn.Sequential(*layers)
            # torchvision's dropout has no parameters but counts: the linear is 1.
            self.classifier = nn.Sequential(nn.Identity(), nn.Linear(_LAST, _CLASSES))

        def forward(self, x: torch.Tensor) -> Any:
            pooled = nn.functional.adaptive_avg_pool2d(self.features(x), 1)
            return self.classifier(pooled.flatten(1))

    return MobileNetV2()


def _block_class() -> type[Any]:
    """The inverted residual; a class made here, because its base needs torch."""
    from torch import nn

    class InvertedResidual(nn.Module):  # type: ignore[misc]
        """1x1 up, 3x3 of each channel (with the stride), 1x1 down; added where shapes allow it."""

        def __init__(self, channels: int, out: int, stride: int, factor: int) -> None:
            super().__init__()
            width = channels * factor
            layers = [] if factor == 1 else [_convolution(channels, width, 1)]
            layers.append(_convolution(width, width, 3, stride=stride, groups=width))
            self.conv = nn.Sequential(
                *layers, nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
            )
            self.adds = stride == 1 and channels == out

        def forward(self, x: torch.Tensor) -> Any:
            return x + self.conv(x) if self.adds else self.conv(x)

    return InvertedResidual


def _convolution(
    channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> torch.nn.Module:
    """Convolution, batch norm, activation."""
    from torch import nn

    pad = kernel // 2
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, pad, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(inplace=True),
    )


SPEC = ModelSpec(
    name="mobilenet_v2",
    recipe=_RECIPE,
    classes=_CLASSES,
    find_weights=functools.partial(find_published, model="mobilenet_v2", published=_PUBLISHED),
    build=_build,
)
