"""Whether whoever ends this command asked for it again: then nothing is waited for any more.

A signal's handler can tell nobody else: what waits for a child looks here meanwhile.
"""

from __future__ import annotations

_wanted = False


def want(*, wanted: bool = True) -> None:
    """Notes that what is under way is to end at once; or, for the next command, that it is not."""
    global _wanted  # noqa: PLW0603 — a handler has no other way to reach what it interrupts
    _wanted = wanted


def is_wanted() -> bool:
    """Whether it is."""
    return _wanted
