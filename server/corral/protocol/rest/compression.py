"""Content-Encoding gzip and deflate, bounded while a body is unpacked."""

from __future__ import annotations

import zlib

from corral.errors import InvalidRequest, TooLarge
from corral.protocol.rest.statuses import MediaNotTaken

#: window bits, as zlib wants them
_GZIP, _ZLIB, _RAW = 31, 15, -15
#: the fastest level: a client that asks for compression has a slow network, not we a slow disk
_LEVEL = 1
#: what is unpacked at a time, so that a bomb costs this and the limit
_PIECE_BYTES = 256 * 2**10
_PACKED_PIECE_BYTES = 64 * 2**10

Body = bytes | bytearray | memoryview


def unpack(body: Body, encoding: str | None, most_bytes: int) -> Body:
    """The body as it was before its Content-Encoding.

    Args:
        body: as it came.
        encoding: the field's value; None when there is none.
        most_bytes: the largest result.

    Raises:
        MediaNotTaken: another encoding, or several.
        TooLarge: it unpacks to more than that.
        InvalidRequest: it is damaged, cut off, or something follows it.
    """
    name = (encoding or "identity").lower()
    if name == "identity":
        return body
    if name in {"gzip", "x-gzip"}:
        return _inflate(body, _GZIP, name, most_bytes)
    if name == "deflate":
        # The standard means zlib's format; some clients send the bare stream.
        return _inflate(body, _ZLIB if _has_zlib_header(body) else _RAW, name, most_bytes)
    raise MediaNotTaken(f"a body is taken as it is, or in gzip or deflate, not in {name[:40]!r}")


def pack(body: bytes, encoding: str) -> bytes:
    """The body in "gzip" or "deflate"."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    return packer.compress(body) + packer.flush()


def _has_zlib_header(body: Body) -> bool:
    start = bytes(body[:2])
    return len(start) == 2 and start[0] & 0x0F == 8 and int.from_bytes(start, "big") % 31 == 0


def _inflate(body: Body, window_bits: int, name: str, most_bytes: int) -> bytearray:
    unpacker = zlib.decompressobj(window_bits)
    unpacked = bytearray()
    packed = memoryview(body)
    at = 0
    try:
        while at < len(packed) and not unpacker.eof:
            # Piece by piece on both sides: zlib copies what it has not consumed yet.
            rest: Body = packed[at : at + _PACKED_PIECE_BYTES]
            at += len(rest)
            while rest and not unpacker.eof:
                # One more than allowed tells a body that is too large from one that just fits.
                most = min(_PIECE_BYTES, most_bytes + 1 - len(unpacked))
                unpacked += unpacker.decompress(rest, most)
                if len(unpacked) > most_bytes:
                    raise TooLarge(f"the body unpacks to more than {most_bytes} bytes")
                rest = unpacker.unconsumed_tail
    except zlib.error:
        raise InvalidRequest(f"the body is not in {name}") from None
    if not unpacker.eof:
        raise InvalidRequest(f"the {name} body is cut off")
    if unpacker.unused_data or at < len(packed):
        raise InvalidRequest(f"something follows the {name} body")
    return unpacked
