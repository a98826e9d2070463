"""More than the server can do, and requests that nobody waits for: the promises R9 and R10.

Each scenario takes a running server and how long or how often; ``make soak`` runs the same code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from corral_loadtest.servers.processes import free_port, serving
from support import programs
from support.counted_load import INFER, Counted, closed_loop, fixed_rate, infer_message
from support.process_use import peak_growth_bytes
from support.running_server import Server, stopped_workers, wait_until
from support.server_counters import Scrape

#: two workers of 40 ms each: 50 requests a second are all they can do
OVERLOADED = ("--workers", "2", "--oversubscribe", "--null-batch-ms", "40", "--max-batch", "1")
TIMES = 10
_PEAK_PER_S = 50.0
#: long enough to be seen in the queue on a busy machine, short beside what makes a worker hang
_ROUND_DEADLINE_S = 3.0


@dataclasses.dataclass(frozen=True)
class Overload:
    """What came of an overload.

    Attributes:
        counted: what clients saw of it.
        peak_per_s: answers a second when just enough is asked for.
        goodput_per_s: answers a second under the overload.
        refusal_p99_s: how soon refusals came, see refusal_probe.py.
        refusals: how many of them were measured.
        growth_bytes: how much more memory the frontend held at its worst.
    """

    counted: Counted
    peak_per_s: float
    goodput_per_s: float
    refusal_p99_s: float
    refusals: int
    growth_bytes: int


def overload(server: Server, *, peak_s: float, duration_s: float) -> Overload:
    """Measures what the server can do, then asks for ten times as much.

    Args:
        server: with ``OVERLOADED``, all its workers ready.
        peak_s: how long to measure the peak.
        duration_s: how long the overload lasts; what is queued then is still answered.
    """
    with closed_loop(server.port, clients=6) as load:
        load.wait_for_answers(4)
        peak_per_s = _answers_per_s(load.counted, lambda: load.run_for(peak_s))
    with (
        peak_growth_bytes(server.frontends()[0]) as growth,
        fixed_rate(server.port, per_s=TIMES * _PEAK_PER_S) as flood,
    ):
        flood.wait_for_answers(4)
        with probing(server.port) as refusal_s:
            goodput_per_s = _answers_per_s(flood.counted, lambda: flood.run_for(duration_s))
    p99_s = float(np.quantile(refusal_s, 0.99)) if refusal_s else 0.0
    return Overload(flood.counted, peak_per_s, goodput_per_s, p99_s, len(refusal_s), growth.bytes)


def bare_p99_s(duration_s: float) -> float:
    """The p99 of a server that queues and refuses nothing, under the same requests and probe.

    What it takes is what gRPC, this machine and its host take; a refusal cannot be much sooner.
    """
    port = free_port()
    with (
        serving(
            [sys.executable, "-m", "corral_loadtest.servers.baseline", str(port), "UINT8"], port
        ),
        fixed_rate(port, per_s=TIMES * _PEAK_PER_S) as flood,
    ):
        flood.wait_for_answers(4)
        with probing(port, "OK") as answer_s:
            flood.run_for(duration_s)
    return float(np.quantile(answer_s, 0.99))


@contextlib.contextmanager
def probing(port: int, status: str = "RESOURCE_EXHAUSTED") -> Iterator[list[float]]:
    """How soon answers of a status come meanwhile, seconds; filled in when the block has ended."""
    with programs.start("support.refusal_probe", str(port), status) as probe:
        took_s: list[float] = []
        yield took_s
        found, _ = probe.communicate()
        took_s += json.loads(found)


def _answers_per_s(counted: Counted, wait: Callable[[], None]) -> float:
    before, began_s = counted.answered, time.monotonic()
    wait()
    return (counted.answered - before) / (time.monotonic() - began_s)


@dataclasses.dataclass
class Churn:
    """What became of queued requests, in all rounds together.

    Attributes:
        held: that workers had when they were stopped: answered.
        expired: whose deadline passed in the queue.
        cancelled: that their clients took back.
        kept: that waited, and were answered.
        ran: how many items workers were given, by the server's count.
        wrong: those that ended in another way than they should, in words.
    """

    held: int = 0
    expired: int = 0
    cancelled: int = 0
    kept: int = 0
    ran: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)


def churn_queue(server: Server, *, rounds: int, each: int = 20) -> Churn:
    """Stops the workers, fills the queue, lets deadlines pass, cancels half, lets them go on.

    Of ``3 * each`` queued requests a third has a deadline that passes, a third is cancelled.

    Args:
        server: whose workers answer at once; it may not think that they hang.
        rounds: how often.
        each: see above.
    """
    churn = Churn()
    before = Scrape(server.metrics_port).total("nv_inference_count_total")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for _ in range(rounds):
            _churn_once(server, channel, churn, each)
    churn.ran = int(Scrape(server.metrics_port).total("nv_inference_count_total") - before)
    return churn


def _churn_once(server: Server, channel: grpc.Channel, churn: Churn, each: int) -> None:
    def send(count: int, deadline_s: float = 30.0) -> list[grpc.Future]:
        call = channel.unary_unary(INFER)
        return [call.future(infer_message("x", 1, 2), timeout=deadline_s) for _ in range(count)]

    def waiting() -> float:
        return Scrape(server.metrics_port).total("corral_queue_depth")

    workers = len(server.workers())
    with stopped_workers(server):
        held = send(workers)
        wait_until(lambda: _inflight(server) == workers, "held requests")
        cancelled, kept = send(each), send(each)
        wait_until(lambda: waiting() == 2 * each, "those without a deadline")
        late = send(each, _ROUND_DEADLINE_S)
        wait_until(lambda: waiting() == 3 * each, "a full queue")
        for call in cancelled:
            call.cancel()
        wait_until(lambda: waiting() == each, "deadlines to pass and cancellations to arrive")
    churn.held += _ended(held, "OK", churn.wrong)
    churn.kept += _ended(kept, "OK", churn.wrong)
    churn.expired += _ended(late, "DEADLINE_EXCEEDED", churn.wrong)
    churn.cancelled += _ended(cancelled, "CANCELLED", churn.wrong)


def _inflight(server: Server) -> float:
    return Scrape(server.metrics_port).total("corral_requests_inflight")


def _ended(calls: list[grpc.Future], status: str, wrong: list[str]) -> int:
    def code(call: grpc.Future) -> str:
        try:
            return str(call.code().name)
        except grpc.FutureCancelledError:
            return "CANCELLED"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(code, calls))
    wrong += [f"{each} and not {status}" for each in found if each != status]
    return found.count(status)
