"""Whether the terminal that the server was started in is still there.

SIGHUP is a wish to reload for a server, and the end for a program whose terminal was closed. Where
standard error goes says nothing about it: ``corral serve 2>log`` was started in a terminal, too.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from corral.launch.launcher import MEANINGLESS_SIGNALS


class Terminal:
    """The terminal that this process was started in, if there is one and it is to end with it.

    Make it before anything is done about SIGHUP: who is started with ``nohup`` ignores it, and
    is to live on.
    """

    def __init__(self) -> None:
        self._binds = _reachable() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._shows = [fd for fd in (0, 1, 2) if os.isatty(fd)]

    @property
    def closed(self) -> bool:
        """True once it was closed."""
        return self._binds and not _reachable()

    def let_go(self) -> None:
        """What was to be shown there is dropped: writing it would fail, up to the exit code."""
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            for fd in self._shows:
                os.dup2(nothing.fileno(), fd)


def ignore_until_served() -> None:
    """Ignores what would end a server that is not up yet though it means no end.

    SIGHUP is a wish to reload where there is no terminal that could be closed.
    """
    for number in MEANINGLESS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if not _reachable():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _reachable() -> bool:
    """True while the process has a controlling terminal, whatever its descriptors are."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
