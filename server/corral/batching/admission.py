"""Messages that are being received: so many at a time, and none for ever while others wait.

A message that is under way holds memory that no queue knows of yet. Pure: the caller brings the
clock and what is to be done with a message that is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class MessagesUnderWay(Generic[Key]):
    """The messages under way, the oldest first.

    Args:
        most: how many there may be.
        give_up: called with the key of one that has to make room.
        slow_s: a message may take longer than this, but not while the room is needed.
    """

    def __init__(self, most: int, give_up: Callable[[Key], object], slow_s: float) -> None:
        self.most = most
        self._give_up = give_up
        self._slow_s = slow_s
        self._began_s: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._began_s)

    def __contains__(self, key: Key) -> bool:
        return key in self._began_s

    def begin(self, key: Key, now_s: float) -> bool:
        """Makes room for one more message; False when all there are came just now.

        Args:
            key: names the message until ``end``.
            now_s: on the monotonic clock.
        """
        if len(self._began_s) >= self.most:
            oldest = next(iter(self._began_s))
            if now_s - self._began_s[oldest] < self._slow_s:
                return False
            del self._began_s[oldest]
            self._give_up(oldest)
        self._began_s[key] = now_s
        return True

    def end(self, key: Key) -> bool:
        """The message is there, or its client is gone; False when it had been given up."""
        return self._began_s.pop(key, None) is not None

    def clear(self) -> list[Key]:
        """Forgets all messages, and says which they were."""
        keys = list(self._began_s)
        self._began_s.clear()
        return keys
