"""A signal while a command is still loaded: its end, without a word.

PID 1 of a container has no default action, so that it needs a handler for it. The kernel drops what
comes before that, while the interpreter starts; whoever starts it can block signals (the image's
``env --block-signal``): then they wait until here.
"""

from __future__ import annotations

import os
import signal

_ENDS = (signal.SIGINT, signal.SIGTERM)


def end_quietly() -> None:
    """From here on SIGINT and SIGTERM end the process at once; what is ignored stays so.

    They do so where they are blocked, too, and where they came meanwhile.
    """
    for number in _ENDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)


def hold() -> None:
    """Lets both wait for the ``end_quietly`` of a program that takes this one's place."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)


def as_usual() -> None:
    """Undoes ``end_quietly``: whoever runs now cleans up after himself."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, _: object) -> None:
    # Nothing is begun yet; an exception could be lost in the middle of an import, or shown.
    os._exit(128 + number)
