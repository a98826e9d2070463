"""How long a message takes: to a process that sleeps, and into the frontend's loop."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import uvloop

from corral.doctor.probing.results import Waits

_HERE = Path(__file__).parent
_STAMP = struct.Struct("<q")
_TIMES = 100
#: long enough for a core to fall asleep
_PAUSE_S = 0.005
_ANSWER = bytes(4096)
FRONT_BYTES = 150 * 1024


def wake_up(from_cpu: int, to_cpu: int, times: int = _TIMES) -> Waits:
    """Microseconds from a message's sending to its being read by a process that slept.

    Args:
        from_cpu: where it is sent, as the frontend does.
        to_cpu: where the process sleeps, as a worker does.
        times: messages, with a pause before each.

    Raises:
        OSError: no process, or a CPU that is not ours.
    """
    before = os.sched_getaffinity(0)
    command = [sys.executable, "-S", str(_HERE / "sleeper.py"), str(to_cpu)]
    try:
        # The process could not say why it cannot go there.
        os.sched_setaffinity(0, {to_cpu})
    finally:
        os.sched_setaffinity(0, before)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        # Ctrl-C is for whoever measures.
        process_group=0,
    ) as child:  # fmt: skip
        assert child.stdin
        assert child.stdout
        send, receive = child.stdin.fileno(), child.stdout.fileno()
        late_us = []
        try:
            os.sched_setaffinity(0, {from_cpu})
            for _ in range(times + 1):
                time.sleep(_PAUSE_S)
                os.write(send, _STAMP.pack(time.monotonic_ns()))
                data = os.read(receive, _STAMP.size)
                if len(data) < _STAMP.size:
                    raise OSError("the sleeping process ended")
                late_us.append(_STAMP.unpack(data)[0] / 1000)
        finally:
            os.sched_setaffinity(0, before)
    # The first has waited for the interpreter's start.
    late_us = sorted(late_us[1:])
    return Waits(p50_us=late_us[len(late_us) // 2], p99_us=late_us[int(len(late_us) * 0.99)])


def front_per_s(cpus: Sequence[int], seconds: float = 0.5) -> float:
    """Messages of FRONT_BYTES that a loop on these CPUs takes and answers a second.

    Nothing is parsed and no batch is formed: it is what the network costs a frontend here.

    Raises:
        OSError: no socket or process, or a CPU that is not ours.
    """
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
        return uvloop.run(_count(seconds))
    finally:
        os.sched_setaffinity(0, before)


class _Answers(asyncio.Protocol):
    """Answers every FRONT_BYTES that came; the first of all connections settles ``first``."""

    def __init__(self, counts: list[int], first: asyncio.Future[None]) -> None:
        self._counts = counts
        self._first = first
        self._bytes = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Counts, and answers a message that is whole."""
        self._bytes += len(data)
        if self._bytes >= FRONT_BYTES:
            self._bytes -= FRONT_BYTES
            self._counts[0] += 1
            if not self._first.done():
                self._first.set_result(None)
            self._transport.write(_ANSWER)


async def _count(seconds: float) -> float:
    counts = [0]
    loop = asyncio.get_running_loop()
    first: asyncio.Future[None] = loop.create_future()
    server = await loop.create_server(lambda: _Answers(counts, first), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = [sys.executable, "-S", str(_HERE / "sender.py"), str(port), str(FRONT_BYTES)]
    # As above; uvloop knows no groups.
    child = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    try:
        async with asyncio.timeout(10):
            await first
        counts[0], begun_s = 0, time.perf_counter()
        await asyncio.sleep(seconds)
        return counts[0] / (time.perf_counter() - begun_s)
    except TimeoutError:
        raise OSError("nothing came over loopback") from None
    finally:
        child.kill()
        await child.wait()
        server.close()
