"""The load test against a server of ours and against a foreign one: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running_server import StartServer, environment, wait_until

from corral_loadtest import result
from corral_loadtest.engines import starts
from corral_loadtest.measure.floor import run_with_floor
from corral_loadtest.measure.running import Progress, run
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import (
    ArrivalKind,
    ClosedLoop,
    Floor,
    InputKind,
    OpenLoop,
    Payload,
    Specification,
    Target,
    WrongInput,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def foreign() -> Iterator[tuple[int, int]]:
    """(port, pid) of a server that is not ours: the baseline, UINT8."""
    port = free_port()
    with serving(
        [sys.executable, "-m", "corral_loadtest.servers.baseline", str(port), "UINT8"], port
    ) as pid:
        yield port, pid


def _quick(port: int, load: ClosedLoop | OpenLoop, **changes: object) -> Specification:
    fields: dict[str, object] = {
        "target": Target(address=f"127.0.0.1:{port}", model="resnet50_uint8"),
        "load": load,
        "duration_s": 0.5,
        "warm_up_s": 0.1,
        "warm_up_limit_s": 0.5,
        "window_s": 0.1,
    }
    return Specification(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_closed_loop_measures_a_foreign_server(foreign: tuple[int, int]) -> None:
    port, pid = foreign
    seen: list[Progress] = []
    wanted = _quick(port, ClosedLoop(clients=5), processes=2, connections=3, server_pid=pid)
    found = run(wanted, seen.append)
    assert found.complete
    assert found.valid
    assert found.statuses == {"OK": found.sent}
    assert found.sent > 10
    assert found.server.name == "baseline"
    assert found.server.cpu_s_per_request
    assert found.server.cpu_s_per_request > 0
    assert found.latency
    assert found.latency.p50_ms <= found.latency.p99_ms <= found.latency.max_ms
    assert (found.generator.processes, found.generator.connections) == (2, 3)
    assert seen[-1].in_flight == 0


@pytest.mark.parametrize("kind", [ArrivalKind.POISSON, ArrivalKind.CONSTANT, ArrivalKind.BURSTS])
def test_an_open_loop_sends_all_that_was_meant(foreign: tuple[int, int], kind: ArrivalKind) -> None:
    load = OpenLoop(rate_per_s=80, arrivals=kind, burst=4)
    found = run(_quick(foreign[0], load, processes=2, duration_s=1.0))
    assert found.valid
    assert found.sent == found.statuses["OK"]
    # Windows hold 40 to 120 of a Poisson process with mean 80 but once in 100,000 runs.
    assert 40 <= found.sent <= 120


def test_a_trace_is_played_once_and_whole(foreign: tuple[int, int], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("".join(f"{5 + n / 50}\n" for n in range(40)))
    load = OpenLoop(arrivals=ArrivalKind.TRACE, trace=str(trace))
    found = run(_quick(foreign[0], load, warm_up_s=0.0))
    assert found.sent == 40
    assert found.valid


def test_the_queue_is_in_the_latency_of_an_open_loop(server: StartServer) -> None:
    """40 requests at once, 10 ms each, one worker: counted from when they were meant."""
    with server("--workers", "1", "--null-item-ms", "10", "--null-spin") as running:
        load = OpenLoop(rate_per_s=40, arrivals=ArrivalKind.BURSTS, burst=40)
        found = run(_quick(running.port, load, duration_s=1.0, server_pid=running.pid))
    assert found.latency
    assert found.latency.p50_ms >= 150
    assert found.latency.max_ms >= 390
    assert found.server.memory_mib
    assert found.server.memory_mib > 10


def test_refusals_are_counted_by_status_and_make_the_run_invalid(server: StartServer) -> None:
    with server("--workers", "1", "--null-item-ms", "50", "--max-queue", "1") as running:
        found = run(_quick(running.port, ClosedLoop(clients=8), duration_s=1.0))
    assert found.statuses["RESOURCE_EXHAUSTED"] > 0
    assert found.statuses["OK"] > 0
    assert sum(found.statuses.values()) == found.sent
    assert not found.valid


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (InputKind.FP32, "resnet50"),
        (InputKind.UINT8, "resnet50"),
        (InputKind.JPEG, "resnet50_image"),
    ],
)
def test_every_input_kind_is_taken(server: StartServer, kind: InputKind, model: str) -> None:
    with server("--workers", "1") as running:
        target = Target(address=f"127.0.0.1:{running.port}", model=model)
        payload = Payload(kind=kind, batch=2, distinct=2)
        found = run(_quick(running.port, ClosedLoop(), target=target, payload=payload))
    assert found.valid
    assert found.items_per_s == 2 * found.requests_per_s


def test_the_floor_stands_beside_the_measurement(foreign: tuple[int, int]) -> None:
    load = OpenLoop(rate_per_s=50)
    found = run_with_floor(_quick(foreign[0], load, floor=Floor(workers=1, service_ms=5)))
    assert found.floor
    assert found.floor.load == pytest.approx(0.25)
    assert found.floor.p99_ms >= 5
    measured_first = run_with_floor(_quick(foreign[0], load, floor=Floor(workers=2)))
    assert measured_first.floor
    assert measured_first.floor.service_ms > 0


def test_a_model_that_is_not_there_is_said_in_one_sentence(server: StartServer) -> None:
    with server("--workers", "1") as running:
        target = Target(address=f"127.0.0.1:{running.port}", model="nope")
        with pytest.raises(WrongInput, match="NOT_FOUND"):
            run(_quick(running.port, ClosedLoop(), target=target))


def _command(port: int, *more: str, name: str = "run") -> list[str]:
    where = ["--address", f"127.0.0.1:{port}", "--model", "resnet50_uint8"]
    return [sys.executable, "-m", "corral_loadtest", name, *where, *more]


def test_the_command_writes_json_and_a_page(foreign: tuple[int, int], tmp_path: Path) -> None:
    json, html = tmp_path / "r.json", tmp_path / "r.html"
    options = ["--duration", "0.5", "--warm-up", "0.1", "--warm-up-limit", "0.5"]
    options += ["--window", "0.1", "--clients", "2"]
    done = subprocess.run(
        [*_command(foreign[0], *options, name="ramp"), "--json", str(json), "--html", str(html)],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = result.decode(json.read_bytes())
    assert isinstance(found, result.Ramp)
    assert [s.specification.load for s in found.steps] == [ClosedLoop(clients=n) for n in (1, 2)]
    assert found.capacity_per_s == max(step.requests_per_s for step in found.steps)
    assert "<svg" in html.read_text()
    assert "capacity" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--rate", "-1"],
        ["--clients", "2", "--rate", "5"],
        ["--clients", "none"],
        ["--trace", "/nonexistent"],
        ["--clients", "2", "--connections", "3"],
        ["--workers", "2"],
        ["--json", "/nonexistent/r.json"],
        ["--server-pid", "999999999"],
        ["--input-name", "other"],
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    foreign: tuple[int, int], options: list[str]
) -> None:
    done = subprocess.run(
        _command(foreign[0], *options), capture_output=True, text=True, check=False,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_shows_what_was_measured(
    number: signal.Signals, foreign: tuple[int, int], tmp_path: Path
) -> None:
    json = tmp_path / "r.json"
    options = ["--duration", "60", "--warm-up", "0.1", "--warm-up-limit", "0.3", "--window", "0.1"]
    with subprocess.Popen(
        _command(foreign[0], *options, "--json", str(json)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as running:  # fmt: skip
        wait_until(lambda: _generators(running.pid), "a generator")
        # It has begun once it used CPU for longer than its start takes.
        wait_until(lambda: _cpu_s(_generators(running.pid)[0]) > 1.5, "load")
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=30)
    assert "interrupted" in stdout, stderr
    found = result.decode(json.read_bytes())
    assert isinstance(found, result.Result)
    assert not found.complete
    assert found.sent > 0


def _generators(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_engine_that_cannot_start_is_a_row_with_the_servers_own_words() -> None:
    command = [sys.executable, "-m", "corral", "serve", "--http-port", "0", "--metrics-port", "0"]
    (row,) = starts.measure(["ipex-fp32"], command, "resnet50", ipex="/no/such/python")
    assert "exit code 2: " in row.reason
    assert "/no/such/python" in row.reason


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--batch", "100000", "--input", "uint8"], "--batch 100000"),
        (["--distinct", "100000", "--shape", "3000,3000,3"], "--distinct 100000"),
        (["--clients", "100000", "--batch", "900"], "--clients 100000"),
        (["--rate", "1000000", "--duration", "1e9"], "--rate 1e+06"),
        (["--input", "jpeg", "--picture-size", "65535x65535"], "--picture-size 65535x65535"),
        (["--ca", __file__], f"{__file__}: no certificates"),
        (["--token-file", "/dev/zero"], "/dev/zero: "),
        (["--json", "/etc"], "--json /etc: "),
        (["--html", ""], "--html: a path is needed, not ''"),
    ],
)
def test_what_no_machine_holds_is_refused_before_it_is_made(
    foreign: tuple[int, int], options: list[str], named: str
) -> None:
    done = subprocess.run(
        _command(foreign[0], *options), capture_output=True, text=True, check=False, timeout=30,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_generators_that_lose_their_parent_end_without_a_word(foreign: tuple[int, int]) -> None:
    with subprocess.Popen(
        _command(foreign[0], "--duration", "60", "--window", "0.1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as running:  # fmt: skip
        wait_until(lambda: _generators(running.pid), "a generator")
        generators = _generators(running.pid)
        wait_until(lambda: _cpu_s(generators[0]) > 1.5, "load")
        running.kill()
        # Their standard error is the parent's: it ends when the last of them does.
        _, stderr = running.communicate(timeout=30)
    assert "Traceback" not in stderr
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in generators), "their end")
