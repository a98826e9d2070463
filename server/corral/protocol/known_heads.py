"""Heads that were read before: a client sends the same one again and again. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable

from corral.protocol.envelope import tail
from corral.protocol.head import Head

#: heads up to this size are remembered
CACHEABLE_BYTES = 512
_HEADS = 256
#: and of so many sizes of a message, the latest one's is found without a walk
_SIZES = 64
_NOTHING: tuple[bytes, Head | None] = (b"", None)


class KnownHeads:
    """Reads heads, and remembers the short ones.

    Args:
        read: reads one; what it raises is not remembered.

    Attributes:
        of: the head that these bytes are, of at most CACHEABLE_BYTES.
    """

    def __init__(self, read: Callable[[bytes], Head]) -> None:
        self.of = functools.lru_cache(maxsize=_HEADS)(read)
        #: by the size of a message: what the latest one was before its tensor, and its head
        self._latest: dict[int, tuple[bytes, Head | None]] = {}

    def before(self, first: bytes | memoryview, size: int) -> tuple[Head, int] | None:
        """The head of a message whose raw tensor is its tail; raises what ``read`` does.

        Args:
            first: the message's first piece.
            size: bytes of the whole message.

        Returns:
            the head, and where the tensor starts in ``first``; None where the message is not of
            this form, or its head is too long to be remembered.
        """
        beginning, known = self._latest.get(size, _NOTHING)
        start = len(beginning)
        if known is not None and first[:start] == beginning:
            return known, start
        found = tail(first, size)
        if found is None or found[0] > CACHEABLE_BYTES:
            return None
        end, start = found
        head = self.of(bytes(first[:end]))
        if len(self._latest) >= _SIZES:
            self._latest.clear()
        self._latest[size] = bytes(first[:start]), head
        return head, start
