"""The generator processes of one measurement: started, begun together, heard, ended.

To a generator's standard input go one line of JSON (its order), the messages' bytes, then the
common start as a reading of CLOCK_MONOTONIC, which all processes of a machine share, and later the
end in seconds from it. From its standard output come reports, one line of JSON each.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import msgspec

from corral_loadtest.generator.process import Order, Report
from corral_loadtest.specification import ClosedLoop, Specification, WrongInput

_BEGIN_S = 0.2
_READY_S = 60.0
_SILENCE_S = 90.0


def share(total: int, parts: int, index: int) -> int:
    """Part ``index`` of a total divided as evenly as can be."""
    return total // parts + (index < total % parts)


class Fleet:
    """All generators of a measurement; a context manager that leaves no process behind."""

    def __init__(
        self,
        specification: Specification,
        messages: list[bytes],
        *,
        processes: int,
        connections: int,
        horizon_s: float,
    ) -> None:
        self.processes = processes
        self._reports: queue.Queue[tuple[int, Report | None]] = queue.Queue()
        self._silence_s = _SILENCE_S + specification.drain_s
        self._children: list[subprocess.Popen[bytes]] = []
        self.start_s = 0.0
        load = specification.load
        for index in range(processes):
            clients = share(load.clients, processes, index) if isinstance(load, ClosedLoop) else 0
            order = Order(
                specification=specification,
                index=index,
                processes=processes,
                clients=clients,
                connections=share(connections, processes, index),
                horizon_s=horizon_s,
                lengths=[len(message) for message in messages],
            )
            # A group of its own: Ctrl-C is the parent's to hear, which ends them in good order.
            child = subprocess.Popen(
                [sys.executable, "-m", "corral_loadtest.generator.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
                # It computes nothing; NumPy would start a thread for each CPU.
                env={"OPENBLAS_NUM_THREADS": "1", **os.environ},
            )
            self._children.append(child)
            threading.Thread(
                target=self._serve, args=(index, child, order, messages), daemon=True
            ).start()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            with contextlib.suppress(OSError):
                if child.stdin:
                    child.stdin.close()
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()

    def _serve(
        self, index: int, child: subprocess.Popen[bytes], order: Order, messages: list[bytes]
    ) -> None:
        assert child.stdin
        assert child.stdout
        with contextlib.suppress(OSError, ValueError):
            child.stdin.write(msgspec.json.encode(order) + b"\n")
            for message in messages:
                child.stdin.write(message)
            child.stdin.flush()
            for line in child.stdout:
                self._reports.put((index, msgspec.json.decode(line, type=Report)))
        self._reports.put((index, None))

    def _next(self, timeout_s: float) -> tuple[int, Report]:
        try:
            index, report = self._reports.get(timeout=timeout_s)
        except queue.Empty:
            raise RuntimeError(f"a load generator said nothing for {timeout_s:g} s") from None
        if report is None:
            raise RuntimeError("a load generator ended before its time")
        if report.failed:
            raise WrongInput(report.failed)
        return index, report

    def begin(self) -> None:
        """Waits until all are connected, then starts them at one time.

        Raises:
            WrongInput: one could not connect.
            RuntimeError: one ended or hangs.
        """
        for _ in self._children:
            self._next(_READY_S)
        self.start_s = time.monotonic() + _BEGIN_S
        self._say(self.start_s)

    def end(self, end_s: float) -> None:
        """Nothing that is meant for later than ``end_s`` after the start is sent."""
        self._say(end_s)

    def _say(self, number: float) -> None:
        for child in self._children:
            assert child.stdin
            with contextlib.suppress(OSError):
                child.stdin.write(f"{number!r}\n".encode())
                child.stdin.flush()

    def reports(self) -> Iterator[tuple[int, Report]]:
        """(generator, report) until every generator gave its last one.

        Raises:
            RuntimeError: one ended or hangs.
        """
        running = len(self._children)
        while running:
            index, report = self._next(self._silence_s)
            running -= report.done
            yield index, report
