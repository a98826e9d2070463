"""Protobuf's envelope, walked without being parsed: what is large is found in place and cut out.

What is parsed grows: an empty element costs two bytes to send and a hundred to hold. So the walk
is bounded by a number of fields, and what it leaves to protobuf by a number of bytes. Pure.
"""

from __future__ import annotations

from corral.errors import InvalidRequest

#: the largest head, that is a request without its tensor
MAX_HEAD_BYTES = 2**16
#: fields of a message; a request has five, and one for every parameter
MAX_FIELDS = 256
NOT_A_REQUEST = "the message is no inference.ModelInferRequest"

_RAW_INPUT = 7
_INPUT, _INPUT_TAG = 5, b"\x2a"
_CONTENTS = 5
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    """The varint at ``at``, and where it ends."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = message[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise InvalidRequest(NOT_A_REQUEST)


def _field(message: bytes, at: int) -> tuple[int, int, int]:
    """The key of the field at ``at``, and where its content starts and ends.

    Raises:
        IndexError: the message ends before that is known.
        InvalidRequest: it is no field.
    """
    key, at = _read_varint(message, at)
    wire_type = key & 7
    if wire_type == _LENGTH:
        length, at = _read_varint(message, at)
        return key, at, at + length
    if wire_type == _VARINT:
        return key, at, _read_varint(message, at)[1]
    if wire_type == _FIXED64:
        return key, at, at + 8
    if wire_type == _FIXED32:
        return key, at, at + 4
    raise InvalidRequest(NOT_A_REQUEST)


def is_hopeless(beginning: bytes) -> bool:
    """Whether a message is no request, whatever comes after its beginning."""
    at = 0
    try:
        for _ in range(MAX_FIELDS):
            if at >= len(beginning):
                return False
            _, _, at = _field(beginning, at)
    except IndexError:
        return False
    except InvalidRequest:
        return True
    return at < len(beginning)


def cut(
    message: bytes, at: int, end: int, number: int, most: int = MAX_FIELDS
) -> tuple[bytes, list[tuple[int, int]]]:
    """Finds a field of the message that lies in ``message[at:end]``.

    Args:
        message: holds it.
        at: where it starts.
        end: where it ends.
        number: of the field; its elements are length-delimited.
        most: fields that it may have.

    Returns:
        the message without that field, and each element's (start, end) in ``message``.

    Raises:
        InvalidRequest: it is no protobuf message, or has more fields.
    """
    found: list[tuple[int, int]] = []
    kept: list[tuple[int, int]] = []
    keep_from = at
    try:
        for _ in range(most):
            if at >= end:
                break
            start = at
            key, begins, at = _field(message, at)
            if key & 7 == _LENGTH and key >> 3 == number:
                found.append((begins, at))
                kept.append((keep_from, start))
                keep_from = at
        else:
            if at < end:
                raise InvalidRequest(f"the request has more than {most} fields")
    except IndexError:
        raise InvalidRequest(NOT_A_REQUEST) from None
    if at != end:
        raise InvalidRequest(NOT_A_REQUEST)
    kept.append((keep_from, end))
    return b"".join([message[a:b] for a, b in kept]), found


def split(message: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """Finds the raw tensors of a ModelInferRequest in place.

    Returns:
        the message without them, and each one's (start, end) in the message.

    Raises:
        InvalidRequest: the envelope is no protobuf message, or has more fields than a request.
    """
    return cut(message, 0, len(message), _RAW_INPUT)


def tail(first: bytes | memoryview, size: int) -> tuple[int, int] | None:
    """Finds the raw tensor of a ModelInferRequest whose tail it is, as every client writes it.

    Args:
        first: the message's first piece.
        size: bytes of the whole message.

    Returns:
        where the rest ends and where the tensor starts, both in ``first``; None where the message
        is not of this form, whatever else it is.
    """
    at, end = 0, len(first)
    try:
        for _ in range(MAX_FIELDS):
            start = at
            key = first[at]
            at += 1
            if key >= 0x80 or key & 7 != _LENGTH:
                return None
            length = first[at]
            at += 1
            if length >= 0x80:
                length, at = _read_varint(first, at - 1)
            if key >> 3 == _RAW_INPUT:
                return (start, at) if at + length == size else None
            at += length
            if at >= end:
                return None
    except (IndexError, InvalidRequest):
        return None
    return None


def split_contents(head: bytes) -> tuple[bytes, bytes]:
    """Cuts typed contents, a serialised InferTensorContents, out of a head that they make large.

    Returns:
        the head without them, of at most ``MAX_HEAD_BYTES``, and the contents.

    Raises:
        InvalidRequest: something else makes it large.
    """
    rest, inputs = cut(head, 0, len(head), _INPUT)
    if len(inputs) == 1:
        tensor, contents = cut(head, *inputs[0], _CONTENTS)
        small = b"".join((rest, _INPUT_TAG, varint(len(tensor)), tensor))
        if len(contents) == 1 and len(small) <= MAX_HEAD_BYTES:
            start, end = contents[0]
            return small, head[start:end]
    raise _too_large(head, "one input")


def split_all_contents(head: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The same for several inputs: the head, and each input's contents; empty where it has none."""
    rest, inputs = cut(head, 0, len(head), _INPUT)
    small = [rest]
    found: list[bytes] = []
    for start, end in inputs:
        tensor, contents = cut(head, start, end, _CONTENTS)
        if len(contents) > 1:
            raise _too_large(head, "each input once")
        small += [_INPUT_TAG, varint(len(tensor)), tensor]
        found.append(b"".join(head[begin:stop] for begin, stop in contents))
    joined = b"".join(small)
    if len(joined) > MAX_HEAD_BYTES:
        raise _too_large(head, "each input once")
    return joined, tuple(found)


def _too_large(head: bytes, inputs: str) -> InvalidRequest:
    return InvalidRequest(
        f"a request has {inputs}, and at most {MAX_HEAD_BYTES} bytes besides its tensor; "
        f"this one has {len(head)}"
    )
