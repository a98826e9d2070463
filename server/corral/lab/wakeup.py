"""How fast a sleeping worker wakes: ``corral lab wakeup``.

A batch is handed over by a packet on a socket. What else could wake a process is measured beside
it, between two processes on CPUs of their own: from just before the call that wakes to the first
line that runs in the other process.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from rich.box import SIMPLE_HEAD
from rich.table import Table

from corral.errors import StartError

#: in the shared page: when it woke, ns; the futex's word
_WOKE, _WORD = 0, 8
_PAGE = mmap.PAGESIZE
#: the number of the call, on x86-64
_FUTEX_CALL = 202
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
#: silence before a hand-over: a busy server's, and an idle one's
GAPS_MS = (0.2, 5.0, 50.0)
#: how long a worker looks for its next batch before it sleeps
_SPINS_US = (50, 1000)
_PACKET = b"0123456789abcdef"


class Woken(NamedTuple):
    """What one way of waking took after one length of silence, in microseconds."""

    way: str
    gap_ms: float
    p50_us: float
    p99_us: float


class _Way(NamedTuple):
    wake: Callable[[], object]
    sleep: Callable[[], object]


def measure(cpus: Sequence[int], rounds: int = 200) -> list[Woken]:
    """Every way of waking, after every length of silence.

    Args:
        cpus: two of them are used, the first and the last.
        rounds: hand-overs of a way after a silence; a tenth of them after long ones.

    Raises:
        StartError: the other process cannot be started.
    """
    names = ["socket", "eventfd", "futex", *(f"socket, spin {spin}" for spin in _SPINS_US)]
    found = []
    for gap_ms in GAPS_MS:
        count = rounds if gap_ms < 1 else max(20, rounds // 4)
        for name in names:
            took_us = sorted(_run(name, gap_ms / 1000, count, cpus))
            p99 = took_us[min(len(took_us) - 1, int(0.99 * len(took_us)))]
            found.append(Woken(name, gap_ms, statistics.median(took_us), p99))
    return found


def _run(name: str, gap_s: float, count: int, cpus: Sequence[int]) -> Iterator[float]:
    """Microseconds from each call that wakes to the first line of the one that slept."""
    shared = mmap.mmap(-1, _PAGE)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    event = os.eventfd(0)
    acknowledged = os.eventfd(0)
    way = _ways(name, shared, here, there, event)
    try:
        child = os.fork()
    except OSError as error:
        raise StartError(f"no process to wake: {error.strerror}") from None
    if child == 0:
        _sleep_on(way, shared, acknowledged, cpus[-1])
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpus[0]})
        for _ in range(count):
            time.sleep(gap_s)
            asked_ns = time.monotonic_ns()
            way.wake()
            os.eventfd_read(acknowledged)
            yield (struct.unpack_from("q", shared, _WOKE)[0] - asked_ns) / 1000
    finally:
        os.sched_setaffinity(0, before)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        here.close()
        there.close()
        os.close(event)
        os.close(acknowledged)


def _sleep_on(way: _Way, shared: mmap.mmap, acknowledged: int, cpu: int) -> NoReturn:
    """The other process: sleeps, says when it woke, and so on until it is killed."""
    os.sched_setaffinity(0, {cpu})
    while True:
        way.sleep()
        struct.pack_into("q", shared, _WOKE, time.monotonic_ns())
        os.eventfd_write(acknowledged, 1)


def _ways(
    name: str, shared: mmap.mmap, here: socket.socket, there: socket.socket, event: int
) -> _Way:
    match name.split(","):
        case ["socket"]:
            return _Way(lambda: here.send(_PACKET), lambda: there.recv(64))
        case ["eventfd"]:
            return _Way(lambda: os.eventfd_write(event, 1), lambda: os.eventfd_read(event))
        case ["futex"]:
            return _futex(shared)
        case [_, spin]:
            spin_ns = int(spin.split()[1]) * 1000
            return _Way(lambda: here.send(_PACKET), lambda: _spin(there, spin_ns))
        case _:
            raise AssertionError(name)


def _spin(sock: socket.socket, spin_ns: int) -> None:
    end_ns = time.monotonic_ns() + spin_ns
    while time.monotonic_ns() < end_ns:
        try:
            sock.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        return
    select.select([sock], [], [])
    sock.recv(64)


def _futex(shared: mmap.mmap) -> _Way:
    call = ctypes.CDLL(None, use_errno=True).syscall
    word = ctypes.c_uint32.from_buffer(shared, _WORD)
    address = ctypes.c_void_p(ctypes.addressof(word))

    def wake() -> None:
        word.value = 1
        call(_FUTEX_CALL, address, _FUTEX_WAKE, 1, None, None, 0)

    def sleep() -> None:
        while not word.value:
            call(_FUTEX_CALL, address, _FUTEX_WAIT, 0, None, None, 0)
        word.value = 0

    return _Way(wake, sleep)


def render(found: Sequence[Woken]) -> Table:
    """A table of what was measured, to print."""
    table = Table(
        title="From waking to running, p50 / p99, after so long a silence",
        box=SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("way")
    for gap_ms in GAPS_MS:
        table.add_column(f"{gap_ms:g} ms: us", justify="right")
    by_way: dict[str, list[Woken]] = {}
    for one in found:
        by_way.setdefault(one.way, []).append(one)
    for way, rows in by_way.items():
        table.add_row(way, *(f"{row.p50_us:.0f} / {row.p99_us:.0f}" for row in rows))
    return table
