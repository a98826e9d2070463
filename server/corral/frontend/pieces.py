"""A long body cut into pieces.

The HTTP server keeps a whole body that it is given, however long, until the client has taken it,
and has the application wait with the next one. So what is long goes in pieces, and only the pieces
that it holds already are beyond recall.
"""

from __future__ import annotations

from collections.abc import Iterator

#: what is no longer goes whole
PIECE_BYTES = 2**19


def cut(body: bytes, head: bytes = b"") -> Iterator[tuple[bytes, bool]]:
    """The pieces of what goes out, and whether another follows; at least one.

    Args:
        body: most of it; not copied as a whole where it is long.
        head: what goes before it, in the first piece.
    """
    size = len(body)
    if size <= PIECE_BYTES:
        yield head + body, False
        return
    yield head + body[:PIECE_BYTES], True
    for start in range(PIECE_BYTES, size, PIECE_BYTES):
        yield body[start : start + PIECE_BYTES], start + PIECE_BYTES < size
