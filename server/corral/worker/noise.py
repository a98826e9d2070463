"""Items that a model is looked at with: noise of a strength, within and beyond what inputs are."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.noise import LEVELS, is_picture, numbers
from corral.tensors import Datatype, Signature

#: see ``Noise``
APART = -1
#: of floats: none is as far from zero as one half
MILD = 0.5
#: of floats: beyond what inputs are, see ``_reach``
STRONG = 4.0
#: one float of so many lies as far out as a pixel that nobody normalised
_FAR_EVERY = 256
_FAR = 300.0
_BRIGHTEST = 255.0


@dataclasses.dataclass(frozen=True)
class Noise:
    """Items of one kind for one model.

    Args:
        signature: the model's.
        datatype: of the items.
        low: None for what each input takes: whole numbers that may be places in a table stay 0 and
            1. Otherwise all are whole numbers, it and the next; ``APART``: 1 and 2 in the first
            input, 3 and 4 in the second.
    """

    signature: Signature
    datatype: Datatype
    low: int | None = None

    def __call__(self, seed: int, count: int, strength: float) -> list[NDArray[np.generic]]:
        """So many items, an array an input; the mean of floats has the sign of the strength.

        Of an infinite strength all values have its sign: those above zero are strong, those below
        mild, so that what a graph asks of a batch's size, spread or sign has two answers. Whole
        numbers are the larger, or the smaller.
        """
        generator = np.random.default_rng(seed)
        return [
            numbers(self._values(generator, index, (count, *spec.shape), strength), spec.datatype)
            for index, spec in enumerate(self.signature.input_specs(self.datatype))
        ]

    def _values(
        self, generator: np.random.Generator, index: int, shape: tuple[int, ...], strength: float
    ) -> NDArray[Any]:
        datatype = self.signature.input_specs(self.datatype)[index].datatype
        least, most = 0, 2
        if self.low is not None:
            least = 2 * index + 1 if self.low == APART else self.low
            most = least + 2
        elif datatype is Datatype.BF16 or datatype.numpy.kind == "f":
            return _floats(generator, shape, strength, _reach(self.signature))
        elif is_picture(datatype.numpy, shape):
            if math.isinf(strength):
                return generator.integers(*((224, LEVELS) if strength > 0 else (0, 2)), shape)
            most = LEVELS
        if math.isinf(strength):
            return least + np.full(shape, strength > 0)
        return generator.integers(least, most, shape)


def _floats(
    generator: np.random.Generator, shape: tuple[int, ...], strength: float, reach: float
) -> NDArray[Any]:
    if strength == -math.inf:
        return -generator.uniform(0.1, MILD, shape)
    if strength == math.inf:
        return _far_out(np.abs(generator.normal(0, reach, shape)) + MILD, strength)
    if abs(strength) < 1:
        return generator.uniform(-strength, strength, shape)
    noise = generator.normal(strength - math.copysign(1, strength), abs(strength), shape)
    return _far_out(noise * (reach / STRONG), strength) if abs(strength) == STRONG else noise


def _far_out(noise: NDArray[Any], strength: float) -> NDArray[Any]:
    """The same, with a few values far on the strength's side."""
    noise.reshape(-1)[::-_FAR_EVERY] = math.copysign(_FAR, strength)
    return noise


def _reach(signature: Signature) -> float:
    """How far from zero values of pictures come, where it is known; at least ``STRONG``."""
    recipe = signature.recipe
    if recipe is None:
        return STRONG
    ends = [
        abs((pixel - mean) / std)
        for mean, std in zip(recipe.mean, recipe.std, strict=True)
        for pixel in (0.0, _BRIGHTEST)
    ]
    return max(STRONG, *ends)
