"""Content-Encoding gzip and deflate, bounded while a body is unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from corral.errors import InvalidRequest, TooLarge
from corral.inflate import CutOff, Damaged, Followed, TooMuch, inflate, is_never_hopeless
from corral.protocol.rest.statuses import MediaNotTaken

#: window bits, as zlib wants them
_GZIP, _ZLIB, _RAW = 31, 15, -15
#: the fastest level: a client that asks for compression has a slow network, not we a slow disk
_LEVEL = 1

#: what may come before a JSON value
_BLANKS = b" \t\r\n"

Body = bytes | bytearray | memoryview


def unpack(
    body: Body,
    encoding: str | None,
    most_bytes: int,
    is_hopeless: Callable[[bytes], bool] = is_never_hopeless,
) -> Body:
    """The body as it was before its Content-Encoding.

    Args:
        body: as it came.
        encoding: the field's value; None when there is none.
        most_bytes: the largest result.
        is_hopeless: see ``inflate``.

    Raises:
        MediaNotTaken: another encoding, or several.
        TooLarge: it unpacks to more than that.
        InvalidRequest: it is damaged, cut off, or something follows it.
    """
    name = (encoding or "identity").lower()
    if name == "identity":
        return body
    if name in {"gzip", "x-gzip"}:
        return _inflate(body, _GZIP, name, most_bytes, is_hopeless)
    if name == "deflate":
        # The standard means zlib's format; some clients send the bare stream.
        bits = _ZLIB if _has_zlib_header(body) else _RAW
        return _inflate(body, bits, name, most_bytes, is_hopeless)
    raise MediaNotTaken(f"a body is taken as it is, or in gzip or deflate, not in {name[:40]!r}")


def is_hopeless_request(beginning: bytes, header_bytes: int | None) -> bool:
    """Whether a body holds no request, whatever comes after its beginning.

    Args:
        beginning: as much of it as there is.
        header_bytes: Inference-Header-Content-Length; None: the whole body is JSON.
    """
    if header_bytes is not None and header_bytes > len(beginning):
        return False
    told = beginning.lstrip(_BLANKS)
    return bool(told) and not told.startswith(b"{")


def pack(body: bytes, encoding: str) -> bytes:
    """The body in "gzip" or "deflate"."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else _ZLIB)
    return packer.compress(body) + packer.flush()


def _has_zlib_header(body: Body) -> bool:
    start = bytes(body[:2])
    return len(start) == 2 and start[0] & 0x0F == 8 and int.from_bytes(start, "big") % 31 == 0


def _inflate(
    body: Body,
    window_bits: int,
    name: str,
    most_bytes: int,
    is_hopeless: Callable[[bytes], bool],
) -> bytes:
    try:
        return inflate([body], window_bits, most_bytes, is_hopeless)
    except TooMuch:
        raise TooLarge(f"the body unpacks to more than {most_bytes} bytes") from None
    except CutOff:
        raise InvalidRequest(f"the {name} body is cut off") from None
    except Followed:
        raise InvalidRequest(f"something follows the {name} body") from None
    except Damaged:
        raise InvalidRequest(f"the body is not in {name}") from None
