"""The TOML file beside a user's model: what the model's own file cannot say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import inspect

from corral.errors import ModelError
from corral.models.onnx_header import Port
from corral.settings.files import read_toml
from corral.tensors import Datatype, Recipe, TensorSpec

#: the largest number in FP32, and the least that loses no digits
_MOST, _LEAST = 3.4028234e38, 1.1754944e-38


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[preprocessing]: as models.spec.Recipe, the crop read from the file.

    mean and std are one value, or one a channel, in the input's order.
    """

    resize: int | None = None
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    #: what a pixel is multiplied by before mean and std: 0.00392… for inputs from 0 to 1
    scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    resize_mode: Literal["crop", "stretch", "letterbox"] = "crop"
    #: msgspec 0.22 crashes on a union of a bounded number and a tuple: it is checked below
    pad: int | tuple[int, ...] = 114
    colors: Literal["RGB", "BGR", "GREY"] = "RGB"
    layout: Literal["NCHW", "NHWC"] | None = None
    #: side of the input's pictures, where the file leaves it open
    side: Annotated[int, msgspec.Meta(ge=1, le=8192)] | None = None


class Notes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The TOML file beside the model."""

    name: str | None = None
    labels: list[str] | str | None = None
    preprocessing: Preprocessing | None = None
    #: one item's shape by the name of an input or output, for what the file leaves open
    shapes: dict[str, tuple[Annotated[int, msgspec.Meta(ge=1)], ...]] = {}
    #: of inputs whose datatype the file does not say, as TorchScript never does
    datatypes: dict[str, str] = {}


def read_notes(path: Path) -> Notes:
    """What the TOML file beside a model says. Raises ModelError: it is none."""
    file = path.with_suffix(".toml")
    try:
        notes = msgspec.convert(read_toml(file), Notes)
    except FileNotFoundError:
        if file.is_symlink():
            raise ModelError(f"{file}: the link leads nowhere") from None
        return Notes()
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror}") from None
    except msgspec.ValidationError as error:
        raise ModelError(f"{file}: {error}{_known_instead(str(error))}") from None
    except ValueError as error:
        raise ModelError(f"{file}: {error}") from None
    for name, datatype in notes.datatypes.items():
        if datatype not in Datatype.__members__:
            raise ModelError(
                f"{file}: [datatypes] says {datatype[:100]!r} of {name!r}; there are "
                f"{', '.join(Datatype.__members__)}"
            )
    return notes


def _known_instead(refusal: str) -> str:
    """What could stand where msgspec found a word or a name that it does not know; or nothing."""
    found = inspect.type_info(Notes)
    _, _, place = refusal.partition(" - at `$")
    for name in filter(None, place.rstrip("`").split(".")):
        fields = found.fields if isinstance(found, inspect.StructType) else ()
        kinds = [field.type for field in fields if field.encode_name == name]
        found = kinds[0] if kinds else found
        if isinstance(found, inspect.UnionType):
            found = found.types[0]
    if refusal.startswith("Invalid enum value") and isinstance(found, inspect.LiteralType):
        return f"; it takes {', '.join(map(str, found.values))}"
    if "unknown field" in refusal and isinstance(found, inspect.StructType):
        return f"; there are {', '.join(field.encode_name for field in found.fields)}"
    return ""


def with_side(
    inputs: Sequence[Port], notes: Notes, shapes: Mapping[str, tuple[int, ...]]
) -> Mapping[str, tuple[int, ...]]:
    """The shapes, with that of a picture of any size where ``side`` settles it."""
    given = notes.preprocessing
    if given is None or given.side is None or len(inputs) != 1 or inputs[0].name in shapes:
        return shapes
    channels = 1 if given.colors == "GREY" else 3
    sides = (given.side, given.side)
    first, last = (channels, *sides), (*sides, channels)
    is_last = given.layout == "NHWC"
    if given.layout is None:
        is_last = _fits(inputs[0], last) and not _fits(inputs[0], first)
    return {**shapes, inputs[0].name: last if is_last else first}


def _fits(port: Port, item: tuple[int, ...]) -> bool:
    """Whether one item may be that, as far as the file says."""
    known = port.shape
    if known is None:
        return True
    return len(known) == len(item) + 1 and all(
        size in {None, wanted} for size, wanted in zip(known[1:], item, strict=True)
    )


def make_recipe(path: Path, given: Preprocessing, inputs: tuple[TensorSpec, ...]) -> Recipe:
    """How pictures become the model's input.

    Args:
        path: the model's file, for messages.
        given: what the TOML says.
        inputs: the model's.

    Raises:
        ModelError: it is not for this model.
    """
    toml = path.with_suffix(".toml")
    if len(inputs) > 1 or inputs[0].datatype not in {Datatype.FP32, Datatype.UINT8}:
        told = ", ".join(f"{spec.name} {spec.datatype.name}" for spec in inputs)
        raise ModelError(
            f"{toml}: [preprocessing] is for one input of pictures, FP32 or UINT8, and {path.name} "
            f"has {told}"
        )
    pixels = inputs[0].datatype is Datatype.UINT8
    side, layout = _side(path, given, inputs[0])
    if pixels and (given.colors != "RGB" or layout != "NHWC"):
        raise ModelError(f"{toml}: colors and layout are for an FP32 input; pixels are RGB, NHWC")
    resize = side if given.resize is None else given.resize
    channels = 1 if given.colors == "GREY" else 3
    mean, std = (_each(toml, name, getattr(given, name), channels) for name in ("mean", "std"))
    if resize < side:
        raise ModelError(f"{toml}: resize must be {side} or more, not {resize}")
    if min(std) <= 0:
        raise ModelError(f"{toml}: std must be above 0, not {min(std):g}")
    _check_reach(toml, given.scale, mean, std)
    if given.resize not in {None, side} and given.resize_mode != "crop":
        raise ModelError(f"{toml}: resize is for resize_mode crop; others scale to {side} at once")
    pad = given.pad if isinstance(given.pad, tuple) else (given.pad,) * 3
    if len(pad) != 3 or not all(0 <= value <= 255 for value in pad):
        raise ModelError(f"{toml}: pad is R, G, B, each 0 to 255")
    return Recipe(
        resize=resize,
        crop=side,
        interpolation=given.interpolation,
        mean=_three(value / given.scale for value in mean),
        std=_three(value / given.scale for value in std),
        resize_mode=given.resize_mode,
        pad=(pad[0], pad[1], pad[2]),
        layout="NCHW" if pixels else layout,
        colors=given.colors,
    )


def _side(path: Path, given: Preprocessing, source: TensorSpec) -> tuple[int, str]:
    """The side of the input's pictures, and how they lie."""
    item = source.shape
    channels = 1 if given.colors == "GREY" else 3
    layouts = ["NHWC"] if source.datatype is Datatype.UINT8 else ["NCHW", "NHWC"]
    for layout in layouts:
        if len(item) != 3 or given.layout not in {None, layout}:
            continue
        first, *sides = item if layout == "NCHW" else (item[2], *item[:2])
        if first == channels and sides[0] == sides[1] and given.side in {None, sides[0]}:
            return sides[0], layout
    wanted = " or ".join(
        f"[n,{channels},side,side]" if layout == "NCHW" else f"[n,side,side,{channels}]"
        for layout in layouts
        if given.layout in {None, layout}
    )
    raise ModelError(
        f"{path.with_suffix('.toml')}: [preprocessing] is for pictures, {wanted or 'NHWC'}, and "
        f"the input of {path.name} is [n,{','.join(map(str, item))}]"
    )


def _each(
    toml: Path, name: str, given: float | tuple[float, ...], channels: int
) -> tuple[float, ...]:
    """One value a channel."""
    values = given if isinstance(given, tuple) else (given,) * channels
    if len(values) != channels:
        raise ModelError(f"{toml}: {name} has {len(values)} values for {channels} channels")
    return values


def _check_reach(toml: Path, scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raises ModelError where the darkest or the brightest pixel would be no number in FP32.

    The graph computes (pixel - mean / scale) / (std / scale), each step in FP32.
    """
    for middle, spread in zip(mean, std, strict=True):
        steps = [middle / scale, spread / scale]
        steps += [(pixel - steps[0]) / steps[1] if steps[1] else math.inf for pixel in (0, 255)]
        if not all(abs(step) <= _MOST for step in steps) or steps[1] < _LEAST:
            raise ModelError(
                f"{toml}: mean {middle:g}, std {spread:g} and scale {scale:g} make no number of a "
                "pixel: (pixel * scale - mean) / std must fit into FP32"
            )


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    """As many as a Recipe has; of grey the first is meant."""
    found = tuple(values)
    first, second, third = found * 3 if len(found) == 1 else found
    return first, second, third
