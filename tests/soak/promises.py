"""The long form of every promise: the tests' own scenarios, for as long as one likes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support import extremes
from support.fuzzing import fuzz_server
from support.process_use import peak_growth_bytes
from support.running_server import BUSY_S, WITH_FAULTS, Server, environment, running
from support.scenarios.cgroup import change_cpus, control_group, set_affinity, throttle
from support.scenarios.end import kill_frontend, kill_supervisor, terminate
from support.scenarios.fault import (
    FOUR_WORKERS,
    TWO_WORKERS,
    hang_workers,
    kill_all_workers,
    kill_workers,
    poison_workers,
    wait_for_workers,
)
from support.scenarios.overload import OVERLOADED, bare_p99_s, churn_queue, overload
from support.scenarios.reload import (
    GROWTH_PER_10000_BYTES,
    Growth,
    reload_under_load,
    restart_workers,
    serve_many,
    switch_modes,
)
from support.scenarios.resource import BUSY, break_clients
from support.serving_null import null_server_command

from corral_loadtest.servers.machine import stolen_s as stolen

ROOT = Path(__file__).parents[2]
#: what the promises allow
_SLOT_BACK_S = 5.0
_P99_UNDER_DEATHS = 3.0
_P99_BESIDE_CRASHES = 1.2
_GOODPUT = 0.95
_REFUSAL_P99_S = 0.005
_OVERLOAD_BYTES = 100e6
_FUZZ_BYTES = 64 * 2**20
_FUZZED, _FUZZED_AT_A_TIME = 100_000, 2_500
_RESTARTS = 200

Measured = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Promise:
    """One row of the table.

    Attributes:
        number: "R1".
        text: what is done.
        share: of the soak's time; what takes as long as it takes has a small one.
        fills: it runs last, for as long as the soak has left, if that is more than its share.
        keep: runs for so many seconds and returns what was measured; AssertionError where the
            promise is broken, with what was measured in its text.
    """

    number: str
    text: str
    share: float
    keep: Callable[[float], Measured]
    fills: bool = False


def in_order(promises: Sequence[Promise]) -> list[Promise]:
    """As they are told, but what fills the time that is left comes last."""
    return sorted(promises, key=lambda promise: promise.fills)


def seconds_for(promise: Promise, whole_s: float, spent_s: float) -> float:
    """How long a promise is to be kept.

    Args:
        promise: the next one.
        whole_s: what the soak shall take, or more.
        spent_s: on those before it.
    """
    share_s = promise.share * whole_s
    return max(share_s, whole_s - spent_s) if promise.fills else share_s


def serve(*args: str) -> contextlib.AbstractContextManager[Server]:
    """A context manager of a ready server on the null backend."""
    return running(null_server_command(*args))


def hold(condition: bool, measured: Measured) -> Measured:
    """What was measured, or an AssertionError with it."""
    assert condition, f"broken: {measured}"
    return measured


def by_tests(*words: str) -> Callable[[float], Measured]:
    """A promise whose only form is its tests, or that one test shows best: pytest's arguments."""

    def keep(_: float) -> Measured:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
        env = {**environment(), "CORRAL_TEST_BUSY_S": "0", "CORRAL_TEST_ALL": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-500:]]
        # What was skipped has kept nothing.
        return hold(done.returncode == 0 and " passed" in lines[-1], {"pytest": lines[-1]})

    return keep


def _again(duration_s: float, act: Callable[[], object]) -> int:
    """Does something once, and again until the time is over; returns how often."""
    began_s, times = time.monotonic(), 0
    while not times or time.monotonic() < began_s + duration_s:
        act()
        times += 1
    return times


# --- workers that die or hang ---


def _deaths(duration_s: float) -> Measured:
    with serve(*FOUR_WORKERS) as server:
        found = kill_workers(server, duration_s, quiet_s=max(5.0, duration_s / 4))
    ratio = found.p99_s / found.quiet_p99_s
    measured: Measured = {
        "requests": found.counted.sent,
        "lost": found.counted.lost,
        "deaths": found.faults,
        "slowest return s": round(found.slowest_return_s, 2),
        "p99 ms quiet": round(found.quiet_p99_s * 1000, 1),
        "p99 ms": round(found.p99_s * 1000, 1),
        "ratio": round(ratio, 2),
    }
    return hold(found.slowest_return_s < _SLOT_BACK_S and ratio <= _P99_UNDER_DEATHS, measured)


