"""A tensor's values as JSON text to its raw bytes, with bounded memory.

The text of a tensor is much longer than the tensor, and as Python's numbers it would be longer
still. So its brackets and commas are compared with what the shape says before a number is read,
and the numbers are read a piece at a time.
"""

from __future__ import annotations

import binascii
import functools
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from corral.errors import InvalidRequest
from corral.tensors import Datatype

Text = bytes | memoryview

_LENGTH_PREFIX = struct.Struct("<I")
_BLANKS = b" \t\r\n"
#: what numbers are made of; words as NaN and true are not
_NUMBER_BYTES = b"0123456789+-.eE"
_PIECE_BYTES = 64 * 2**10

_FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})
#: the exponent of infinity and NaN
_BF16_INFINITY = 0x7F80
_FLOAT_LIST = msgspec.json.Decoder(list[float])
_STRINGS = msgspec.json.Decoder(list[str | list[str]])


def read_numbers(text: Text, datatype: Datatype, shape: Sequence[int]) -> bytes:
    """The raw bytes of a tensor of numbers.

    Args:
        text: a JSON array whose grammar was checked: flat, or nested along the first dimensions.
        datatype: what the numbers become.
        shape: whose product is how many there must be; checked against the model.

    Returns:
        the tensor, row after row, little-endian.

    Raises:
        InvalidRequest: other than numbers, too many or too few, nested otherwise, out of range.
    """
    # Of BOOL the words are made numbers, which is a byte each.
    words = datatype is Datatype.BOOL
    skipped = _NUMBER_BYTES + _BLANKS
    marks = (_digits(piece, words).translate(None, skipped) for piece in _pieces(text))
    _check_nesting(b"".join(marks), shape)
    decoder = _decoder(datatype)
    tensor = np.empty(math.prod(shape), datatype.numpy)
    at = 0
    for piece in _pieces(text):
        numbers = _digits(piece, words).translate(None, b"[]" + _BLANKS)
        try:
            values = decoder.decode(b"[%b]" % numbers.rstrip(b","))
        except msgspec.DecodeError:
            raise InvalidRequest(_not_a(datatype)) from None
        tensor[at : at + len(values)] = _as_array(values, datatype)
        at += len(values)
    return tensor.tobytes()


def _pieces(text: Text) -> Iterator[bytes]:
    """The text in pieces that end behind a comma, so that no number is cut.

    Whoever else wants to run in this process can do so between two of them.
    """
    start = 0
    while start < len(text):
        piece = bytes(text[start : start + _PIECE_BYTES])
        if start + len(piece) < len(text):
            # A text without a comma for so long holds no numbers that anybody would write.
            piece = piece[: piece.rfind(b",") + 1]
            if not piece:
                raise InvalidRequest("the data has numbers of too many digits")
        start += len(piece)
        yield piece


def _digits(piece: bytes, words: bool) -> bytes:
    return piece.replace(b"true", b"1").replace(b"false", b"0") if words else piece


@functools.cache
def _decoder(datatype: Datatype) -> msgspec.json.Decoder[Any]:
    if datatype in _FLOATS:
        return _FLOAT_LIST
    least, most = _range(datatype)
    if datatype is Datatype.UINT64:
        # msgspec compares with signed numbers; what does not fit is noticed by numpy.
        return msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0)]])
    return msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=least, le=most)]])


def _range(datatype: Datatype) -> tuple[int, int]:
    if datatype is Datatype.BOOL:
        return 0, 1
    limits = np.iinfo(datatype.numpy.name)
    return int(limits.min), int(limits.max)


def _as_array(values: list[float], datatype: Datatype) -> np.ndarray[Any, Any]:
    if datatype not in _FLOATS:
        try:
            return np.array(values, datatype.numpy)
        except OverflowError:
            raise InvalidRequest(_not_a(datatype)) from None
    wide = datatype is Datatype.BF16
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32 if wide else datatype.numpy)
    if not np.isfinite(array).all():
        raise InvalidRequest(_not_a(datatype))
    if not wide:
        return array
    # Rounded to the nearest, to even at half.
    bits = array.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    # The largest of FP32 are nearer to infinity.
    if ((rounded & _BF16_INFINITY) == _BF16_INFINITY).any():
        raise InvalidRequest(_not_a(datatype))
    return rounded


def _not_a(datatype: Datatype) -> str:
    if datatype in _FLOATS:
        kind = f"numbers that fit into {datatype.name}"
    elif datatype is Datatype.BOOL:
        kind = "true and false"
    else:
        kind = "integers from {} to {}".format(*_range(datatype))
    return f"the data of a {datatype.name} input is {kind}"


def _check_nesting(marks: bytes, shape: Sequence[int]) -> None:
    """Compares an array's brackets and commas with the shape.

    Raises:
        InvalidRequest: there are other marks, or they stand elsewhere.
    """
    # Anything but marks and numbers: strings, objects, true, null.
    if marks.translate(None, b"[],"):
        raise InvalidRequest(
            "the data is a JSON array of numbers, flat or nested as the shape says"
        )
    depth = len(marks) - len(marks.lstrip(b"["))
    if not 1 <= depth <= len(shape):
        raise InvalidRequest(f"the data is nested {depth} deep; the shape has {len(shape)}")
    # The innermost arrays hold what the dimensions that are not nested make.
    *outer, inner = (*shape[: depth - 1], math.prod(shape[depth - 1 :]))
    expected = 1 + marks.count(b",")
    if expected != math.prod(shape):
        raise InvalidRequest(
            f"the data has {expected} values; the shape {list(shape)} is {math.prod(shape)}"
        )
    pattern = b"[%b]" % (b"," * (inner - 1))
    for size in reversed(outer):
        pattern = b"[%b]" % b",".join([pattern] * size)
    if marks != pattern:
        raise InvalidRequest(f"the data is not nested as the shape {list(shape)} says")


def read_strings(text: Text, count: int, *, base64: bool) -> bytes:
    """The raw bytes of a BYTES tensor: each element behind its length.

    Args:
        text: a JSON array of strings whose grammar was checked, flat or one array an element.
        count: elements.
        base64: whether the strings are base64; else they are the elements themselves, as UTF-8.

    Raises:
        InvalidRequest: other than strings, too many or too few, or not base64.
    """
    # Before any of them is made: escaped quotes stand inside strings.
    text = bytes(text)
    if text.count(b'"') - text.count(b'\\"') > 2 * count:
        raise InvalidRequest(f"the data has more than {count} strings")
    try:
        elements = _STRINGS.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("the data of a BYTES input is a JSON array of strings") from None
    flat: list[str] = []
    for element in elements:
        flat += [element] if isinstance(element, str) else element
    if len(flat) != count:
        raise InvalidRequest(f"the data has {len(flat)} strings, not {count}")
    parts: list[bytes] = []
    for string in flat:
        content = _from_base64(string) if base64 else string.encode()
        parts += (_LENGTH_PREFIX.pack(len(content)), content)
    return b"".join(parts)


def _from_base64(string: str) -> bytes:
    try:
        return binascii.a2b_base64(string.encode("ascii"), strict_mode=True)
    except ValueError:
        raise InvalidRequest("a string of the data is not base64") from None


def as_element(content: bytes | bytearray | memoryview) -> bytes:
    """A BYTES tensor of one element; copies it once."""
    return b"".join((_LENGTH_PREFIX.pack(len(content)), content))
