"""Memory bandwidth and frequency, by threads pinned where the workers are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from corral.system import machine_code

_MEASURE_S = 0.4
_BUFFER_BYTES = 64 * 2**20
_MOST_THREADS = 32
#: about a millisecond
_ROUNDS = 50_000


def on_each(cpus: Sequence[int], work: Callable[[int], None]) -> None:
    """Runs ``work`` on every CPU at once, each in a thread that may run nowhere else.

    Raises:
        OSError: a CPU is not ours; nothing runs then.
    """
    refused: list[OSError] = []
    start = threading.Barrier(len(cpus))

    def run(cpu: int) -> None:
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as error:
            refused.append(error)
        start.wait()
        if not refused:
            work(cpu)

    threads = [threading.Thread(target=run, args=(cpu,), daemon=True) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise refused[0]


def bandwidth(cpus: Sequence[int], measure_s: float = _MEASURE_S) -> tuple[float, int]:
    """GB/s that threads on these CPUs copy, what is read and written together, and how many.

    Each thread touches its memory first, so that it lies on the CPU's node.
    """
    cpus = list(cpus)[:_MOST_THREADS]
    copied: dict[int, float] = {}
    ready = threading.Barrier(len(cpus))

    def copy(cpu: int) -> None:
        source = np.ones(_BUFFER_BYTES // 8)
        target = np.zeros_like(source)
        ready.wait()
        begun_s, count = time.perf_counter(), 0
        while (spent_s := time.perf_counter() - begun_s) < measure_s:
            np.copyto(target, source)
            count += 1
        copied[cpu] = 2 * count * _BUFFER_BYTES / spent_s

    on_each(cpus, copy)
    return sum(copied.values()) / 1e9, len(cpus)


def frequency_ghz(cpus: Sequence[int], measure_s: float = _MEASURE_S) -> Mapping[int, float]:
    """GHz of each CPU while all of them compute, by multiplications that wait for one another.

    The best millisecond of a CPU counts: an interrupt, or another guest, only lengthens one.

    Raises:
        OSError: the kernel or the CPU does not allow it.
    """
    loop = machine_code.load(machine_code.MULTIPLICATIONS)
    best: dict[int, float] = {}

    def turn(cpu: int) -> None:
        end_s, least_s = time.perf_counter() + measure_s, float("inf")
        while time.perf_counter() < end_s:
            begun_s = time.perf_counter()
            loop(_ROUNDS, 0)
            least_s = min(least_s, time.perf_counter() - begun_s)
        best[cpu] = _ROUNDS * machine_code.CYCLES_A_ROUND / least_s / 1e9

    on_each(cpus, turn)
    return dict(sorted(best.items()))
