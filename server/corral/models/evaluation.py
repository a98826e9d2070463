"""Pictures that a precision is judged on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corral.models import photos, pictures
from corral.models.spec import ModelSpec


def guard_pictures(spec: ModelSpec, count: int) -> NDArray[np.generic]:
    """Crops that no quantizer has seen, as the network itself takes them: pictures.as_input."""
    return pictures.as_input(photos.crops(photos.GUARD, count, spec.recipe.crop), spec)
