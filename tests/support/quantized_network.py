"""A small network that knows how sure it is, and ways to quantize it well and badly.

Classes are clouds around ten points. The network is the best that there is for them, and its
softmax is the true probability of each class: so what the guard expects can be held against what
is true, on as many labelled pictures as a test likes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
FEATURES = 16
_SPREAD = 1.45
#: of a cloud's spread, what crops of one picture share
_SHARED = 0.8

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Network:
    """Two layers with a ReLU between them; activations are UINT8 where there is a scale.

    Attributes:
        first: [hidden,features].
        second: [classes,hidden].
        bias: [classes].
        scale: a step of the activations; None for FP32.
        zero_point: of the activations, in steps.
        most: where activations are clipped, in steps.
    """

    first: Floats
    second: Floats
    bias: Floats
    scale: float | None = None
    zero_point: int = 0
    most: int = 255

    def answer(self, inputs: Floats) -> NDArray[np.float32]:
        """Logits, [n,classes]."""
        hidden = np.maximum(inputs @ self.first.T, 0)
        if self.scale is not None:
            steps = np.clip(np.rint(hidden / self.scale), 0, self.most)
            hidden = (steps + self.zero_point) * self.scale
        return (hidden @ self.second.T + self.bias).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class World:
    """Where the clouds lie, and the network that knows it."""

    centres: Floats
    network: Network

    def pictures(
        self, random: np.random.Generator, count: int, crops: int
    ) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
        """Crops of labelled pictures: inputs, which picture each is of, right classes."""
        labels = random.integers(0, CLASSES, count)
        shared = random.normal(size=(count, 1, FEATURES)) * _SHARED
        own = random.normal(size=(count, crops, FEATURES)) * np.sqrt(1 - _SHARED**2)
        inputs = self.centres[labels][:, None] + _SPREAD * (shared + own)
        groups = np.repeat(np.arange(count), crops)
        return inputs.reshape(-1, FEATURES), groups, np.repeat(labels, crops)


def make_world(seed: int = 5) -> World:
    """The same seed, the same world."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(CLASSES, FEATURES))
    turn, _ = np.linalg.qr(random.normal(size=(FEATURES, FEATURES)))
    # Channels of unequal size, as batch norm leaves them: one range for all would fit few.
    sizes = np.exp(random.normal(0, 1.0, FEATURES))
    # What is added to both halves of a channel must not cancel.
    halves = np.exp(random.normal(0, 0.7, FEATURES))
    inner = turn * sizes[:, None]
    outer = (centres @ turn.T) / sizes / _SPREAD**2
    return World(
        centres=centres,
        network=Network(
            first=np.vstack([inner, -inner * halves[:, None]]),
            second=np.hstack([outer, -outer / halves]),
            bias=-np.square(centres).sum(axis=1) / 2 / _SPREAD**2,
        ),
    )


def rounded(weights: Floats, bits: int, *, per_channel: bool = True) -> Floats:
    """Weights on a symmetric grid."""
    largest = np.abs(weights).max(axis=1, keepdims=True) if per_channel else np.abs(weights).max()
    steps = 2 ** (bits - 1) - 1
    return np.asarray(np.rint(weights / largest * steps) * largest / steps)


def quantized(network: Network, inputs: Floats) -> Network:
    """A good INT8: weights per channel, activations by what was seen."""
    seen = np.maximum(inputs @ network.first.T, 0)
    return dataclasses.replace(
        network,
        first=rounded(network.first, 8),
        second=rounded(network.second, 8),
        scale=float(seen.max()) / 255,
    )


def spoiled(good: Network, inputs: Floats, how: str) -> Network:
    """A bad one, by the name of what is wrong."""
    assert good.scale is not None
    match how:
        case "scale off":
            return dataclasses.replace(good, second=good.second * 0.35)
        case "zero point off":
            return dataclasses.replace(good, zero_point=24)
        case "weights crushed":
            return dataclasses.replace(
                good,
                first=rounded(good.first, 3, per_channel=False),
                second=rounded(good.second, 3, per_channel=False),
            )
        case "activations clipped":
            seen = np.maximum(inputs @ good.first.T, 0)
            scale = float(np.quantile(seen[seen > 0], 0.7)) / 255
            return dataclasses.replace(good, scale=scale)
        case "a channel permuted":
            order = np.arange(CLASSES)
            order[:2] = [1, 0]
            return dataclasses.replace(good, second=good.second[order])
    raise ValueError(how)


FAULTS = (
    "scale off",
    "zero point off",
    "weights crushed",
    "activations clipped",
    "a channel permuted",
)
