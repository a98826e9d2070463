"""Writes tests/data/models/colours.onnx: ``python tests/support/write_colours.py FILE``.

A small convolutional network that knows which of red, green and blue a picture has most of,
exported by torch, which is no tool of corral's.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

#: the strength of the weights that know nothing, so that every weight takes part
_NOISE = 0.01


def colours() -> nn.Module:
    """The network: FP32 [n,3,32,32] normalised to FP32 [n,3] logits."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=_NOISE)
        first, second, last = network[0].weight, network[2].weight, network[6].weight
        for colour in range(3):
            # What there is more than usual of a colour, and what there is less.
            for channel, sign in ((colour, 1), (3 + colour, -1)):
                first[channel, colour] += sign / 9
                second[channel, channel, 1, 1] += 1
                last[colour, channel] += 4 * sign
    return network.eval()


def main() -> None:
    """Exports it."""
    torch.onnx.export(
        colours(),
        (torch.zeros(1, 3, 32, 32),),
        sys.argv[1],
        input_names=["pixels"],
        output_names=["scores"],
        dynamic_axes={"pixels": {0: "batch"}, "scores": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
