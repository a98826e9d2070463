"""Faults of workers under load, and what must hold meanwhile: the promises R1 to R4 and R14.

Each scenario takes a running server and how long to go on. The tests run them for seconds,
``make soak`` for as long as one likes; what depends on a quiet machine (quantiles) is returned
and not asserted.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import time

from support.counted_load import Counted, ask, closed_loop, fixed_rate
from support.health_watch import HealthWatch
from support.running_server import WITH_FAULTS, Server, stop_still, wait_until
from support.server_counters import CounterWatch, Scrape

#: how workers are made to die, by name; the last needs WITH_FAULTS
DEATHS = {
    "killed": signal.SIGKILL,
    "segmentation fault": signal.SIGSEGV,
    "aborted": signal.SIGABRT,
    "out of memory": signal.SIGUSR2,
}
#: how workers are made to hang; the last needs WITH_FAULTS
HANGS = {"stopped": signal.SIGSTOP, "engine hangs": signal.SIGUSR1}

#: four workers of 40 ms: 100 requests a second are all they can do
FOUR_WORKERS = (
    "--workers", "4", "--oversubscribe", "--null-batch-ms", "40", WITH_FAULTS,
)  # fmt: skip
HALF_LOAD_PER_S = 50.0
#: half of it
TWO_WORKERS = ("--workers", "2", *FOUR_WORKERS[2:])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        counted: what clients saw.
        faults: how many there were.
        slowest_return_s: the longest time from a fault until its slot was filled again.
        quiet_p99_s: of the latencies before the first fault.
        p99_s: of those after it.
    """

    counted: Counted
    faults: int
    slowest_return_s: float
    quiet_p99_s: float
    p99_s: float


def wait_for_workers(server: Server, count: int) -> None:
    """Waits until so many workers are ready. A server is ready with its first."""
    wait_until(
        lambda: Scrape(server.metrics_port).total("corral_worker_up") == count, "all workers"
    )


def is_back(server: Server, worker: int, dead: int) -> bool:
    """Whether a worker's slot is filled again, by another process, and that one is ready."""
    pid = server.workers_by_id().get(worker)
    up = Scrape(server.metrics_port).total("corral_worker_up", worker=str(worker))
    return pid not in {None, dead} and up == 1


def check_counts(server: Server, counted: Counted, *, failed: int = 0) -> None:
    """Everything was answered once, correctly, and counted once.

    Args:
        server: that answered nothing but this load, and ``failed`` requests with INTERNAL.
        counted: what the load saw.
        failed: see there.
    """
    assert not counted.lost, str(counted)
    scrape = Scrape(server.metrics_port)
    assert scrape.total("corral_requests_total", outcome="succeeded") == counted.answered
    assert scrape.total("nv_inference_request_success_total") == counted.answered
    assert scrape.total("nv_inference_count_total") == counted.answered
    assert scrape.total("corral_requests_total", outcome="failed") == failed
    assert scrape.total("nv_inference_request_failure_total") == failed
    assert scrape.total("corral_requests_received_total") == counted.sent + failed
    assert scrape.total("corral_requests_inflight") == scrape.total("corral_items_pending") == 0


def kill_workers(
    server: Server,
    duration_s: float,
    *,
    every_s: float = 2.0,
    deaths: tuple[str, ...] = tuple(DEATHS),
    per_s: float = HALF_LOAD_PER_S,
    quiet_s: float = 0.5,
    seed: int = 1,
) -> Outcome:
    """R1, R14: random workers die, one after another, in every way there is.

    Args:
        server: started with FOUR_WORKERS, or the like.
        duration_s: how long; longer if not every kind of death has come by then.
        every_s: from one death to the next.
        deaths: names in DEATHS, taken in turn.
        per_s: the load.
        quiet_s: load before the first death.
        seed: chooses the victims.
    """
    chance = random.Random(seed)
    workers = len(server.workers())
    wait_for_workers(server, workers)
    before = Scrape(server.metrics_port).total("corral_worker_restarts_total", cause="crash")
    returns_s: list[float] = []
    with (
        CounterWatch(server.metrics_port) as watch,
        fixed_rate(server.port, per_s, seed=seed) as load,
    ):
        load.run_for(quiet_s)
        began_s = time.monotonic()
        while time.monotonic() < began_s + duration_s or len(returns_s) < len(deaths):
            name = deaths[len(returns_s) % len(deaths)]
            worker, pid = chance.choice(sorted(server.workers_by_id().items()))
            died_s = time.monotonic()
            os.kill(pid, DEATHS[name])
            wait_until(
                lambda w=worker, p=pid: is_back(server, w, p),  # type: ignore[misc]
                f"worker {worker} to be back ({name})",
            )
            returns_s.append(time.monotonic() - died_s)
            load.run_for(max(0.0, died_s + every_s - time.monotonic()))
    counted = load.counted
    check_counts(server, counted)
    assert not watch.went_down
    restarts = watch.last.total("corral_worker_restarts_total", cause="crash") - before
    assert restarts == len(returns_s)
    return Outcome(
        counted,
        len(returns_s),
        max(returns_s),
        counted.latency_s(0.99, until_s=began_s),
        counted.latency_s(0.99, since_s=began_s),
    )


