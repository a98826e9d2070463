"""What quantizers calibrate on: crops of photographs that ship with corral, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from corral.models import photos, pictures
from corral.models.spec import Recipe

_PICTURES = 128


class Calibration:
    """Crops, FP32 [1,3,crop,crop]; tells how far the quantizer has come.

    Args:
        recipe: crop and normalisation.
        at: called with a step and the share of it that is done.
    """

    def __init__(self, recipe: Recipe, at: Callable[[str, float], None]) -> None:
        self._recipe = recipe
        at("cut pictures", 0.0)
        self._pixels = photos.crops(photos.CALIBRATION, _PICTURES, recipe.crop)
        self._at = at
        at("analyse", 0.0)

    def __len__(self) -> int:
        return len(self._pixels)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for done in range(len(self)):
            if done + 1 < len(self):
                self._at("calibrate", done / len(self))
            else:
                # The quantizer never asks for what comes after the last.
                self._at("correct biases", 0.0)
            yield pictures.normalise(self._pixels[done : done + 1], self._recipe)
