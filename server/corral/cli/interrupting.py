"""Whoever ends a command that measures by a signal gets what Ctrl-C gives: all that is known."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

#: the exit code, as a shell has it
INTERRUPTED = 130


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """In the block, SIGTERM raises KeyboardInterrupt as SIGINT does."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
