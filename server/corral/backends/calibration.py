"""What quantizers calibrate on: crops of photographs that ship with corral, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from corral.models import photos, pictures
from corral.models.spec import ModelSpec

#: raise it whenever other inputs are made of the same photographs
FORMAT = 1
#: crops of each photograph
CROPS = 10
#: where weights carry no knowledge, nothing is at stake
SYNTHETIC_CROPS = 2


def ingredients(*, synthetic: bool) -> dict[str, str]:
    """What decides which inputs a quantizer sees, beside the model's recipe."""
    crops = SYNTHETIC_CROPS if synthetic else CROPS
    return {
        "photographs": photos.digest(),
        "calibration": f"{crops} crops each, format {FORMAT}, cut by format {photos.FORMAT}",
    }


class Calibration:
    """Crops as the network takes them: FP32 [1,3,crop,crop] normalised, or UINT8 [1,crop,crop,3].

    Tells how far the quantizer has come.

    Args:
        spec: the model; it takes pictures.
        at: called with a step and the share of it that is done.
        synthetic: the weights carry no knowledge.
    """

    def __init__(
        self, spec: ModelSpec, at: Callable[[str, float], None], *, synthetic: bool
    ) -> None:
        self._spec = spec
        at("cut pictures", 0.0)
        photographs = len(list(photos.files(photos.CALIBRATION)))
        count = photographs * (SYNTHETIC_CROPS if synthetic else CROPS)
        self._pixels = photos.crops(photos.CALIBRATION, count, spec.recipe.crop)
        self._at = at
        at("analyse", 0.0)

    def __len__(self) -> int:
        return len(self._pixels)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for done in range(len(self)):
            if done + 1 < len(self):
                self._at("calibrate", done / len(self))
            else:
                # The quantizer never asks for what comes after the last.
                self._at("correct biases", 0.0)
            yield pictures.as_input(self._pixels[done : done + 1], self._spec)
