"""A tensor that came in pieces, left where they are: it is copied once, to a worker."""

from __future__ import annotations

from collections.abc import Sequence


class Scattered:
    """The bytes of a tensor in several pieces.

    Args:
        pieces: one after another.
    """

    __slots__ = ("_pieces", "_size")

    def __init__(self, pieces: Sequence[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def read_into(self, target: memoryview, start: int) -> None:
        """Fills ``target`` with the tensor's bytes from ``start``."""
        at = 0
        if len(target) == self._size:
            for piece in self._pieces:
                end = at + len(piece)
                target[at:end] = piece
                at = end
            return
        for piece in self._pieces:
            length = len(piece)
            if start >= length:
                start -= length
                continue
            count = min(length - start, len(target) - at)
            if count == length:
                target[at : at + count] = piece
            else:
                target[at : at + count] = memoryview(piece)[start : start + count]
            at += count
            start = 0
            if at == len(target):
                return

    def joined(self) -> memoryview:
        """The whole of it in one piece, a copy."""
        return memoryview(b"".join(self._pieces))
