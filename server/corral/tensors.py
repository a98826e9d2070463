"""Datatypes and sizes of what travels: the vocabulary that every other room shares."""

from __future__ import annotations

import enum
import math

import numpy as np


class Datatype(enum.IntEnum):
    """What an engine takes. Encoded pictures (BYTES) become UINT8 before they reach a worker."""

    FP32 = 1
    UINT8 = 2

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype."""
        return np.dtype(np.float32) if self is Datatype.FP32 else np.dtype(np.uint8)


class Signature:
    """Shapes of one item (one picture) of a model: its inputs by datatype, and its output.

    Args:
        input_shapes: one item's shape by datatype, without the batch dimension.
        output_shape: one item's shape of the FP32 output, without the batch dimension.
    """

    __slots__ = ("input_bytes", "input_shapes", "output_bytes", "output_shape")

    def __init__(
        self, input_shapes: dict[Datatype, tuple[int, ...]], output_shape: tuple[int, ...]
    ) -> None:
        self.input_shapes = input_shapes
        self.output_shape = output_shape
        #: bytes of one item by datatype
        self.input_bytes = {
            datatype: math.prod(shape) * datatype.numpy.itemsize
            for datatype, shape in input_shapes.items()
        }
        #: bytes of one item's output
        self.output_bytes = math.prod(output_shape) * 4

    @property
    def datatypes(self) -> tuple[Datatype, ...]:
        """The datatypes the model takes, FP32 first."""
        return tuple(self.input_shapes)
