"""A network of YOLOv8n's shape (C2f blocks, SPPF, a PAN neck, a head with DFL), 80 classes."""

from __future__ import annotations

import torch
from parts import ConvNorm, best_boxes
from torch import Tensor, nn

CLASSES = 80
_STRIDES = (8, 16, 32)
#: bins of a distance in the head's distribution
_BINS = 16


class Bottleneck(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, channels: int, around: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(channels, channels, 3), ConvNorm(channels, channels, 3))
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.body(x) if self.around else self.body(x)


class C2f(nn.Module):
    """Half of the channels pass through bottlenecks, and every stage of them is kept."""

    def __init__(self, channels: int, out: int, repeats: int, around: bool = True) -> None:
        super().__init__()
        half = out // 2
        self.first = ConvNorm(channels, out)
        self.blocks = nn.ModuleList(Bottleneck(half, around) for _ in range(repeats))
        self.last = ConvNorm((2 + repeats) * half, out)

    def forward(self, x: Tensor) -> Tensor:
        """[n,channels,h,w] to [n,out,h,w]."""
        stages = list(self.first(x).chunk(2, dim=1))
        for block in self.blocks:
            stages.append(block(stages[-1]))
        return self.last(torch.cat(stages, dim=1))


class SPPF(nn.Module):
    """Pools of growing width, one behind another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.last = ConvNorm(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        stages = [self.first(x)]
        for _ in range(3):
            stages.append(self.pool(stages[-1]))
        return self.last(torch.cat(stages, dim=1))


class Yolo(nn.Module):
    """A picture to its 100 best boxes, or to ultralytics' raw output.

    Args:
        side: of the square pictures that it takes, a multiple of 32.
        raw: answer with ``output0`` [n,84,candidates] as ultralytics exports it: centre x, centre
            y, width, height, and a score a class.
    """

    def __init__(self, side: int, *, raw: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 16, 3, 2), ConvNorm(16, 32, 3, 2), C2f(32, 32, 1))
        self.p3 = nn.Sequential(ConvNorm(32, 64, 3, 2), C2f(64, 64, 2))
        self.p4 = nn.Sequential(ConvNorm(64, 128, 3, 2), C2f(128, 128, 2))
        self.p5 = nn.Sequential(ConvNorm(128, 256, 3, 2), C2f(256, 256, 1), SPPF(256))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.top4 = C2f(384, 128, 1, around=False)
        self.top3 = C2f(192, 64, 1, around=False)
        self.down3, self.low4 = ConvNorm(64, 64, 3, 2), C2f(192, 128, 1, around=False)
        self.down4, self.low5 = ConvNorm(128, 128, 3, 2), C2f(384, 256, 1, around=False)
        widths = (64, 128, 256)
        self.boxes = nn.ModuleList(_head(width, 64, 4 * _BINS) for width in widths)
        self.scores = nn.ModuleList(_head(width, CLASSES, CLASSES) for width in widths)
        self.raw = raw
        points = [_points(side // stride, stride) for stride in _STRIDES]
        self.register_buffer("centres", torch.cat([centres for centres, _ in points]))
        self.register_buffer("strides", torch.cat([strides for _, strides in points]))
        self.register_buffer("bins", torch.arange(_BINS, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """FP32 [n,3,side,side], 0 to 1, to boxes [n,100,4], scores [n,100], labels [n,100]."""
        p3 = self.p3(self.stem(images))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        t4 = self.top4(torch.cat((self.up(p5), p4), dim=1))
        t3 = self.top3(torch.cat((self.up(t4), p3), dim=1))
        l4 = self.low4(torch.cat((self.down3(t3), t4), dim=1))
        l5 = self.low5(torch.cat((self.down4(l4), p5), dim=1))
        maps = (t3, l4, l5)
        sides = torch.cat([head(x).flatten(2) for head, x in zip(self.boxes, maps, strict=True)], 2)
        scores = torch.cat(
            [head(x).flatten(2) for head, x in zip(self.scores, maps, strict=True)], dim=2
        )
        # A distance is the mean of its distribution over the bins.
        spread = sides.reshape(sides.shape[0], 4, _BINS, -1).softmax(dim=2)
        distances = (spread * self.bins.reshape(1, 1, -1, 1)).sum(dim=2).transpose(1, 2)
        low = (self.centres - distances[:, :, :2]) * self.strides
        high = (self.centres + distances[:, :, 2:]) * self.strides
        if self.raw:
            centre, size = (low + high) / 2, high - low
            return torch.cat((torch.cat((centre, size), 2).transpose(1, 2), scores.sigmoid()), 1)
        return best_boxes(torch.cat((low, high), dim=2), scores.sigmoid().transpose(1, 2))


def _head(channels: int, wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNorm(channels, wide, 3), ConvNorm(wide, wide, 3), nn.Conv2d(wide, out, 1)
    )


def _points(side: int, stride: int) -> tuple[Tensor, Tensor]:
    """The cells' centres in strides, and the stride of each."""
    at = torch.arange(side, dtype=torch.float32) + 0.5
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    centres = torch.stack((columns, rows), dim=-1).reshape(-1, 2)
    return centres, torch.full((len(centres), 1), float(stride))
