"""Whoever ends a command that measures by a signal gets what Ctrl-C gives: all that is known."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

#: the exit code, as a shell has it
INTERRUPTED = 130


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """In the block, SIGTERM raises KeyboardInterrupt as SIGINT does, and so does a closed terminal.

    Under nohup, SIGHUP stays ignored.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
