"""Whoever ends a command that measures by a signal gets what Ctrl-C gives: all that is known."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

from corral.system import haste

#: the exit code, as a shell has it
INTERRUPTED = 130
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What signals do: they raise KeyboardInterrupt, until ``hold``."""

    def __init__(self) -> None:
        self._is_held = False

    def hold(self) -> None:
        """From here on they interrupt nothing: what is left is short, and is to be whole."""
        self._is_held = True

    def come(self, *_: object) -> None:
        """One came. While another is answered, it only makes that quicker."""
        if self._is_held or _is_ending(sys.exception()):
            haste.want()
        else:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """In the block, SIGTERM raises KeyboardInterrupt as SIGINT does, and so does a closed terminal.

    The next one does not interrupt what the first has begun, cleaning up and telling what is known:
    servers are killed that would have ended in order. What was ignored before stays so: SIGHUP
    under nohup, SIGINT in a script's background.
    """
    found = Interrupts()
    haste.want(wanted=False)
    before = {
        number: signal.signal(number, found.come)
        for number in _ENDS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ending(error: BaseException | None) -> bool:
    """Whether what runs is cleaning up after a signal, or was called by what does."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
