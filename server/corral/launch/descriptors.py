"""Standard input, output and error, whatever this process was started with.

A closed one of the three is given to the next file that is opened, a socket perhaps, and what is
printed then goes there. Imports nothing but the standard library: it runs before all else.
"""

from __future__ import annotations

import os
import sys


def open_standard_descriptors() -> None:
    """Puts /dev/null in the place of those that are closed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest that is free, which is this one: those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # The interpreter has none where it found the descriptor closed.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
