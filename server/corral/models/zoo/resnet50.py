"""ResNet50 v1.5, with torchvision's parameter names, so that its checkpoints load.

v1.5 halves the picture in a block's 3x3 convolution, where the paper did in the 1x1 before it;
it is what torchvision, MLPerf and NVIDIA call ResNet50. The published checkpoint is torchvision's
IMAGENET1K_V1 (76.13 % top-1), and the recipe is the one that it was evaluated with.
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
#: blocks and inner channels of the four stages
_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_EXPANSION = 4

_PUBLISHED = Published(
    url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
    description="ImageNet-1K, torchvision's IMAGENET1K_V1",
)
_RECIPE = Recipe(resize=256, crop=224, interpolation="bilinear")


def _build(weights: Weights) -> torch.nn.Module:
    return fill(_network(), weights, _RECIPE)


def _network() -> torch.nn.Module:
    """The network, without weights worth having."""
    from torch import nn

    block = _block_class()

    class ResNet(nn.Module):  # type: ignore[misc]
        """FP32 [n,3,h,w] to FP32 [n,1000]."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            channels = 64
            for stage, (blocks, width) in enumerate(_STAGES, start=1):
                layers = []
                for index in range(blocks):
                    stride = 2 if index == 0 and stage > 1 else 1
                    layers.append(block(channels, width, stride))
                    channels = width * _EXPANSION
                self.add_module(f"layer{stage}", nn.Sequential(*layers))
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(channels, _CLASSES)

        def forward(self, x: torch.Tensor) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(self.avgpool(x).flatten(1))

    return ResNet()


def _block_class() -> type[Any]:
    """The bottleneck block; a class made here, because its base needs torch."""
    from torch import nn

    class Bottleneck(nn.Module):  # type: ignore[misc]
        """1x1 down, 3x3 (with the stride), 1x1 up, and a shortcut around them."""

        def __init__(self, channels: int, width: int, stride: int) -> None:
            super().__init__()
            out = width * _EXPANSION
            self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, out, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(out)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = None
            if stride != 1 or channels != out:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
                )

        def forward(self, x: torch.Tensor) -> Any:
            shortcut = x if self.downsample is None else self.downsample(x)
            x = self.relu(self.bn1(self.conv1(x)))
            x = self.relu(self.bn2(self.conv2(x)))
            return self.relu(self.bn3(self.conv3(x)) + shortcut)

    return Bottleneck


SPEC = ModelSpec(
    name="resnet50",
    recipe=_RECIPE,
    classes=_CLASSES,
    find_weights=functools.partial(find_published, model="resnet50", published=_PUBLISHED),
    build=_build,
)
