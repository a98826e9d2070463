"""Pictures that a precision is judged on: none of them was seen by a quantizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from corral.models import photos, pictures
from corral.models.spec import ModelSpec

#: crops of each photograph that the guard compares on
CROPS = 10
#: where weights carry no knowledge, noise is all that is measured, and it differs little
SYNTHETIC_CROPS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What answers are compared on.

    Attributes:
        crop: makes the one of a number, UINT8 [crop,crop,3].
        pictures: which photograph each is of, [n].
        labels: the right classes, [n]; None where they are not known.
    """

    crop: Callable[[int], NDArray[np.uint8]]
    pictures: NDArray[np.intp]
    labels: NDArray[np.intp] | None = None

    def items(self, spec: ModelSpec) -> Iterator[NDArray[np.generic]]:
        """One after another as the network itself takes it, without the batch dimension."""
        for index in range(len(self.pictures)):
            yield pictures.as_input(self.crop(index)[np.newaxis], spec)[0]


def held_out(spec: ModelSpec, *, synthetic: bool, most: int | None = None) -> HeldOut:
    """Crops of the photographs that ship with corral for this.

    Args:
        spec: the model; it takes pictures.
        synthetic: its weights carry no knowledge, so that fewer crops do.
        most: crops; each photograph has one all the same.
    """
    photographs = len(list(photos.files(photos.GUARD)))
    count = photographs * (SYNTHETIC_CROPS if synthetic else CROPS)
    count = max(photographs, min(count, most or count))
    pixels = photos.crops(photos.GUARD, count, spec.recipe.crop)
    return HeldOut(
        crop=lambda index: pixels[index],
        # Photographs take turns.
        pictures=np.arange(count) % photographs,
    )


def held_out_name(*, synthetic: bool) -> str:
    """What decides which crops these are, beside the model's recipe."""
    crops = SYNTHETIC_CROPS if synthetic else CROPS
    return f"{crops} crops each of {photos.digest()}, cut by format {photos.FORMAT}"


def guard_pictures(spec: ModelSpec, count: int) -> NDArray[np.generic]:
    """The first crops that ``held_out`` has, all at once, to measure speeds on."""
    return pictures.as_input(photos.crops(photos.GUARD, count, spec.recipe.crop), spec)
