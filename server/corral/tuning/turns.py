"""Who measures on this machine: one at a time, whoever it is and whatever its cache.

The turn is a name in the kernel: it belongs to no user and no folder, and is free when its holder
has ended, whatever that ended of. Containers have such names of their own; what measures there
shows as other processes' load (see ``other_load``).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_NAME = "\0corral-measures"
_LOOK_S = 0.5
#: a holder that was stopped, or is none of corral's, is waited for no longer
_PATIENCE_S = 1800.0
_CREDENTIALS = struct.Struct("3i")


@contextlib.contextmanager
def my_turn(
    progress: Callable[[str], None], *, name: str = _NAME, patience_s: float = _PATIENCE_S
) -> Iterator[bool]:
    """A block in which nobody else measures; yields whether it had to be waited for.

    Args:
        progress: told what is waited for.
        name: of the turn, an abstract unix socket's.
        patience_s: how long to wait, before going on all the same, with a warning.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as turn:
        end_s = time.monotonic() + patience_s
        waited = False
        while not _take(turn, name):
            if time.monotonic() > end_s:
                logger.warning("another process measures for %.0f s: going on", patience_s)
                break
            waited = True
            progress(f"waiting for {_holder(name)} to have measured")
            time.sleep(_LOOK_S)
        yield waited


def _take(turn: socket.socket, name: str) -> bool:
    try:
        turn.bind(name)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        # Where there are no such names, everybody measures when it likes.
        logger.warning("others may measure at the same time: %s", error.strerror)
        return True
    turn.listen(0)
    return True


def _holder(name: str) -> str:
    """Names the process whose turn it is."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asks:
        asks.setblocking(False)
        asks.connect(name)
        size = _CREDENTIALS.size
        told = asks.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid: int = _CREDENTIALS.unpack(told)[0]
        # One in a namespace of its own has no number here.
        return f"process {pid}" if pid else "another process"
    return "another process"
