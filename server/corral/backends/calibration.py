"""What quantizers calibrate on, and what they are judged on while they search: never the guard's.

The photographs that ship with corral, ten crops each, or a user's own pictures. Every fourth
photograph does not calibrate where weights carry knowledge: what quantizes better is decided on all
of them, and on those alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.images import picture_folder
from corral.images.picture_folder import PictureFolder
from corral.models import photos, pictures
from corral.models.spec import ModelSpec

#: raise it whenever other inputs are made of the same photographs
FORMAT = 2
#: crops of each photograph
CROPS = 10
#: where weights carry no knowledge, nothing is at stake
SYNTHETIC_CROPS = 2
#: every so many-th photograph does not calibrate
_HELD_OUT = 4
#: crops of each photograph that judge labels; one judges noise, which differs less between crops
_JUDGING_CROPS = 4
#: crops that judge at most
_MOST_JUDGING = 160
#: of a user's own pictures: fewer say little, more take long
_LEAST, _MOST = 20, 400


def ingredients(*, synthetic: bool, folder: str | None) -> dict[str, str]:
    """What decides which inputs a quantizer sees, beside the model's recipe.

    Raises:
        ConfigError: there are no pictures in the folder, or too few.
    """
    if folder is not None:
        found = own_pictures(folder)
        return {"photographs": found.digest(), "calibration": f"a user's, format {FORMAT}"}
    crops = SYNTHETIC_CROPS if synthetic else CROPS
    return {
        "photographs": photos.digest(),
        "calibration": f"{crops} crops each, format {FORMAT}, cut by format {photos.FORMAT}",
    }


def own_pictures(folder: str) -> PictureFolder:
    """A user's own pictures for it.

    Raises:
        ConfigError: there are none, or too few.
    """
    found = picture_folder.read(Path(folder), "--calibration", (), labelled=False)
    found.check_count(_LEAST)
    return found.spread(_MOST)


class Calibration:
    """Crops as the network takes them: FP32 [1,3,crop,crop] normalised, or UINT8 [1,crop,crop,3].

    Tells how far the quantizer has come.

    Args:
        spec: the model; it takes pictures.
        at: called with a step and the share of it that is done.
        synthetic: the weights carry no knowledge, so that all of them calibrate.
        folder: a user's own pictures; None for those that ship with corral.
    """

    def __init__(
        self,
        spec: ModelSpec,
        at: Callable[[str, float], None],
        *,
        synthetic: bool,
        folder: str | None = None,
    ) -> None:
        self._spec = spec
        at("cut pictures", 0.0)
        self._pixels, groups = self._cut(synthetic=synthetic, folder=folder)
        self._groups = groups
        # Where weights carry no knowledge, nothing is judged.
        self._unseen = (groups % _HELD_OUT == _HELD_OUT - 1) & (not synthetic)
        self._chosen = np.flatnonzero(~self._unseen)
        self._at = at
        at("analyse", 0.0)

    def _cut(
        self, *, synthetic: bool, folder: str | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """Pixels, and which photograph each is of."""
        if folder is not None:
            own = own_pictures(folder)
            crops = [own.crop(index, self._spec.recipe) for index in range(len(own))]
            return np.stack(crops), np.arange(len(own))
        photographs = len(list(photos.files(photos.CALIBRATION)))
        count = photographs * (SYNTHETIC_CROPS if synthetic else CROPS)
        pixels = photos.crops(photos.CALIBRATION, count, self._spec.recipe.crop)
        # Photographs take turns.
        return pixels, np.arange(len(pixels)) % photographs

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for done, index in enumerate(self._chosen.tolist()):
            if done + 1 < len(self):
                self._at("calibrate", done / len(self))
            else:
                # The quantizer never asks for what comes after the last.
                self._at("correct biases", 0.0)
            yield self._input(index)

    def judging(self) -> tuple[list[NDArray[Any]], NDArray[np.intp], NDArray[np.bool_]]:
        """What a search judges on: inputs, which photograph each is of, which did not calibrate."""
        each = _JUDGING_CROPS if self._spec.signature.by_classes else 1
        count = int(self._groups.max()) + 1
        # Photographs take turns, and a user's have one crop each.
        chosen = np.arange(min(each * count, len(self._pixels)))
        if len(chosen) > _MOST_JUDGING:
            chosen = np.linspace(0, len(chosen) - 1, _MOST_JUDGING).astype(np.intp)
        inputs = [self._input(index) for index in chosen.tolist()]
        return inputs, self._groups[chosen], self._unseen[chosen]

    def _input(self, index: int) -> NDArray[Any]:
        return pictures.as_input(self._pixels[index : index + 1], self._spec)