def kill_all_workers(server: Server, rounds: int, *, clients: int = 8) -> list[float]:
    """R2, R14: all workers die at once; what is queued waits for the next ones.

    Returns:
        for each round, how many seconds after the deaths health said NOT_SERVING.
    """
    workers = len(server.workers())
    told_s = []
    with (
        HealthWatch(server.port) as health,
        CounterWatch(server.metrics_port) as watch,
        closed_loop(server.port, clients) as load,
    ):
        for _ in range(rounds):
            wait_for_workers(server, workers)
            load.wait_for_answers(2 * clients)
            victims, fronts = server.workers(), server.frontends()
            # Nobody hands a request on from one dead worker to the next.
            stop_still(fronts)
            killed_s = time.monotonic()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            for pid in fronts:
                os.kill(pid, signal.SIGCONT)
            told_s.append(health.wait_for("NOT_SERVING", killed_s))
            health.wait_for("SERVING", killed_s + told_s[-1])
            load.wait_for_answers(2 * clients)
    check_counts(server, load.counted)
    assert not watch.went_down
    return told_s


def hang_workers(
    server: Server,
    rounds: int,
    *,
    floor_s: float,
    hangs: tuple[str, ...] = tuple(HANGS),
    per_s: float = HALF_LOAD_PER_S,
    seed: int = 1,
) -> list[float]:
    """R3, R14: workers hang under load, one after another.

    Args:
        server: started with FOUR_WORKERS, or the like, and --hang-floor-s.
        rounds: how often.
        floor_s: what it was started with.
        hangs: names in HANGS, taken in turn.
        per_s: the load.
        seed: chooses the victims.

    Returns:
        for each, the seconds until it was killed.
    """
    chance = random.Random(seed)
    wait_for_workers(server, len(server.workers()))
    before = Scrape(server.metrics_port).total("corral_worker_restarts_total", cause="hang")
    noticed_s = []
    with (
        CounterWatch(server.metrics_port) as watch,
        fixed_rate(server.port, per_s, seed=seed) as load,
    ):
        for number in range(rounds):
            load.wait_for_answers(10)
            worker, pid = chance.choice(sorted(server.workers_by_id().items()))
            hung_s = time.monotonic()
            os.kill(pid, HANGS[hangs[number % len(hangs)]])
            wait_until(
                lambda p=pid: p not in server.workers(),  # type: ignore[misc]
                f"worker {worker} to be killed",
            )
            noticed_s.append(time.monotonic() - hung_s)
            wait_until(
                lambda w=worker, p=pid: is_back(server, w, p),  # type: ignore[misc]
                f"worker {worker} to be back",
            )
    check_counts(server, load.counted)
    assert not watch.went_down
    assert watch.last.total("corral_worker_restarts_total", cause="hang") - before == rounds
    # Its batch began up to one batch after the signal, or before it.
    assert min(noticed_s) > floor_s - 0.5
    return noticed_s


def poison_workers(server: Server, poisons: tuple[int, ...], *, clients: int = 8) -> None:
    """R4: requests that kill every worker that runs them, among others that do not.

    Args:
        server: started WITH_FAULTS, and batches of several.
        poisons: first elements, see null_faults/corral_null_faults.py.
        clients: send harmless requests meanwhile.
    """
    wait_for_workers(server, len(server.workers()))
    before = Scrape(server.metrics_port).total("corral_worker_restarts_total")
    with closed_loop(server.port, clients) as load:
        for number, poison in enumerate(poisons, 1):
            load.wait_for_answers(2 * clients)
            assert ask(server.port, first=poison) == "INTERNAL"
            wait_until(
                lambda n=number: (  # type: ignore[misc]
                    Scrape(server.metrics_port).total("corral_worker_restarts_total") - before
                    == 2 * n
                ),
                "two workers to have died of it",
            )
        load.wait_for_answers(2 * clients)
    check_counts(server, load.counted, failed=len(poisons))
    after = Scrape(server.metrics_port).total("corral_worker_restarts_total")
    assert after - before == 2 * len(poisons), "a third worker died of it"
