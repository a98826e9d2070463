"""SSDLite on MobileNetV2 (Liu et al., SSD; Sandler et al., MobileNetV2), 91 classes as in COCO."""

from __future__ import annotations

import math

import torch
from parts import ConvNorm, best_boxes
from torch import Tensor, nn

CLASSES = 91
#: MobileNetV2's blocks: expansion, channels, repeats, first stride
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
_ANCHORS = len(_RATIOS) + 1


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, filter each channel by itself, narrow again."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers = [] if expansion == 1 else [ConvNorm(channels, wide, activation=nn.ReLU6)]
        self.body = nn.Sequential(
            *layers,
            ConvNorm(wide, wide, 3, stride, groups=wide, activation=nn.ReLU6),
            ConvNorm(wide, out, activation=nn.Identity),
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[n,channels,h,w] to [n,out,h/stride,w/stride]."""
        return x + self.body(x) if self.residual else self.body(x)


def _separable(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        ConvNorm(channels, channels, kernel, stride, groups=channels, activation=nn.ReLU6),
        nn.Conv2d(channels, out, 1),
    )


class SSDLite(nn.Module):
    """A picture to its 100 best boxes.

    Args:
        side: of the square pictures that it takes.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNorm(3, 32, 3, 2, activation=nn.ReLU6)]
        channels = 32
        for expansion, out, repeats, first in _BLOCKS:
            for repeat in range(repeats):
                stride = first if repeat == 0 else 1
                layers.append(InvertedResidual(channels, out, stride, expansion))
                channels = out
        layers.append(ConvNorm(channels, 1280, activation=nn.ReLU6))
        # The first map that boxes are found on has a stride of 16.
        self.body = nn.Sequential(*layers[:14])
        self.rest = nn.Sequential(*layers[14:])
        self.extras = nn.ModuleList(
            nn.Sequential(ConvNorm(a, b // 2, activation=nn.ReLU6), _separable(b // 2, b, 3, 2))
            for a, b in ((1280, 512), (512, 256), (256, 256), (256, 128))
        )
        widths = (96, 1280, 512, 256, 256, 128)
        self.scores = nn.ModuleList(_separable(width, _ANCHORS * CLASSES) for width in widths)
        self.boxes = nn.ModuleList(_separable(width, _ANCHORS * 4) for width in widths)
        self.side = side
        sides = [math.ceil(side / 2**level) for level in range(4, 10)]
        self.register_buffer("anchors", _anchors(sides, side))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """FP32 [n,3,side,side] to boxes [n,100,4], scores [n,100], labels [n,100]."""
        maps = [self.body(images)]
        maps.append(self.rest(maps[0]))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        scores = torch.cat(
            [_flat(head(x), CLASSES) for head, x in zip(self.scores, maps, strict=True)], dim=1
        )
        moves = torch.cat([_flat(head(x), 4) for head, x in zip(self.boxes, maps, strict=True)], 1)
        # The first class is the background.
        return best_boxes(self._place(moves), scores.softmax(dim=2)[:, :, 1:])

    def _place(self, moves: Tensor) -> Tensor:
        """Moves from the anchors to corners in pixels."""
        centre = self.anchors[:, :2] + moves[:, :, :2] * 0.1 * self.anchors[:, 2:]
        size = self.anchors[:, 2:] * (moves[:, :, 2:] * 0.2).clamp(max=4).exp()
        return torch.cat((centre - size / 2, centre + size / 2), dim=2).clamp(0, self.side)


def _flat(x: Tensor, values: int) -> Tensor:
    """[n,anchors*values,h,w] to [n,h*w*anchors,values]."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def _anchors(sides: list[int], picture: int) -> Tensor:
    """Centre and size, in pixels, of every anchor of every map."""
    scales = [0.2 + 0.15 * level for level in range(len(sides))] + [1.0]
    found = []
    for level, side in enumerate(sides):
        scale, larger = scales[level], math.sqrt(scales[level] * scales[level + 1])
        sizes = [(scale * math.sqrt(r), scale / math.sqrt(r)) for r in _RATIOS]
        sizes.append((larger, larger))
        for row in range(side):
            for column in range(side):
                centre = ((column + 0.5) / side, (row + 0.5) / side)
                found += [(*centre, *size) for size in sizes]
    return torch.tensor(found) * picture
