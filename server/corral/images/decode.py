"""Encoded pictures to pixels, as a model's recipe says. Called in threads of the frontend.

Pillow lets go of the GIL while it decodes and scales, so that threads run side by side and the
event loop runs on. A JPEG is decoded at 1/2, 1/4 or 1/8 where that is still twice as large as
the recipe's ``resize``: the codec then skips most of the work, and the filter that scales the rest
has enough to weigh (at once the size it is up to 42 of 255 off, at twice the size 10; 12 MP take
15.6 ms for 13.4). Scaling and cropping are one step, from the box that the crop would keep, so that
no shape of picture makes anything large: a column of one pixel by 50 million included.

Memory: what Pillow holds at a time is at most two copies of ``max_pixels`` at 4 bytes, and for a
progressive JPEG libjpeg's coefficients, 2 bytes a sample; and of pictures beyond full HD no more
than some hundred times what was sent (``header``). No colour profile is applied, as in
training.
"""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from corral.errors import InvalidRequest
from corral.images.header import Data, ImageHeader, check_header, cut_trailer, essence
from corral.models.spec import Recipe

__all__ = ["ImageHeader", "check_header", "decode"]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: what turns a stored picture upright, by EXIF's orientation
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
#: orientations that bring the stored picture's right or lower edge to the left, and to the top
_FROM_FAR_LEFT = frozenset({2, 3, 6, 7})
_FROM_FAR_TOP = frozenset({3, 4, 7, 8})
#: how much larger than the recipe's size a scaled JPEG is at the least
_ROOM = 2
#: what a viewer shows behind transparent pixels; dropping alpha would show what is hidden there
_PAPER = (255, 255, 255)
#: progressive encoders write about 10; each one costs a pass over all coefficients
_MAX_SCANS = 100


def decode(data: Data, recipe: Recipe, max_pixels: int) -> NDArray[np.uint8]:
    """Decodes a JPEG or PNG, turns it upright, scales its shorter side and crops its centre.

    Args:
        data: the encoded picture.
        recipe: the model's; normalising is left to the model.
        max_pixels: the largest width times height.

    Returns:
        UINT8 [crop,crop,3], R, G, B, contiguous, read-only.

    Raises:
        InvalidRequest: not a JPEG or PNG, damaged, cut off or too large.
    """
    header = check_header(data, max_pixels)
    encoded = essence(data, header)
    if header.format == "JPEG":
        encoded, scans = cut_trailer(encoded, header)
        if scans > _MAX_SCANS:
            raise InvalidRequest(f"the JPEG has more than {_MAX_SCANS} scans: write it anew")
    try:
        picture, extent = _open(encoded, header, recipe)
        pixels = _fit(picture, extent, recipe)
    except MemoryError:
        raise
    except Exception as error:
        # Whatever a codec finds wrong with its input, its words are not meant for the client.
        raise InvalidRequest(
            f"the {header.format} cannot be decoded: it is damaged, cut off or of a rare kind"
        ) from error
    return np.asarray(pixels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Extent:
    """What a picture covers of its pixels: a scaled JPEG is rounded up to whole ones."""

    left: float
    top: float
    width: float
    height: float


def _open(encoded: bytes, header: ImageHeader, recipe: Recipe) -> tuple[Image.Image, _Extent]:
    """The picture, decoded and upright, and where in it the picture really is."""
    # The plugin itself, not Image.open: no other codec is tried, and Pillow's own limit on
    # pixels, a setting of the process, does not get in the way of ours.
    source: ImageFile = (JpegImageFile if header.format == "JPEG" else PngImageFile)(
        io.BytesIO(encoded)
    )
    if source.size != (header.width, header.height):
        raise ValueError("codec and header disagree on the size")
    drafted = source.draft(None, (_ROOM * recipe.resize, _ROOM * recipe.resize))
    width, height = drafted[1][2:] if drafted else source.size
    source.load()
    picture = _plain(source, header.depth)
    # Three copies at a time would be one too many.
    del source
    if header.orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[header.orientation])
    if header.orientation in _SIDEWAYS:
        width, height = height, width
    # What is rounded up lies at the right and below, until the picture is turned.
    left = picture.width - width if header.orientation in _FROM_FAR_LEFT else 0.0
    top = picture.height - height if header.orientation in _FROM_FAR_TOP else 0.0
    return picture, _Extent(left=left, top=top, width=width, height=height)


