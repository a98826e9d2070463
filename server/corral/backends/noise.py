"""Items of noise that a graph is run on, while somebody looks at what it answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.tensors import Datatype

#: so many values has a pixel
LEVELS = 256


def is_picture(kind: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether items of this dtype and shape, the batch first, are pictures."""
    return kind == np.uint8 and len(shape) == 4


def noise(
    generator: np.random.Generator, kind: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Normal floats, or pixels; 0 and 1 of other whole numbers, which may be places in a table.

    Args:
        generator: draws them.
        kind: their dtype; BF16's numbers are of another one, see ``numbers``.
        shape: theirs, the batch first.
    """
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    return generator.integers(0, LEVELS if is_picture(kind, shape) else 2, shape).astype(kind)


def numbers(values: NDArray[Any], datatype: Datatype) -> NDArray[Any]:
    """Numbers as arrays of this datatype have them: of BF16 its bits."""
    if datatype is Datatype.BF16:
        bits = values.astype(np.float32).view(np.uint32) >> 16
        return bits.astype(datatype.numpy)
    return values.astype(datatype.numpy)
