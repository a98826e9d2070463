"""What a worker starts ends with it, whatever it dies of.

A death signal is not handed on, and a compiler's driver starts further programs: so one more
process watches, which is there only as long as there is something to watch.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

#: waits for the end of the pipe, then ends its own process group, itself included
_WATCH = ("/bin/sh", "-c", "read -r _; kill -KILL 0")


@contextlib.contextmanager
def end_with_us() -> Iterator[None]:
    """Until it is left, the end of this process is that of its whole process group.

    A process that shares its group with whoever started it does without.

    Raises:
        OSError: no process or descriptor to be had.
    """
    if os.getpgrp() != os.getpid():
        yield
        return
    with contextlib.ExitStack() as stack:
        # Nobody inherits the writing end, so the kernel closes it when this process ends.
        reading, writing = os.pipe()
        stack.callback(os.close, writing)
        try:
            watch = subprocess.Popen(_WATCH, stdin=reading)
        finally:
            os.close(reading)
        stack.callback(watch.wait)
        stack.callback(watch.kill)
        yield
