"""Keeps CPUs from halting in a silence: one process a CPU that spins, in nobody's way.

Run as ``python -m corral.launch.spinner NUMBER FD``; FD is a ``SpinnerBoot`` as JSON. A virtual CPU
that halts is taken away by its host, and comes back cold; one that spins stays. What spins runs as
SCHED_IDLE, so that whatever else wants the CPU has it at once. It spins only while no request is
under way: beside requests, even so mild a process made them a fifth slower.

Imports nothing outside the standard library, so that a process is small.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import enum
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

#: as ``ps -o comm`` and /proc/PID/comm show it
NAME = "corral-spinner"
#: without a request for so long, it is a silence
SILENT_S = 0.1
#: from one look to the next once a silence has lasted for longer than it is spun for
_REST_S = 0.1
#: looks between two readings of the clock, some 0.1 ms
_LOOKS = 1000

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class Step(enum.Enum):
    """What a spinner does until it looks again."""

    #: requests come: sleep for SILENT_S
    WAIT = enum.auto()
    #: spin
    SPIN = enum.auto()
    #: the silence has lasted for long enough: sleep for longer
    REST = enum.auto()


@dataclasses.dataclass(slots=True)
class Silence:
    """How long nothing has been asked, by what the frontends count. Pure.

    Attributes:
        while_s: how long a silence is spun for, from its last request.
        received: requests so far.
        since_s: when one was last seen; monotonic seconds.
    """

    while_s: float
    received: int
    since_s: float

    def look(self, received: int, inflight: int, now_s: float) -> Step:
        """What to do now.

        Args:
            received: requests so far.
            inflight: requests that are not answered.
            now_s: monotonic seconds.
        """
        if received != self.received or inflight:
            self.received, self.since_s = received, now_s
        silent_s = now_s - self.since_s
        if silent_s >= self.while_s:
            return Step.REST
        return Step.SPIN if silent_s >= SILENT_S else Step.WAIT


class Counters:
    """The frontends' counters that a spinner goes by.

    Args:
        memory: of all pages, as numbers of 64 bits.
        received: where requests are counted, in numbers from the start.
        inflight: where those are that are not answered.
    """

    def __init__(
        self, memory: Sequence[int], received: Sequence[int], inflight: Sequence[int]
    ) -> None:
        self._memory, self._received, self._inflight = memory, received, inflight

    def received(self) -> int:
        """Requests so far."""
        return sum(self._memory[at] for at in self._received)

    def inflight(self) -> int:
        """Requests that are not answered."""
        return sum(self._memory[at] for at in self._inflight)

    def spin(self, until_s: float) -> None:
        """Keeps the CPU busy until a request comes, or that monotonic second."""
        memory = self._memory
        known = [(at, memory[at]) for at in self._received]
        while time.monotonic() < until_s:
            for _ in range(_LOOKS):
                for at, number in known:
                    if memory[at] != number:
                        return


def _keep_awake(counters: Counters, while_s: float) -> NoReturn:
    """Goes on until it is killed."""
    silence = Silence(while_s, counters.received(), time.monotonic())
    while True:
        match silence.look(counters.received(), counters.inflight(), time.monotonic()):
            case Step.SPIN:
                counters.spin(silence.since_s + while_s)
            case Step.WAIT:
                time.sleep(SILENT_S)
            case Step.REST:
                time.sleep(_REST_S)


def main() -> None:
    """Starts a process for each CPU, and ends with the first that ends, and all others with it.

    It ends as that one did; what the kernel refused is told in a line.
    """
    with os.fdopen(int(sys.argv[-1]), "rb") as file:
        boot = json.load(file)
    libc = ctypes.CDLL(None)
    # This one sleeps, and stays as it is: whoever ends it is not to wait until a CPU has nothing
    # else to do.
    libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
    pages = mmap.mmap(boot["counters_fd"], boot["bytes"], prot=mmap.PROT_READ)
    memory = memoryview(pages).cast("Q")
    parent, spinning = os.getpid(), []
    try:
        for place in boot["places"]:
            pid = os.fork()
            if pid == 0:
                _spin_on(place, memory, boot["while_s"], parent, libc)
            spinning.append(pid)
        status = os.wait()[1]
    except OSError as error:  # no process to be had
        print(f"{NAME}: {error.strerror}", file=sys.stderr)
        status = 1 << 8
    for pid in spinning:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    _end_like(status)


def _spin_on(
    place: Mapping[str, Any], memory: Sequence[int], while_s: float, parent: int, libc: ctypes.CDLL
) -> NoReturn:
    """Goes on until it is killed, or the CPU or the class is refused."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
    # One that died before the first line sends no signal any more.
    if os.getppid() != parent:
        os._exit(0)
    try:
        os.sched_setaffinity(0, {place["cpu"]})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        print(f"{NAME}: CPU {place['cpu']}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(1)
    _keep_awake(Counters(memory, place["received"], place["inflight"]), while_s)


def _end_like(status: int) -> NoReturn:
    """Ends as another process did, so that whoever started this one learns of it."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
