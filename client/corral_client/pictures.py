"""What people hand over as pictures, made into one input: paths, encoded bytes, arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_client import codec
from corral_client.codec import Tensor
from corral_client.errors import InvalidArgument

#: an encoded picture: a file's path, or its content
Encoded = str | os.PathLike[str] | bytes
#: one picture: encoded, or one item of a model's input
Picture = Encoded | NDArray[Any]
#: one picture, several, or an array of several
Pictures = Picture | Sequence[Picture]

#: dimensions of one item, as an array
_ITEM_DIMENSIONS = 3


def is_single(pictures: Pictures) -> bool:
    """Whether this is one picture: a path, bytes, or an array without a batch dimension."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim == _ITEM_DIMENSIONS
    return isinstance(pictures, (str, bytes, os.PathLike))


def on_disk(pictures: Pictures) -> bool:
    """Whether a file has to be read for this."""
    if isinstance(pictures, (str, os.PathLike)):
        return True
    if isinstance(pictures, (bytes, np.ndarray)):
        return False
    return any(isinstance(picture, (str, os.PathLike)) for picture in pictures)


def load(pictures: Pictures) -> Tensor:
    """One request's input from one picture or several.

    Args:
        pictures: paths and bytes are JPEG or PNG files, decoded by the server. An array is one
            item, uint8 [h,w,3] or float32 [3,h,w], or several, with the batch dimension first.

    Raises:
        InvalidArgument: nothing, arrays of different shapes, or arrays and files mixed.
        OSError: a file cannot be read.
    """
    if isinstance(pictures, np.ndarray):
        return codec.from_array(pictures[np.newaxis] if is_single(pictures) else pictures)
    if isinstance(pictures, (str, bytes, os.PathLike)):
        return codec.from_pictures([_read(pictures)])
    return _load_several(list(pictures))


def _load_several(pictures: list[Picture]) -> Tensor:
    if not pictures:
        raise InvalidArgument("there is no picture in the list")
    arrays = [picture for picture in pictures if isinstance(picture, np.ndarray)]
    if not arrays:
        return codec.from_pictures([_read(p) for p in pictures if not isinstance(p, np.ndarray)])
    if len(arrays) != len(pictures):
        raise InvalidArgument("a request takes files or arrays; send the two apart")
    if len({(array.shape, array.dtype) for array in arrays}) != 1:
        raise InvalidArgument("arrays in one list must have one shape and one dtype")
    return codec.from_array(np.stack(arrays))


def _read(picture: Encoded) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        return Path(picture).read_bytes()
    raise InvalidArgument(
        f"a {type(picture).__name__} is no picture; give a path, bytes or a numpy array"
    )
