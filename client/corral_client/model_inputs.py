"""What the command sends to a model: arrays fitted to its metadata, or made up from it. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_client import codec
from corral_client.codec import Tensor
from corral_client.errors import InvalidArgument
from corral_client.pages import ModelMetadata, TensorMetadata

#: of a protobuf message; the server's own limit is lower
_MOST_BYTES = 2**31 - 1
#: a picture's side where the metadata leaves it open
_USUAL_SIDE = 224
_CHANNELS = (1, 3)
#: a picture's model takes either, whichever its metadata shows
_PICTURES = ("FP32", "UINT8")
_KINDS = {"fp32": "FP32", "uint8": "UINT8"}


class Unfit(Exception):
    """The model takes no such input; the text says what it takes, in one line."""


def check_names(kind: str, metadata: ModelMetadata, given: Collection[str]) -> None:
    """Compares names with those of the model's inputs or outputs, where the server tells them.

    Args:
        kind: "input", all of which are needed, or "output".
        metadata: the model's.
        given: names.

    Raises:
        Unfit: one is unknown or missing.
    """
    specs = metadata.inputs if kind == "input" else metadata.outputs
    names = [spec.name for spec in specs]
    # A server may know the only one by its file's name, too.
    if not names or (len(names) == 1 and len(given) <= 1):
        return
    verb = "takes" if kind == "input" else "gives"
    all_of_them = f"{metadata.name} {verb} {', '.join(names)}"
    for name in given:
        if name not in names:
            raise Unfit(f"no {kind} {name!r}; {all_of_them}")
    missing = [name for name in names if name not in given]
    if kind == "input" and missing:
        raise Unfit(f"the input {missing[0]!r} is missing; {all_of_them}")


def fit(arrays: Mapping[str | None, NDArray[Any]], metadata: ModelMetadata) -> dict[str, Tensor]:
    """Arrays as the inputs of a model, by name.

    An item without its batch dimension gets one. numpy has no BF16: where the model takes that,
    float32 is rounded to it, and two bytes without a type are its bits.

    Args:
        arrays: by the inputs' names; None for the only one.
        metadata: the model's.

    Raises:
        Unfit: a name is unknown or missing, or an array has another datatype.
    """
    named = {_only(metadata) if name is None else name: array for name, array in arrays.items()}
    check_names("input", metadata, named)
    specs = {spec.name: spec for spec in metadata.inputs}
    only = metadata.inputs[0] if len(metadata.inputs) == 1 else None
    return {name: _fitted(name, array, specs.get(name, only)) for name, array in named.items()}


def _only(metadata: ModelMetadata) -> str:
    names = [spec.name for spec in metadata.inputs] or [codec.INPUT_NAME]
    if len(names) > 1:
        raise Unfit(f"{metadata.name} takes {', '.join(names)}: say {names[0]}=FILE.npy and so on")
    return names[0]


def _fitted(name: str, array: NDArray[Any], spec: TensorMetadata | None) -> Tensor:
    item_rank = len(spec.shape) - 1 if spec is not None and spec.shape else 3
    if array.ndim == item_rank:
        array = array[np.newaxis]
    wanted = spec.datatype if spec is not None else ""
    tensor = _tensor(name, array, wanted)
    either = wanted in _PICTURES and tensor.datatype in _PICTURES
    if wanted and tensor.datatype != wanted and not either:
        raise Unfit(
            f"the input {name!r} takes {wanted}, and this is {array.dtype} ({tensor.datatype}); "
            "change it with .astype()"
        )
    return tensor


def _tensor(name: str, array: NDArray[Any], wanted: str) -> Tensor:
    if wanted == "BF16" and array.dtype == np.float32:
        return _bf16(array)
    if wanted == "BF16" and array.dtype == np.dtype("V2"):
        return Tensor("BF16", array.shape, (np.ascontiguousarray(array).tobytes(),))
    if array.dtype.kind in "SU":
        elements = [e.encode() if isinstance(e, str) else e for e in array.ravel().tolist()]
        return Tensor("BYTES", array.shape, (codec.join_elements(elements),))
    try:
        return codec.from_array(array, every=True)
    except InvalidArgument:
        takes = f" takes {wanted}, and" if wanted else ":"
        raise Unfit(f"the input {name!r}{takes} {array.dtype} cannot be sent") from None


def _bf16(array: NDArray[Any]) -> Tensor:
    """Rounded to the nearest; halves to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    # Rounding would make an infinity of a NaN.
    kept = np.where(np.isnan(array), 0x7FC0, rounded).astype("<u2")
    return Tensor("BF16", array.shape, (kept.tobytes(),))


