"""One generator process: sends its part of the load and tells its parent what happened.

``python -m corral_loadtest.generator.process``; see ``fleet.py`` for what goes over its pipes.
Calls are futures whose callbacks send the next: of grpcio's ways it was the cheapest under load,
345 µs of CPU a request of 150 KB where threads took 394 and grpc.aio 411.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import numpy as np

from corral_loadtest.generator import arrivals, channel
from corral_loadtest.generator.windows import Delta, Recorder
from corral_loadtest.specification import ClosedLoop, OpenLoop, Specification

REPORT_S = 0.25
UNANSWERED = "UNANSWERED"
NOT_SENT = "NOT_SENT"


class Order(msgspec.Struct, kw_only=True):
    """What a generator is to do.

    Attributes:
        specification: of the whole measurement.
        index: of this generator.
        processes: generators in all.
        clients: its clients, in a closed loop.
        connections: its connections.
        horizon_s: when it ends at the latest, from the common start.
        lengths: of the messages that follow the order.
    """

    specification: Specification
    index: int
    processes: int
    clients: int
    connections: int
    horizon_s: float
    lengths: list[int]


class Report(msgspec.Struct, kw_only=True):
    """What a generator tells, once ready and then every ``REPORT_S``.

    Attributes:
        deltas: what was settled since the last report.
        at_s: until when, from the common start.
        cpu_s: its CPU time since the common start.
        in_flight: unanswered requests.
        done: it is the last report.
        failed: why it could not begin, one sentence.
    """

    deltas: list[Delta] = []
    at_s: float = 0.0
    cpu_s: float = 0.0
    in_flight: int = 0
    done: bool = False
    failed: str = ""


class Load:
    """Requests in flight and settled. Callbacks run in grpc's threads, one a connection."""

    def __init__(self, order: Order, messages: list[bytes], channels: list[Any]) -> None:
        self._messages = messages
        self._calls = [channel.infer_method(c) for c in channels]
        self._metadata = channel.metadata(order.specification.target)
        deadline_ms = order.specification.deadline_ms
        self._timeout_s = deadline_ms / 1000 if deadline_ms else None
        self._settled: deque[tuple[float, float, float, str]] = deque()
        self._unsettled: dict[int, tuple[float, float, Any]] = {}
        self._number = order.index
        self._lock = threading.Lock()
        self.recorder = Recorder(order.specification.window_s)
        self.start_s = 0.0
        self.end_s = order.horizon_s

    @property
    def in_flight(self) -> int:
        """Requests that were sent and are not settled."""
        return len(self._unsettled)

    def now_s(self) -> float:
        """Seconds since the common start."""
        return time.monotonic() - self.start_s

    def send(self, connection: int, intended_s: float | None, then: Callable[[], None]) -> None:
        """Sends the next message; ``then`` is called when it is settled.

        Args:
            connection: its number, taken modulo how many there are.
            intended_s: when it was meant to be sent; None for now.
            then: called in grpc's thread.
        """
        with self._lock:
            number = self._number
            self._number += 1
        message = self._messages[number % len(self._messages)]
        call = self._calls[connection % len(self._calls)]
        sent_s = self.now_s()
        meant_s = sent_s if intended_s is None else intended_s
        future = call.future(message, timeout=self._timeout_s, metadata=self._metadata)
        self._unsettled[number] = (meant_s, sent_s, future)

        def settle(done: Any) -> None:
            answered_s = self.now_s()
            if self._unsettled.pop(number, None) is None:
                return
            status = done.code().name
            self._settled.append((meant_s, sent_s, answered_s, status))
            then()

        future.add_done_callback(settle)

    def give_up(self) -> None:
        """Counts what is still unanswered as such, and cancels it."""
        for number in list(self._unsettled):
            if entry := self._unsettled.pop(number, None):
                meant_s, sent_s, future = entry
                self._settled.append((meant_s, sent_s, self.now_s(), UNANSWERED))
                future.cancel()

    def refuse(self, intended_s: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """Counts requests that were meant for the measurement and never sent."""
        now_s = self.now_s()
        for meant_s in intended_s.tolist():
            self._settled.append((meant_s, now_s, now_s, NOT_SENT))

    def take(self) -> list[Delta]:
        """What was settled since the last call."""
        while self._settled:
            self.recorder.add(*self._settled.popleft())
        return self.recorder.take()


def _closed(load: Load, clients: int) -> None:
    """Every client sends its next request when the last is settled; errors do not stop it."""
    finished = threading.Semaphore(0)

    def client(number: int) -> None:
        def again() -> None:
            if load.now_s() < load.end_s:
                load.send(number, None, again)
            else:
                finished.release()

        again()

    for number in range(clients):
        client(number)
    for _ in range(clients):
        while not finished.acquire(timeout=0.1):
            if load.now_s() >= load.end_s:
                return  # what is in flight is waited for by the drain


def _open(load: Load, offsets: arrivals.Offsets, max_in_flight: int) -> None:
    """Sends at the intended times, late ones at once."""
    for number, intended_s in enumerate(offsets.tolist()):
        while (wait_s := intended_s - load.now_s()) > 0:
            if load.now_s() >= load.end_s:
                return
            time.sleep(min(wait_s, 0.05))
        if intended_s >= load.end_s:
            return
        if load.in_flight >= max_in_flight:
            load.refuse(offsets[number : np.searchsorted(offsets, load.end_s)])
            return
        load.send(number, intended_s, lambda: None)


class Generator:
    """Runs an order; reports on one pipe, takes the start and the end from the other."""

    def __init__(self, order: Order, messages: list[bytes], pipes: tuple[BinaryIO, BinaryIO]):
        self._order = order
        self._inbox, self._outbox = pipes
        target = order.specification.target
        self._channels = [channel.open_channel(target) for _ in range(order.connections)]
        for opened in self._channels:
            channel.wait_connected(opened, target)
        self._load = Load(order, messages, self._channels)
        self._cpu_s = 0.0

    def tell(self, report: Report) -> None:
        """One line of JSON."""
        self._outbox.write(msgspec.json.encode(report) + b"\n")
        self._outbox.flush()

    def run(self) -> None:
        """From the common start until all is settled."""
        load = self._load
        self.tell(Report())
        load.start_s = float(self._inbox.readline())
        offsets = self._offsets()
        threading.Thread(target=self._listen, daemon=True).start()
        # What was made so far lives for ever; looking through it again would only cause pauses.
        gc.collect()
        gc.freeze()
        while (wait_s := -load.now_s()) > 0:
            time.sleep(wait_s)
        self._cpu_s = time.process_time()
        sender = threading.Thread(target=self._send, args=(offsets,), daemon=True)
        sender.start()
        while sender.is_alive():
            sender.join(REPORT_S)
            self._report(done=False)
        self._drain()
        self._report(done=True)

    def _offsets(self) -> arrivals.Offsets:
        load = self._order.specification.load
        if isinstance(load, ClosedLoop):
            return np.empty(0)
        whole = arrivals.schedule(load, self._order.horizon_s)
        return arrivals.part(whole, self._order.index, self._order.processes)

    def _send(self, offsets: arrivals.Offsets) -> None:
        load = self._order.specification.load
        if isinstance(load, OpenLoop):
            _open(self._load, offsets, load.max_in_flight // self._order.processes)
        else:
            _closed(self._load, self._order.clients)

    def _listen(self) -> None:
        """The parent names the end once the measured part's is known; its death ends all."""
        for line in self._inbox:
            self._load.end_s = float(line)
        self._load.end_s = min(self._load.end_s, self._load.now_s())

    def _drain(self) -> None:
        until_s = self._load.now_s() + self._order.specification.drain_s
        while self._load.in_flight and self._load.now_s() < until_s:
            time.sleep(0.02)
        self._load.give_up()

    def _report(self, *, done: bool) -> None:
        self.tell(
            Report(
                at_s=self._load.now_s(),
                deltas=self._load.take(),
                cpu_s=time.process_time() - self._cpu_s,
                in_flight=self._load.in_flight,
                done=done,
            )
        )


def main() -> None:
    """Reads the order and the messages, then runs."""
    inbox, outbox = sys.stdin.buffer, sys.stdout.buffer
    sys.setswitchinterval(0.0005)
    order = msgspec.json.decode(inbox.readline(), type=Order)
    messages = [inbox.read(length) for length in order.lengths]
    try:
        generator = Generator(order, messages, (inbox, outbox))
    except ValueError as error:
        outbox.write(msgspec.json.encode(Report(failed=str(error))) + b"\n")
        return
    try:
        generator.run()
    except BrokenPipeError:
        # Nobody is left to tell. Not even the interpreter's end may try to.
        os._exit(1)


if __name__ == "__main__":
    main()