def _all_deaths(duration_s: float) -> Measured:
    told_s: list[float] = []
    with serve(*TWO_WORKERS) as server:
        # The counts are compared with those of one load, so it is one load with many rounds.
        told_s += kill_all_workers(server, max(2, int(duration_s / 4)))
    measured: Measured = {"rounds": len(told_s), "NOT_SERVING after s": round(max(told_s), 3)}
    return hold(max(told_s) < 1, measured)


def _hangs(duration_s: float) -> Measured:
    with serve(*FOUR_WORKERS) as server:
        noticed_s = hang_workers(server, max(2, int(duration_s / 8)), floor_s=5.0)
    measured: Measured = {"hangs": len(noticed_s), "noticed after s": round(max(noticed_s), 2)}
    return hold(max(noticed_s) < 8, measured)


def _poison(duration_s: float) -> Measured:
    batches = ("--mode", "throughput", "--max-batch", "4", "--workers", "2", "--oversubscribe")
    poisons = (252, 253) * max(1, int(duration_s / 10))
    with serve(*batches, "--null-batch-ms", "10", WITH_FAULTS) as server:
        poison_workers(server, poisons)
    return {"poisons": len(poisons), "workers each killed": 2}


# --- ends ---


def _terminations(duration_s: float) -> Measured:
    told_s, ended_s = [], []

    def once() -> None:
        slow = ("--workers", "2", "--oversubscribe", "--null-batch-ms", "50", "--grace-s", "5")
        with serve(*slow) as server:
            told, ended = terminate(server)
        told_s.append(told)
        ended_s.append(ended)

    times = _again(duration_s, once)
    measured: Measured = {
        "rounds": times,
        "NOT_SERVING ms": round(max(told_s) * 1000),
        "ended s": round(max(ended_s), 2),
    }
    return hold(max(told_s) < 0.1 and max(ended_s) < 5, measured)


def _killed_parts(duration_s: float) -> Measured:
    gone_s: list[float] = []
    cells = ("--workers", "2", "--cells", "2", "--oversubscribe", "--null-batch-ms", "20")

    def once() -> None:
        with serve(*cells) as server:
            wait_for_workers(server, 2)
            kill_frontend(server)
            gone_s.append(kill_supervisor(server))

    times = _again(duration_s, once)
    measured: Measured = {"rounds": times, "nothing left after s": round(max(gone_s), 2)}
    return hold(max(gone_s) < 5, measured)


# --- changes ---

_THREE = ("--workers", "3", "--oversubscribe", "--null-batch-ms", "5")


def _reloads(duration_s: float) -> Measured:
    measured: Measured = {}
    for name, args, by_signal in (
        ("reload", _THREE, False),
        ("SIGHUP", _THREE, True),
        ("one worker", ("--workers", "1", *_THREE[2:]), False),
    ):
        with serve(*args) as server:
            times, counted = reload_under_load(server, duration_s / 4, by_signal=by_signal)
        measured[name] = f"{times} times, {counted.sent} requests, {counted.lost} lost"
    with serve(*_THREE) as server:
        times, counted = switch_modes(server, duration_s / 4)
    measured["mode"] = f"{times} times, {counted.sent} requests, {counted.lost} lost"
    return measured


def _cpus(duration_s: float) -> Measured:
    rounds = max(1, int(duration_s / 30))
    measured: Measured = {"affinity mask": f"{rounds} times"}
    with serve("--null-batch-ms", "1") as server:
        change_cpus(server, lambda cpus: set_affinity(server, cpus), rounds)
    with control_group("cpuset") as group:
        if group is not None:
            with serve("--null-batch-ms", "1") as server:
                group.take(server)
                change_cpus(server, group.set_cpus, rounds)
            measured["cpuset"] = f"{rounds} times"
    with control_group("cpu") as group:
        if group is not None:
            with serve("--workers", "1", "--null-batch-ms", "10", "--null-spin") as server:
                used = throttle(server, group, duration_s / 6, cpus=0.5)
            measured["CPUs used of 0.5"] = round(used, 2)
            hold(used < 0.6, measured)
    return measured


