"""Datatypes and sizes of what travels: the vocabulary that every other room shares."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from collections.abc import Mapping

import msgspec
import numpy as np


class View(enum.StrEnum):
    """One of the signatures that a model is served under, each with statistics of its own."""

    TENSOR = "tensor"
    UINT8 = "uint8"
    IMAGE = "image"

    @property
    def suffix(self) -> str:
        """What the model's name ends with, to ask for this view."""
        return "" if self is View.TENSOR else f"_{self.value}"

    @property
    def datatypes(self) -> tuple[str, ...]:
        """The protocol's datatypes that it takes."""
        return _VIEW_DATATYPES[self]


_VIEW_DATATYPES = {
    View.TENSOR: ("FP32", "UINT8", "BYTES"),
    View.UINT8: ("UINT8",),
    View.IMAGE: ("BYTES",),
}


class Datatype(enum.IntEnum):
    """What an engine takes. Encoded pictures (BYTES) become UINT8 before they reach a worker."""

    FP32 = 1
    UINT8 = 2

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype."""
        return np.dtype(np.float32) if self is Datatype.FP32 else np.dtype(np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a picture becomes an input: shorter side to ``resize``, centre crop, normalise.

    ``mean`` and ``std`` are in pixel units (0 to 255), R, G, B: input = (pixel - mean) / std.
    """

    resize: int = 256
    crop: int = 224
    #: "bilinear" or "bicubic"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)


class Signature(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Shapes of one item (one picture) of a model: its inputs by datatype, and its output."""

    #: one item's shape by datatype, without the batch dimension; the network's own comes first
    input_shapes: Mapping[Datatype, tuple[int, ...]]
    #: one item's shape of the FP32 output, without the batch dimension
    output_shape: tuple[int, ...]
    #: how pictures are made to fit; None: they are not
    recipe: Recipe | None = Recipe()

    @functools.cached_property
    def input_bytes(self) -> dict[Datatype, int]:
        """Bytes of one item by datatype."""
        return {
            datatype: math.prod(shape) * datatype.numpy.itemsize
            for datatype, shape in self.input_shapes.items()
        }

    @functools.cached_property
    def output_bytes(self) -> int:
        """Bytes of one item's output."""
        return math.prod(self.output_shape) * 4

    @property
    def datatypes(self) -> tuple[Datatype, ...]:
        """The datatypes the model takes, the network's own first."""
        return tuple(self.input_shapes)

    @property
    def native(self) -> Datatype:
        """What the network itself takes."""
        return self.datatypes[0]

    @property
    def takes_pictures(self) -> bool:
        """Whether encoded pictures, and pixels, can be made to fit."""
        pixels = self.input_shapes.get(Datatype.UINT8, ())
        square = len(pixels) == 3 and pixels[0] == pixels[1] and pixels[2] == 3
        return square and self.recipe is not None

    @property
    def views(self) -> tuple[View, ...]:
        """What it can be served as."""
        return tuple(View) if self.takes_pictures else (View.TENSOR,)
