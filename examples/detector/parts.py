"""What both detectors are built of: convolutions, seeded weights, the choice of the best boxes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: boxes that a picture gets
BEST = 100


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, activation."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out),
            activation(),
        )


def seed_weights(module: nn.Module, side: int, seed: int) -> None:
    """Weights that know nothing, but behave: every norm gets the statistics that noise causes."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=0.5, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    module.train()
    with torch.no_grad():
        module(torch.rand(4, 3, side, side, generator=generator))
    module.eval()


def best_boxes(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best boxes of each picture, without those that another one covers.

    Non-maximum suppression as a matrix (Wang et al., SOLOv2): a box's score falls with its overlap
    with better boxes of its class. So a picture always has as many boxes, and pictures share a
    batch.

    Args:
        boxes: [n, candidates, 4], left, top, right, bottom, in pixels.
        scores: [n, candidates, classes], 0 to 1.

    Returns:
        boxes [n,100,4], scores [n,100], best first, and labels [n,100], the classes' numbers.
    """
    best, labels = scores.max(dim=2)
    best, order = best.topk(BEST, dim=1)
    labels = labels.gather(1, order)
    boxes = boxes.gather(1, order.unsqueeze(2).expand(-1, -1, 4))
    same = labels.unsqueeze(2) == labels.unsqueeze(1)
    overlap = torch.triu(_overlap(boxes) * same, diagonal=1)
    covered = overlap.max(dim=1).values
    decay = ((1 - overlap) / (1 - covered).clamp(min=1e-6).unsqueeze(2)).min(dim=1).values
    best, order = (best * decay.clamp(0, 1)).topk(BEST, dim=1)
    boxes = boxes.gather(1, order.unsqueeze(2).expand(-1, -1, 4))
    return boxes, best, labels.gather(1, order)


def _overlap(boxes: Tensor) -> Tensor:
    """Intersection over union of each box with each."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    width, height = (high - low).clamp(min=0).unbind(dim=-1)
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    shared = width * height
    return shared / (area.unsqueeze(2) + area.unsqueeze(1) - shared).clamp(min=1e-6)
