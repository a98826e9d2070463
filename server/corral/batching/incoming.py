"""Messages that clients still owe: how many, how much they hold, and which one makes room.

A message that is on its way holds memory that no queue knows of yet, and a client may leave it on
its way for ever. So the connections share the room: where it is used up, the one that uses most of
it gives way to the one that uses less. Pure: the caller brings the clock, and is told whom to give
up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key", bound=Hashable)


class _Source(msgspec.Struct, Generic[Key], eq=False):
    """A connection: its messages, the oldest first, and what they hold."""

    keys: dict[Key, None]
    held_bytes: int = 0


class _Message(msgspec.Struct, Generic[Key], eq=False):
    """A message on its way."""

    name: Hashable
    source: _Source[Key]
    held_bytes: int = 0
    #: when its latest piece came; None while the server does not take another one
    grew_s: float | None = 0.0


class Incoming(Generic[Key]):
    """The messages on their way.

    Args:
        most: how many there may be.
        most_bytes: what those may hold that are there in part. A connection's fair share is never
            waited for, nor is the oldest message, so that it can be twice as much and a message.
        give_up: called with the key of one that has to make room.
    """

    def __init__(self, most: int, most_bytes: int, give_up: Callable[[Key], object]) -> None:
        self.most = most
        self._most_bytes = most_bytes
        self._give_up = give_up
        self._incoming: dict[Key, _Message[Key]] = {}
        self._sources: dict[Hashable, _Source[Key]] = {}
        #: those that are there in part, the oldest first
        self._partial: dict[Key, _Message[Key]] = {}
        #: what they hold
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._incoming)

    def __contains__(self, key: Key) -> bool:
        return key in self._incoming

    def begin(self, key: Key, source: Hashable) -> bool:
        """Makes room for one more message; False when its own connection has the most of them.

        Args:
            key: names the message until ``end``.
            source: names its connection.
        """
        found = self._sources.get(source)
        if len(self._incoming) >= self.most:
            largest = max(self._sources.values(), key=lambda one: len(one.keys), default=None)
            own = len(found.keys) if found else 0
            if largest is None or len(largest.keys) < own + 2:
                return False
            self._drop(next(iter(largest.keys)))
            # It may have been the last one of the same connection.
            found = self._sources.get(source)
        if found is None:
            found = self._sources[source] = _Source({})
        self._incoming[key] = _Message(source, found)
        found.keys[key] = None
        return True

    def end(self, key: Key) -> bool:
        """The message is there, or its client is gone; False when it had been given up."""
        message = self._incoming.pop(key, None)
        if message is None:
            return False
        source = message.source
        del source.keys[key]
        if not source.keys:
            del self._sources[message.name]
        if message.held_bytes:
            del self._partial[key]
            source.held_bytes -= message.held_bytes
            self.held_bytes -= message.held_bytes
        return True

    def grow(self, key: Key, count: int, now_s: float) -> bool:
        """More of a message is there, and not all; False: no further piece may be taken yet.

        Args:
            key: the message's.
            count: bytes of the piece; 0 to ask again.
            now_s: on the monotonic clock.
        """
        message = self._incoming.get(key)
        if message is None or not (count or message.held_bytes):
            return True
        if not message.held_bytes:
            self._partial[key] = message
        message.held_bytes += count
        message.source.held_bytes += count
        self.held_bytes += count
        grows = self.held_bytes < self._most_bytes or self._has_its_share(key, message)
        message.grew_s = now_s if grows else None
        return grows

    def _has_its_share(self, key: Key, message: _Message[Key]) -> bool:
        """Whether a message may grow although the room is used up."""
        if next(iter(self._partial)) == key:
            return True
        sources = len({id(one.source) for one in self._partial.values()})
        return message.source.held_bytes <= self._most_bytes // sources

    def give_up_stalled(self, before_s: float) -> bool:
        """Gives up the largest message of which nothing came since then; False: there is none."""
        stalled = [
            (one.source.held_bytes, one.held_bytes, key)
            for key, one in self._partial.items()
            if one.grew_s is not None and one.grew_s <= before_s
        ]
        if not stalled:
            return False
        self._drop(max(stalled, key=lambda one: one[:2])[2])
        return True

    def _drop(self, key: Key) -> None:
        self.end(key)
        self._give_up(key)

    def clear(self, ends: Callable[[Key], bool]) -> None:
        """Gives up all messages of which that is true."""
        for key in [key for key in self._incoming if ends(key)]:
            self._drop(key)
