"""Faults on demand for the null backend: for tests of what they cost.

A worker of the null backend registers them where this folder is on its path: see
``running_server.WITH_FAULTS``.

A request brings one about in every worker that runs it, by its item's first element; a signal
to a worker brings one about in that worker, once, whatever it is doing.

    first element   251 SIGKILL   252 SIGSEGV   253 SIGABRT   254 hangs   255 runs out of memory
    signal          SIGUSR1 hangs   SIGUSR2 runs out of memory
                    SIGRTMIN fills memory until somebody kills it
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: the least first element that is a fault
_FIRST_FAULT = 251
_CRASHES = {251: signal.SIGKILL, 252: signal.SIGSEGV, 253: signal.SIGABRT}
_HANG = 254
#: more than any machine has; mapping it fails as it does when memory is really gone
_TOO_MUCH_BYTES = 2**60
#: what is filled at a time; and at most, for nobody may be there to kill it
_BLOCK_BYTES = 2**24
_MOST_BLOCKS = 64


def register() -> Callable[[NDArray[np.generic[Any]]], None]:
    """Lets signals bring faults about in this process; returns what does so for a batch."""
    signal.signal(signal.SIGUSR1, _hang)
    signal.signal(signal.SIGUSR2, _run_out_of_memory)
    signal.signal(signal.SIGRTMIN, _fill_memory)
    return obey


def obey(first: NDArray[np.generic[Any]]) -> None:
    """Does what a batch asks for, by the first element of each of its items.

    Raises:
        MemoryError: that is what it asked for.
    """
    for value in first.tolist():
        if value < _FIRST_FAULT:
            continue
        if value in _CRASHES:
            signal.raise_signal(_CRASHES[value])
        elif value == _HANG:
            _hang()
        else:
            _run_out_of_memory()


def _hang(_number: int = 0, _frame: FrameType | None = None) -> None:
    while True:
        time.sleep(3600)


def _run_out_of_memory(_number: int = 0, _frame: FrameType | None = None) -> None:
    bytearray(_TOO_MUCH_BYTES)


def _fill_memory(_number: int = 0, _frame: FrameType | None = None) -> None:
    filled = [b"x" * _BLOCK_BYTES for _ in range(_MOST_BLOCKS)]
    raise MemoryError(f"nobody stopped it at {len(filled) * _BLOCK_BYTES} bytes")
