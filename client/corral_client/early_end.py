"""A signal while a command is still loaded: its end, without a word. Python's own until here."""

from __future__ import annotations

import os
import signal


def end_quietly() -> None:
    """From here on SIGINT and SIGTERM end the process at once; what is ignored stays so."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def as_usual() -> None:
    """Undoes ``end_quietly``: whoever runs now cleans up after himself."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, _: object) -> None:
    # Nothing is begun yet; an exception could be lost in the middle of an import, or shown.
    os._exit(128 + number)