def _configurations(duration_s: float) -> Measured:
    """A real server with an extreme of an option, one after the other, as far as time goes."""
    cases = extremes.cases()
    random.shuffle(cases)
    began_s = time.monotonic()
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="corral-") as name:
        folder = Path(name)
        extremes.write_files(folder)
        for case in cases:
            if outcomes and time.monotonic() > began_s + duration_s:
                break
            outcomes[extremes.serves(case, folder, BUSY_S)] += 1
    return {"configurations": f"{outcomes.total()} of {len(cases)}", **outcomes}


# --- more than it can do, and clients that break ---


def _overload(duration_s: float) -> Measured:
    # Before and after, since the host is not the same at all times.
    bare_s, stolen_s, began_s = [bare_p99_s(duration_s / 10)], stolen(), time.monotonic()
    with serve(*OVERLOADED) as server:
        wait_for_workers(server, 2)
        found = overload(server, peak_s=duration_s / 10, duration_s=duration_s * 0.7)
    stolen_s, took_s = stolen() - stolen_s, time.monotonic() - began_s
    bare_s.append(bare_p99_s(duration_s / 10))
    share = found.goodput_per_s / found.peak_per_s
    measured: Measured = {
        "requests": found.counted.sent,
        "peak/s": round(found.peak_per_s, 1),
        "goodput/s": round(found.goodput_per_s, 1),
        "share": round(share, 3),
        "refusal p99 ms": round(found.refusal_p99_s * 1000, 2),
        "p99 ms of a bare server's answers": [round(each * 1000, 2) for each in bare_s],
        "CPU time given to others by the host": f"{stolen_s / took_s / (os.cpu_count() or 1):.1%}",
        "memory + MB": round(found.growth_bytes / 1e6, 1),
    }
    kept = share >= _GOODPUT and found.refusal_p99_s <= _REFUSAL_P99_S
    return hold(kept and found.growth_bytes < _OVERLOAD_BYTES, measured)


def _churn(duration_s: float) -> Measured:
    patient = ("--hang-floor-s", "60")
    with serve("--workers", "2", "--oversubscribe", "--null-batch-ms", "1", *patient) as server:
        wait_for_workers(server, 2)
        churn = churn_queue(server, rounds=max(2, int(duration_s / 2)))
    measured: Measured = {
        "expired": churn.expired,
        "cancelled": churn.cancelled,
        "of them run": churn.ran - churn.held - churn.kept,
    }
    return hold(not churn.wrong and churn.ran == churn.held + churn.kept, measured)


def _broken_clients(duration_s: float) -> Measured:
    with serve(*BUSY) as server:
        wait_for_workers(server, 2)
        for warm_up in (True, False):
            found = break_clients(
                server, crashes=1000, idle=500, half=100, processes=8,
                quiet_s=duration_s / 4, warm_up=warm_up,
            )  # fmt: skip
    ratio = found.p99_s / found.quiet_p99_s
    measured: Measured = {
        "the others' requests": found.counted.sent,
        "lost": found.counted.lost,
        "back after s": round(found.return_s, 2),
        "descriptors": f"{found.before.descriptors} → {found.after.descriptors}",
        "p99 ms quiet": round(found.quiet_p99_s * 1000, 1),
        "p99 ms": round(found.p99_s * 1000, 1),
        "ratio": round(ratio, 2),
    }
    return hold(found.counted.lost == 0 and ratio <= _P99_BESIDE_CRASHES, measured)


# --- nothing grows ---


def _grown(growth: Growth) -> Measured:
    return {
        "requests": growth.requests,
        "grown": ", ".join(growth.grown) or "nothing",
        "memory + KB a 10,000": round(growth.per_10000_bytes / 1000),
    }


def _together(one: Growth, more: Growth) -> Growth:
    return Growth(
        one.grown + more.grown,
        one.requests + more.requests,
        one.memory_bytes + more.memory_bytes,
    )


def _restarts(_: float) -> Measured:
    with serve("--workers", "4", "--oversubscribe") as server:
        growth = restart_workers(server, _RESTARTS)
    return hold(not growth.grown, {"restarts": _RESTARTS, **_grown(growth)})


