"""gzip and deflate unpacked within a bound, so that the process's other threads go on meanwhile."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

#: zlib copies what it has unpacked while it keeps Python's other threads waiting, and copies what
#: it has not consumed yet; so it is given little at a time on both sides.
_PIECE_BYTES = 256 * 2**10
_PACKED_PIECE_BYTES = 64 * 2**10


class TooMuch(Exception):
    """It unpacks to more than is allowed."""


class Damaged(Exception):
    """It is not packed that way."""


class CutOff(Damaged):
    """It ends too early."""


class Followed(Damaged):
    """Something follows its end."""


def is_never_hopeless(_beginning: bytes) -> bool:
    """For what cannot be told before all of it is there."""
    return False


def inflate(
    pieces: Iterable[bytes | bytearray | memoryview],
    window_bits: int,
    most_bytes: int,
    is_hopeless: Callable[[bytes], bool] = is_never_hopeless,
) -> bytes:
    """What was packed, as it was before.

    Args:
        pieces: the packed bytes, one after another.
        window_bits: the format, as zlib wants it: 31 for gzip, 15 for zlib's own, -15 for neither.
        most_bytes: the largest result; no more than one byte beyond it is unpacked.
        is_hopeless: whether what begins like this is refused whatever follows; then no more is
            unpacked, and the beginning is the result.

    Raises:
        TooMuch: it is larger.
        Damaged: it is not in that format; its subclasses say what else is wrong.
    """
    unpacker = zlib.decompressobj(window_bits)
    parts: list[bytes] = []
    # One more than allowed tells what is too large from what just fits.
    left = most_bytes + 1
    try:
        for piece in _short(pieces):
            if unpacker.eof:
                raise Followed
            rest: bytes | memoryview = piece
            more = True
            # All of a piece may be consumed while some of what it becomes is not out yet.
            while more and not unpacker.eof:
                part = unpacker.decompress(rest, min(_PIECE_BYTES, left))
                left -= len(part)
                if left <= 0:
                    raise TooMuch
                if not parts and is_hopeless(part):
                    return part
                parts.append(part)
                rest = unpacker.unconsumed_tail
                more = bool(part or rest)
            if unpacker.unused_data:
                raise Followed
    except zlib.error:
        raise Damaged from None
    if not unpacker.eof:
        raise CutOff
    # Of a long list of bytes the join, too, lets the other threads go on.
    return b"".join(parts)


def _short(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterable[memoryview]:
    for piece in pieces:
        whole = memoryview(piece)
        for at in range(0, len(whole), _PACKED_PIECE_BYTES):
            yield whole[at : at + _PACKED_PIECE_BYTES]