def made_up(metadata: ModelMetadata, kind: str, items: int) -> dict[str, Tensor]:
    """Noise in the shapes that the model takes.

    Floats are of a normal distribution, pixels of all values, other whole numbers 0 and 1: they may
    be places in a small table.

    Args:
        metadata: the model's; one that is empty stands for a picture model's.
        kind: "uint8" or "fp32" for a picture as pixels or as floats, whichever the metadata
            shows; empty for what it shows.
        items: of each input.

    Raises:
        Unfit: nothing can be made up for an input, or it does not fit into a message.
    """
    specs = metadata.inputs or (TensorMetadata(codec.INPUT_NAME, "FP32", ()),)
    if kind:
        specs = tuple(_as_kind(metadata.name, spec, _KINDS[kind]) for spec in specs)
    generator = np.random.default_rng()
    shapes = [_shape(metadata.name, spec, items) for spec in specs]
    each = sum(math.prod(s) * _size(t) for s, t in zip(shapes, specs, strict=True)) // items
    if items * each > _MOST_BYTES:
        raise Unfit(
            f"--items {items}: of {each} bytes each, more than a message holds; "
            f"at most {_MOST_BYTES // each}"
        )
    return {
        spec.name: _noise(generator, spec.datatype, shape)
        for spec, shape in zip(specs, shapes, strict=True)
    }


def _as_kind(model: str, spec: TensorMetadata, datatype: str) -> TensorMetadata:
    """The same input in another datatype, where it is a picture; the layout goes with it."""
    if spec.datatype == datatype and spec.shape:
        return spec
    # Encoded pictures say nothing of their sides.
    known = spec.shape[1:] if spec.datatype in _PICTURES else ()
    sides = known or (3, -1, -1)
    if sides[0] in _CHANNELS or sides[-1] not in _CHANNELS:
        channels, places = sides[0], sides[1:]
    else:
        channels, places = sides[-1], sides[:-1]
    if spec.datatype not in (*_PICTURES, "BYTES") or len(places) != 2:
        raise Unfit(
            f"{model} takes {spec.datatype} in {spec.name!r}, and no picture: say --random alone"
        )
    channels = channels if channels in _CHANNELS else 3
    height, width = (side if side > 0 else _USUAL_SIDE for side in places)
    item = (height, width, channels) if datatype == "UINT8" else (channels, height, width)
    return TensorMetadata(spec.name, datatype, (-1, *item))


def _shape(model: str, spec: TensorMetadata, items: int) -> tuple[int, ...]:
    if spec.datatype != "BF16" and spec.datatype not in codec.NUMPY_DTYPES:
        raise Unfit(f"{model} takes {spec.datatype} in {spec.name!r}, which cannot be made up")
    first, *sides = spec.shape or (-1,)
    if 0 <= first != items:
        raise Unfit(f"--items {items}: {model} takes {first} in {spec.name!r}")
    is_picture = len(sides) == 3 and spec.datatype in _PICTURES
    return (items, *(s if s >= 0 else _USUAL_SIDE if is_picture else 1 for s in sides))


def _size(spec: TensorMetadata) -> int:
    return 2 if spec.datatype == "BF16" else np.dtype(codec.NUMPY_DTYPES[spec.datatype]).itemsize


def _noise(generator: np.random.Generator, datatype: str, shape: Sequence[int]) -> Tensor:
    if datatype == "BF16":
        return _bf16(generator.standard_normal(shape, np.float32))
    kind = codec.NUMPY_DTYPES[datatype]
    if datatype == "FP32":
        return codec.from_array(generator.standard_normal(shape, np.float32))
    if datatype.startswith("FP"):
        return codec.from_array(generator.standard_normal(shape).astype(kind), every=True)
    is_pixels = datatype == "UINT8" and len(shape) == 4
    values = generator.integers(0, 256 if is_pixels else 2, shape, np.uint8)
    return codec.from_array(values.astype(kind, copy=False), every=True)
