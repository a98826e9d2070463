"""gzip and deflate unpacked within a bound, so that the process's other threads go on meanwhile."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

#: zlib copies what it has unpacked while it keeps Python's other threads waiting, and copies what
#: it has not consumed yet; so it is given little at a time on both sides.
_PIECE_BYTES = 256 * 2**10
_PACKED_PIECE_BYTES = 64 * 2**10
#: of gzip; each costs some microseconds, and may be of 20 bytes that unpack to nothing
_MOST_MEMBERS = 4096
_GZIP = 31
_GZIP_START = b"\x1f\x8b"


class TooMuch(Exception):
    """It unpacks to more than is allowed."""


class Damaged(Exception):
    """It is not packed that way."""


class CutOff(Damaged):
    """It ends too early."""


class Followed(Damaged):
    """Something follows its end that is no further member of it, or there are too many of them."""


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
        window_bits: the format, as zlib wants it: 31 for gzip, of one member or several, 15 for
            zlib's own, -15 for neither.
        most_bytes: the largest result; no more than one byte beyond it is unpacked.
        is_hopeless: whether what begins like this is refused whatever follows; then no more is
            unpacked, and the beginning is the result.

    Raises:
        TooMuch: it is larger.
        Damaged: it is not in that format; its subclasses say what else is wrong.
    """
    unpacker = zlib.decompressobj(window_bits)
    members = 1
    parts: list[bytes] = []
    # One more than allowed tells what is too large from what just fits.
    left = most_bytes + 1
    try:
        for piece in _short(pieces):
            rest: bytes | memoryview = piece
            more = True
            # All of a piece may be consumed while some of what it becomes is not out yet.
            while more:
                if unpacker.eof:
                    _check_next(window_bits, members, rest)
                    unpacker = zlib.decompressobj(window_bits)
                    members += 1
                part = unpacker.decompress(rest, min(_PIECE_BYTES, left))
                left -= len(part)
                if left <= 0:
                    raise TooMuch
                if part:
                    if not parts and is_hopeless(part):
                        return part
                    parts.append(part)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                more = bool(rest or (part and not unpacker.eof))
    except zlib.error:
        raise Damaged from None
    if not unpacker.eof:
        raise CutOff
    # Of a long list of bytes the join, too, lets the other threads go on.
    return b"".join(parts)


def _check_next(window_bits: int, members: int, rest: bytes | memoryview) -> None:
    """Raises where what follows an end is no further member of a gzip stream.

    Its first byte may be all that there is of it so far.
    """
    begins = _GZIP_START.startswith(bytes(rest[: len(_GZIP_START)]))
    if window_bits != _GZIP or not begins or members == _MOST_MEMBERS:
        raise Followed


def _short(pieces: Iterable[bytes | bytearray | memoryview]) -> Iterable[memoryview]:
    for piece in pieces:
        whole = memoryview(piece)
        for at in range(0, len(whole), _PACKED_PIECE_BYTES):
            yield whole[at : at + _PACKED_PIECE_BYTES]
