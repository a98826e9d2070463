"""Load on a server whose answers are all checked and counted: for tests of what faults cost.

    with closed_loop(server.port, clients=8) as load:
        ...                                          # do something to the server
    assert load.counted.lost == 0

The load runs on an event loop in a thread of its own, so that the test may kill, stop and wait
meanwhile. Leaving the ``with`` block sends nothing new and waits for every answer. It drives the
null backend, whose answers tell requests apart: each must be the answer to its own request.
"""

from __future__ import annotations

import asyncio
import random
import struct
import threading
import time
from array import array
from collections import Counter
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np

from corral_protos import open_inference_pb2 as pb
from support.running_server import PATIENCE_S, wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"
#: first elements up to here mean nothing to the null backend; those above are its faults
MARKS = 250

_SHAPE = (1, 224, 224, 3)
_INPUT = pb.ModelInferRequest.InferInputTensor(name="input", datatype="UINT8", shape=_SHAPE)
_BODY = bytes(224 * 224 * 3 - 2)
#: tag and length of raw_input_contents, the message's last field
_RAW_HEAD = b"\x3a" + bytes([0x80, 0x98, 0x09])
_MAX_COMPLAINTS = 20
#: a client that was refused does not ask again at once
_PAUSE_S = 0.01


def infer_message(request_id: str, first: int, last: int) -> bytes:
    """A ModelInferRequest of one UINT8 item, by its first and its last element."""
    head = pb.ModelInferRequest(model_name="resnet50", id=request_id, inputs=[_INPUT])
    return b"".join(
        (head.SerializeToString(), _RAW_HEAD, bytes([first]), _BODY, bytes([last])),
    )


def complaint(answer: bytes, request_id: str, first: int, last: int) -> str:
    """What is wrong with an answer of the null backend; nothing when it is the request's own."""
    found = pb.ModelInferResponse.FromString(answer)
    if found.id != request_id:
        return f"request {request_id} got the answer to {found.id!r}"
    values = struct.unpack_from("<3f", found.raw_output_contents[0])
    if values != (first, last, 2.0):
        return f"request {request_id} sent {first}, {last} and got {values}"
    return ""


