"""Threads whose work can wait."""

from __future__ import annotations

import contextlib
import os
import threading

#: a busy CPU gives such a thread a tenth of what it gives others
_NICE = 10


def step_back() -> None:
    """Has the current thread, and no other, give way to whoever wants the CPU."""
    # Linux keeps a priority for each thread; whoever may not lower it works as before.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
