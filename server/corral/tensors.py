"""Datatypes and sizes of what travels: the vocabulary that every other room shares."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

#: what the one input and the one output are called, whatever a file calls them
INPUT_NAME = "input"
OUTPUT_NAME = "output"


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
    """What an engine takes and gives, by the protocol's names.

    Encoded pictures (BYTES) become UINT8 before they reach a worker.
    """

    FP32 = 1
    UINT8 = 2
    BOOL = 3
    INT8 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    UINT16 = 8
    UINT32 = 9
    UINT64 = 10
    FP16 = 11
    BF16 = 12
    FP64 = 13

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype; BF16, which numpy has not, is its 16 bits."""
        return _numpy(self)

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return int(_TYPES[self][-1])


#: in the array interface's words
_TYPES = {
    Datatype.FP32: "<f4",
    Datatype.UINT8: "|u1",
    Datatype.BOOL: "|b1",
    Datatype.INT8: "|i1",
    Datatype.INT16: "<i2",
    Datatype.INT32: "<i4",
    Datatype.INT64: "<i8",
    Datatype.UINT16: "<u2",
    Datatype.UINT32: "<u4",
    Datatype.UINT64: "<u8",
    Datatype.FP16: "<f2",
    Datatype.BF16: "<u2",
    Datatype.FP64: "<f8",
}


@functools.cache
def _numpy(datatype: Datatype) -> np.dtype[np.generic]:
    # The supervisor needs the sizes alone, and numpy is a quarter of a start's imports.
    import numpy as np

    return np.dtype(_TYPES[datatype])


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output of a model that has several, or others than FP32 and UINT8."""

    name: str
    datatype: Datatype
    #: of one item, without the batch dimension
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Values of one item."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return self.size * self.datatype.itemsize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a picture becomes an input: shorter side to ``resize``, centre crop, normalise.

    ``mean`` and ``std`` are in pixel units (0 to 255): input = (pixel - mean) / std. They are in
    the order of the input's channels: R, G, B, unless ``colors`` says otherwise.
    """

    resize: int = 256
    crop: int = 224
    #: "bilinear" or "bicubic"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    #: "crop"; or all of it to ``crop`` x ``crop``: "stretch", or "letterbox" with ``pad`` beside it
    resize_mode: str = "crop"
    #: R, G, B of what lies beside a letterboxed picture
    pad: tuple[int, int, int] = (114, 114, 114)
    #: of an FP32 input: "NCHW" or "NHWC"
    layout: str = "NCHW"
    #: of an FP32 input: "RGB", "BGR" or "GREY"
    colors: str = "RGB"

    @property
    def channels(self) -> int:
        """Of an FP32 input."""
        return 1 if self.colors == "GREY" else 3

    def __str__(self) -> str:
        """What it says; fields that came later only where they say something.

        Artefacts are found by it: one that was made before a field came is found still.
        """
        later = {"resize_mode", "pad", "layout", "colors"}
        told = [
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name not in later
        ]
        return f"Recipe({', '.join(told)})"


class Signature(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Shapes of one item (one picture) of a model: its inputs and its outputs.

    Most models have one input and one FP32 output; then ``inputs`` and ``outputs`` are empty.
    """

    #: one item's shape by datatype, without the batch dimension; the network's own comes first.
    #: Of several inputs, the first's: its datatype is what the queue tells batches apart by
    input_shapes: Mapping[Datatype, tuple[int, ...]]
    #: one item's shape of the FP32 output, or of the first output, without the batch dimension
    output_shape: tuple[int, ...]
    #: how pictures are made to fit; None: they are not
    recipe: Recipe | None = Recipe()
    #: all inputs, where there are several
    inputs: tuple[TensorSpec, ...] = ()
    #: all outputs, where there are several, or one that is not FP32
    outputs: tuple[TensorSpec, ...] = ()
    #: what the one input is called; requests may use any of them, metadata tell the first
    input_names: tuple[str, ...] = (INPUT_NAME,)
    #: what the one output is called
    output_names: tuple[str, ...] = (OUTPUT_NAME,)

    @functools.cached_property
    def input_bytes(self) -> dict[Datatype, int]:
        """Bytes of one item by datatype, of all inputs together."""
        if self.inputs:
            return {self.native: sum(spec.item_bytes for spec in self.inputs)}
        return {
            datatype: math.prod(shape) * datatype.itemsize
            for datatype, shape in self.input_shapes.items()
        }

    @functools.cached_property
    def output_bytes(self) -> int:
        """Bytes of one item's outputs."""
        if self.outputs:
            return sum(spec.item_bytes for spec in self.outputs)
        return math.prod(self.output_shape) * 4

    @property
    def plain(self) -> bool:
        """Whether it has one input, and one output, which is FP32."""
        return not self.inputs and not self.outputs

    @property
    def by_classes(self) -> bool:
        """Whether its answer can be scores of classes: one input, one FP32 output, a list.

        Exporters leave an average pool's [classes,1,1] as it is, which is a list as well.
        """
        shape = self.output_shape
        return self.plain and len(shape) > 0 and max(shape) == math.prod(shape)

    def input_specs(self, datatype: Datatype) -> tuple[TensorSpec, ...]:
        """All inputs, the only one in this datatype."""
        return self.inputs or (
            TensorSpec(self.input_names[0], datatype, self.input_shapes[datatype]),
        )

    @functools.cached_property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """All outputs."""
        return self.outputs or (TensorSpec(self.output_names[0], Datatype.FP32, self.output_shape),)

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
        return square and self.recipe is not None and not self.inputs

    @property
    def views(self) -> tuple[View, ...]:
        """What it can be served as."""
        return tuple(View) if self.takes_pictures else (View.TENSOR,)