def ask(port: int, first: int = 0, last: int = 0, deadline_s: float = PATIENCE_S) -> str:
    """Sends one request over a connection of its own; returns its status's name."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = channel.unary_unary(INFER)(
                infer_message("alone", first, last), timeout=deadline_s
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    problem = complaint(answer, "alone", first, last)
    assert not problem, problem
    return "OK"


class Counted:
    """What clients saw. Read it at any time; it is final when the load has ended."""

    def __init__(self) -> None:
        #: requests sent
        self.sent = 0
        #: how many ended with which status
        self.statuses: Counter[str] = Counter()
        #: how many ended with something other than OK, by connection
        self.failures_by_connection: Counter[int] = Counter()
        #: answers that were not the request's own
        self.wrong: list[str] = []
        #: the first few messages of statuses other than OK
        self.complaints: list[str] = []
        self._ended_s = array("d")
        self._seconds = array("d")

    @property
    def answered(self) -> int:
        """Requests that got their result."""
        return self.statuses["OK"]

    @property
    def outstanding(self) -> int:
        """Requests that have not ended."""
        return self.sent - self.statuses.total()

    @property
    def lost(self) -> int:
        """Requests that did not end with a result of their own; once the load has ended."""
        return self.sent - self.answered + len(self.wrong)

    def latency_s(
        self, quantile: float, since_s: float = float("-inf"), until_s: float = float("inf")
    ) -> float:
        """A quantile of the seconds that answers took which came between two monotonic times."""
        ended_s = np.frombuffer(self._ended_s)
        chosen = np.frombuffer(self._seconds)[(since_s <= ended_s) & (ended_s < until_s)]
        assert len(chosen), "no answer came in that time"
        return float(np.quantile(chosen, quantile))

    def longest_silence_s(self) -> float:
        """The longest time between two answers."""
        gaps = np.diff(np.sort(np.frombuffer(self._ended_s)))
        return float(gaps.max()) if len(gaps) else 0.0

    def add(self, connection: int, status: str, details: str, seconds: float) -> None:
        """Counts the end of one request."""
        self.statuses[status] += 1
        if status == "OK":
            self._ended_s.append(time.monotonic())
            self._seconds.append(seconds)
            return
        self.failures_by_connection[connection] += 1
        if len(self.complaints) < _MAX_COMPLAINTS:
            self.complaints.append(f"{status}: {details}")

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in self.statuses.items())
        notes = "; ".join([*self.wrong, *self.complaints])
        return f"{self.sent} sent: {ended or 'none ended'}" + (f" ({notes})" if notes else "")


class CountedLoad:
    """Requests without end, over several connections. See ``closed_loop`` and ``fixed_rate``.

    Args:
        port: of the server, on 127.0.0.1.
        clients: how many wait for their answer before they ask again; None for a rate instead.
        per_s: requests a second, sent when they are due, whatever became of those before.
        connections: used in turn, by number.
        deadline_s: of each request.
        seed: of the Poisson arrivals.
    """

    def __init__(
        self,
        port: int,
        *,
        clients: int | None = None,
        per_s: float | None = None,
        connections: int = 4,
        deadline_s: float = 30.0,
        retries: bool = False,
        seed: int = 1,
    ) -> None:
        self.counted = Counted()
        self._address = f"127.0.0.1:{port}"
        self._clients = clients
        self._per_s = per_s
        self._connections = connections
        self._deadline_s = deadline_s
        #: gRPC's default: it sends again what a GOAWAY says was never looked at
        self._retries = retries
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._calls: list[Any] = []
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(self._deadline_s + PATIENCE_S)
        if kind is None:
            assert not self._thread.is_alive(), f"a request never ended: {self.counted}"
            if self._error:
                raise self._error

    def wait_for_answers(self, more: int, timeout_s: float = PATIENCE_S) -> None:
        """Waits until that many more requests got their result."""
        wanted = self.counted.answered + more
        wait_until(
            lambda: self.counted.answered >= wanted or self._error,
            f"{more} answers ({self.counted})",
            timeout_s,
        )
        if self._error:
            raise self._error

    def run_for(self, duration_s: float) -> None:
        """Lets the load run undisturbed."""
        self._stop.wait(duration_s)

    # --- in the thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._drive())
        except BaseException as error:
            self._error = error

    async def _drive(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        options += [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.enable_retries", int(self._retries)),
        ]
        channels = [
            grpc.aio.insecure_channel(self._address, options=options)
            for _ in range(self._connections)
        ]
        self._calls = [channel.unary_unary(INFER) for channel in channels]
        try:
            if self._per_s is not None:
                await self._at_a_rate(self._per_s)
            else:
                await asyncio.gather(*(self._in_a_loop() for _ in range(self._clients or 1)))
        finally:
            for channel in channels:
                await channel.close()

    async def _in_a_loop(self) -> None:
        while not self._stop.is_set():
            if not await self._request(time.monotonic()):
                await asyncio.sleep(_PAUSE_S)

    async def _at_a_rate(self, per_s: float) -> None:
        due_s = time.monotonic()
        tasks: set[asyncio.Task[bool]] = set()
        while not self._stop.is_set():
            due_s += self._random.expovariate(per_s)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            # Late or not, the request's time counts from when it was due.
            task = asyncio.create_task(self._request(due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _request(self, due_s: float) -> bool:
        number = self.counted.sent
        self.counted.sent += 1
        connection = number % len(self._calls)
        request_id, first, last = str(number), number % (MARKS + 1), number // (MARKS + 1) % 256
        message = infer_message(request_id, first, last)
        try:
            answer = await self._calls[connection](message, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            status, details = error.code().name, error.details() or ""
        else:
            status, details = "OK", ""
            if (problem := complaint(answer, request_id, first, last)) and (
                len(self.counted.wrong) < _MAX_COMPLAINTS
            ):
                self.counted.wrong.append(problem)
        self.counted.add(connection, status, details, time.monotonic() - due_s)
        answered: bool = status == "OK"
        return answered


def closed_loop(port: int, clients: int, **details: Any) -> CountedLoad:
    """So many clients, each of which asks again when it has its answer."""
    return CountedLoad(port, clients=clients, **details)


def fixed_rate(port: int, per_s: float, **details: Any) -> CountedLoad:
    """Poisson arrivals: so many requests a second on average, however slow the answers."""
    return CountedLoad(port, per_s=per_s, **details)