def _plain(source: ImageFile, depth: int) -> Image.Image:
    """The picture in a mode that can be scaled: L, RGB, LA or RGBA, 8 bits a sample."""
    picture: Image.Image = source
    key = source.info.get("transparency")
    if source.mode == "I;16":
        # Pillow clips 16 bits at 255 instead of dividing them.
        grey = np.asarray(source)
        picture = Image.fromarray((grey >> 8).astype(np.uint8))
        if key is not None:
            picture.putalpha(Image.fromarray((grey != key) * np.uint8(255)))
        return picture
    if key is not None and source.mode in ("L", "RGB"):
        # Pillow scales the samples to 8 bits, but not the colour that stands for transparent.
        source.info["transparency"] = _key_in_8_bits(key, depth)
    if source.mode == "1":
        picture = source.convert("L" if key is None else "LA")
    elif source.mode == "P" or key is not None:
        picture = source.convert("RGB" if key is None else "RGBA")
    elif source.mode == "CMYK":
        picture = source.convert("RGB")
    return picture


def _key_in_8_bits(key: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """A PNG's transparent colour, from samples of ``depth`` bits to samples of 8."""
    largest = (1 << depth) - 1
    if isinstance(key, tuple):
        return tuple((sample & largest) * 255 // largest for sample in key)
    return (key & largest) * 255 // largest


def _fit(picture: Image.Image, extent: _Extent, recipe: Recipe) -> Image.Image:
    """Scales and crops in one step, to RGB of crop x crop."""
    left, top, right, bottom = (
        crop_box(extent.width, extent.height, recipe)
        if recipe.resize_mode == "crop"
        else (0.0, 0.0, extent.width, extent.height)
    )
    # Rounding must not carry the box over the edge.
    box = (
        max(left + extent.left, 0),
        max(top + extent.top, 0),
        min(right + extent.left, picture.width),
        min(bottom + extent.top, picture.height),
    )
    size = inner_size(extent.width, extent.height, recipe)
    fitted = picture.resize(size, _FILTERS[recipe.interpolation], box=box)
    if fitted.mode in ("LA", "RGBA"):
        paper = Image.new("RGBA", size, _PAPER)
        fitted = Image.alpha_composite(paper, fitted.convert("RGBA"))
    fitted = fitted.convert("RGB")
    if size == (recipe.crop, recipe.crop):
        return fitted
    whole = Image.new("RGB", (recipe.crop, recipe.crop), recipe.pad)
    whole.paste(fitted, ((recipe.crop - size[0]) // 2, (recipe.crop - size[1]) // 2))
    return whole


def inner_size(width: float, height: float, recipe: Recipe) -> tuple[int, int]:
    """What a picture is scaled to: all of the input, but where it is letterboxed."""
    if recipe.resize_mode != "letterbox":
        return recipe.crop, recipe.crop
    scale = recipe.crop / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def crop_box(width: float, height: float, recipe: Recipe) -> tuple[float, float, float, float]:
    """The box of a picture, left, top, right, bottom in its pixels, that the crop keeps.

    Scaling this box to crop x crop is the same as scaling the shorter side to ``resize``, the
    longer one with it, rounded down, and then cropping the centre.
    """
    shorter = min(width, height)
    scaled_width = math.floor(recipe.resize * width / shorter)
    scaled_height = math.floor(recipe.resize * height / shorter)
    left = round((scaled_width - recipe.crop) / 2)
    top = round((scaled_height - recipe.crop) / 2)
    across, down = width / scaled_width, height / scaled_height
    return (
        left * across,
        top * down,
        (left + recipe.crop) * across,
        (top + recipe.crop) * down,
    )