def _load(duration_s: float) -> Measured:
    with serve("--workers", "2", "--oversubscribe") as server:
        # A first stretch tells how many requests fill the time.
        began_s = time.monotonic()
        serve_many(server, 2000)
        per_s = 4000 / (time.monotonic() - began_s)
        growth = serve_many(server, max(20_000, int(per_s * duration_s * 0.8)))
        while (left_s := began_s + duration_s - time.monotonic()) > 0:
            growth = _together(growth, serve_many(server, max(500, int(per_s * left_s * 0.8))))
    measured = _grown(growth)
    return hold(not growth.grown and growth.per_10000_bytes < GROWTH_PER_10000_BYTES, measured)


def _fuzz(_: float) -> Measured:
    measured: Measured = {"messages": _FUZZED}
    with serve("--max-image-pixels", "1000000") as server:
        before = (server.workers(), server.frontends())
        pids = [server.pid, *before[0], *before[1]]
        with peak_growth_bytes(before[1][0]) as growth:
            for seed in range(_FUZZED // _FUZZED_AT_A_TIME):
                found = fuzz_server(
                    server.port, pids, seed=1000 + seed, count=_FUZZED_AT_A_TIME
                )  # fmt: skip
                assert not found.strange, found.strange
        assert (server.workers(), server.frontends()) == before, "something died"
    measured["memory + MB"] = round(growth.bytes / 1e6, 1)
    return hold(growth.bytes < _FUZZ_BYTES, measured)


_PROCESS = "tests/process"

PROMISES = (
    Promise("R1", "workers die one after another, half load", 0.14, _deaths),
    Promise(
        "R1", "workers die, OpenVINO, tritonclient and perf_analyzer", 0.04,
        by_tests("tests/e2e", "-k", "test_r1_"),
    ),
    Promise("R1", "the kernel kills a worker", 0.01, by_tests(_PROCESS, "-k", "kernel_kills")),
    Promise("R2", "all workers die at once", 0.04, _all_deaths),
    Promise("R3", "workers hang", 0.06, _hangs),
    Promise("R4", "requests that kill their workers", 0.03, _poison),
    Promise("R5", "workers that cannot boot", 0.01, by_tests(_PROCESS, "-k", "test_r5")),
    Promise("R6", "SIGTERM under load", 0.04, _terminations),
    Promise("R6", "a hung worker, a second signal", 0.01, by_tests(_PROCESS, "-k", "test_r6")),
    Promise("R7", "frontend killed, then the supervisor", 0.04, _killed_parts),
    Promise(
        "R7", "the supervisor killed with a real engine, and while it prepares", 0.01,
        by_tests(_PROCESS, "tests/e2e", "-k", "test_r7"),
    ),
    Promise("R8", "reloads and mode switches under load", 0.10, _reloads),
    Promise("R9", "ten times too much", 0.07, _overload),
    Promise("R10", "deadlines pass, requests are cancelled", 0.03, _churn),
    Promise("R11", "clients crash, idle and stop", 0.06, _broken_clients),
    Promise(
        "R12", "no descriptors, no disk", 0.01,
        by_tests(_PROCESS, "tests/e2e", "-k", "test_r12"),
    ),
    Promise("R13", "200 restarts", 0.05, _restarts),
    Promise("R13", "load without end", 0.12, _load, fills=True),
    Promise(
        "R13", "a planted leak is caught", 0.01,
        by_tests(_PROCESS, "-k", "test_r13 and caught"),
    ),
    Promise(
        "R14", "counters across deaths (and in R1 to R4, R6 to R8)", 0.01,
        by_tests(_PROCESS, "-k", "test_r14"),
    ),
    Promise("R15", "CPUs and quota change", 0.04, _cpus),
    Promise("R15", "no more threads than CPUs", 0.01, by_tests(_PROCESS, "-k", "test_r15")),
    Promise("R16", "fuzzed messages and pictures", 0.06, _fuzz),
    Promise("C", "any option's extremes, a server each", 0.02, _configurations),
    Promise(
        "C", "every option's extremes, to the first child", 0.01,
        by_tests("tests/process/test_configurations.py"),
    ),
)  # fmt: skip
