"""--keep-warm: the server asks itself while nobody else does, and nobody notices."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import grpc
import psutil
import pytest
from support.certificates import Authority, private
from support.counted_load import INFER, closed_loop, infer_message
from support.running_server import PATIENCE_S, Server, StartServer, wait_until
from support.scenarios.reload import status_of
from support.server_counters import Scrape

_WARM = ("--keep-warm", "on", "--keep-warm-spin-s", "0", "--keep-warm-every-s", "0.05")
_ON = (*_WARM, "--workers", "1", "--null-batch-ms", "1")
_TOKEN = "a-token-of-a-client-0123456789"
#: more than a frontend and a worker wake up for in a silence without it
_MANY = 40


def _waits(pid: int, name: str = "") -> int:
    """How often the threads of that name have gone to sleep."""
    count = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (thread / "status").read_text()
        except FileNotFoundError:  # it has ended
            continue
        if text.split()[1].startswith(name):
            found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)
            assert found
            count += int(found[1])
    return count


def _asks_itself(server: Server) -> None:
    """Waits until requests have gone through the HTTP server's thread, and a worker."""
    before: dict[int, int] = {}

    def many() -> bool:
        try:
            (frontend,), (worker,) = server.frontends(), server.workers()
            now = {frontend: _waits(frontend, "tokio"), worker: _waits(worker)}
        except (FileNotFoundError, ValueError):  # a reload replaces the worker
            return False
        if before.keys() != now.keys():
            before.clear()
            before.update(now)
        return min(now[pid] - before[pid] for pid in now) >= _MANY

    wait_until(many, "the server to ask itself")


def _listener(server: Server) -> str:
    """The name that the server calls itself by, as any process of the machine can learn it."""
    (frontend,) = server.frontends()
    inodes = set()
    for fd in Path(f"/proc/{frontend}/fd").iterdir():
        if found := re.fullmatch(r"socket:\[(\d+)\]", str(fd.readlink())):
            inodes.add(found[1])
    (name,) = {
        fields[7][1:]
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]
        # 01 is a listener's, or what it has taken; the flag tells a listener's.
        if len(fields := line.split()) == 8 and fields[6] in inodes and fields[3] == "00010000"
    }
    return name


def _status(target: str, message: bytes, token: str = "") -> grpc.StatusCode:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary(INFER)(message, timeout=PATIENCE_S, metadata=metadata)
        except grpc.RpcError as error:
            status: grpc.StatusCode = error.code()
            return status
    return grpc.StatusCode.OK


def test_what_it_asks_itself_is_counted_and_told_nowhere(
    server: StartServer, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    with server(*_ON, "--access-log", str(log)) as s:
        before = Scrape(s.metrics_port)
        _asks_itself(s)
        after = Scrape(s.metrics_port)
        for name in (
            "nv_inference_count_total",
            "nv_inference_exec_count_total",
            "nv_inference_request_success_total",
            "nv_inference_request_failure_total",
            "nv_inference_request_duration_us_total",
            "corral_requests_received_total",
            "corral_request_seconds_count",
            "corral_worker_batches_total",
        ):
            assert after.total(name) == before.total(name), name
        with closed_loop(s.port, clients=1) as load:
            load.wait_for_answers(3)
        assert load.counted.lost == 0
        answered = load.counted.answered
        wait_until(lambda: len(log.read_text().splitlines()) >= answered, "the clients' lines")
        _asks_itself(s)
        assert Scrape(s.metrics_port).total("nv_inference_count_total") == answered
        assert len([json.loads(line) for line in log.read_text().splitlines()]) == answered
        warm = status_of(s).warm
        assert warm is not None
        assert warm.every_s == 0.05
        assert s.stop() == 0


def test_it_is_silent_unless_it_is_asked_for(server: StartServer) -> None:
    with server("--workers", "1") as s:
        (frontend,) = s.frontends()
        with pytest.raises(ValueError, match="unpack"):
            _listener(s)
        before = _waits(frontend, "tokio")
        time.sleep(0.5)
        assert _waits(frontend, "tokio") - before < _MANY / 4
        assert s.stop() == 0


def test_a_reload_begins_and_ends_it(server: StartServer, tmp_path: Path) -> None:
    config = tmp_path / "corral.toml"
    config.write_text('keep-warm = "off"\nkeep-warm-spin-s = 0\nkeep-warm-every-s = 0.05\n')
    with server("--workers", "1", "--config", str(config)) as s:
        config.write_text(config.read_text().replace("off", "on"))
        s.signal(signal.SIGHUP)
        _asks_itself(s)
        config.write_text(config.read_text().replace('"on"', '"off"'))
        s.signal(signal.SIGHUP)
        (frontend,) = s.frontends()

        def rests() -> bool:
            before = _waits(frontend, "tokio")
            time.sleep(0.5)
            return _waits(frontend, "tokio") - before < _MANY / 4

        wait_until(rests, "it to end")
        assert s.stop() == 0


def test_it_needs_no_clients_door(server: StartServer, tmp_path: Path) -> None:
    """TLS, certificates, tokens and the age of connections are for clients."""
    authority = Authority(tmp_path)
    pair = authority.issue("server", "localhost", "127.0.0.1")
    tokens = private(tmp_path / "tokens", _TOKEN)
    doors = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    doors += ["--tls-client-ca", str(authority.file), "--auth-token-file", str(tokens)]
    doors += ["--max-connections", "1", "--max-connection-age-s", "1", "--max-requests", "1"]
    with server(*_ON, *doors) as s:
        _asks_itself(s)
        assert "refused" not in s.stderr
        assert s.stop() == 0


def test_nobody_else_comes_through_its_door(server: StartServer) -> None:
    with server(*_ON) as s:
        _asks_itself(s)
        target = f"unix-abstract:{_listener(s)}"
        message = infer_message("forged", 1, 2)
        assert _status(target, message) is grpc.StatusCode.UNAUTHENTICATED
        assert _status(target, message, _TOKEN) is grpc.StatusCode.UNAUTHENTICATED
        # Nor does the clients' door lead there.
        assert _status(f"127.0.0.1:{s.port}", message) is grpc.StatusCode.OK
        _asks_itself(s)
        assert Scrape(s.metrics_port).total("nv_inference_count_total") == 1
        assert s.stop() == 0


def test_it_gives_way_to_clients(server: StartServer) -> None:
    """Whoever asks one request after another meets none of it: it would show in the worker."""
    with server(*_ON, "--null-batch-ms", "20") as s:
        with closed_loop(s.port, clients=2) as load:
            load.wait_for_answers(5)
            (worker,) = s.workers()
            # A batch is a sleep for its time, and one for the next.
            before, answered = _waits(worker), load.counted.answered
            load.wait_for_answers(50)
            waits, answers = _waits(worker) - before, load.counted.answered - answered
        assert load.counted.lost == 0
        assert waits <= 2 * (answers + 4)
        assert s.stop() == 0


def test_it_keeps_nobody_from_ending(server: StartServer) -> None:
    with server(*_ON, "--null-batch-ms", "50", "--drain-delay-s", "1") as s:
        _asks_itself(s)
        (frontend,), everyone = s.frontends(), [psutil.Process(pid) for pid in s.workers()]
        s.signal(signal.SIGTERM)
        s.wait_for_line("draining")

        def is_silent() -> bool:
            before = _waits(frontend, "tokio")
            time.sleep(0.2)
            return _waits(frontend, "tokio") - before < 3

        wait_until(is_silent, "it to ask itself no more")
        assert s.wait() == 0
        assert not any(one.is_running() for one in everyone)


def test_it_goes_on_with_the_worker_that_replaces_a_dead_one(server: StartServer) -> None:
    with server(*_ON) as s:
        _asks_itself(s)
        (worker,) = s.workers()
        os.kill(worker, signal.SIGKILL)

        def is_replaced() -> bool:
            (status,) = status_of(s).workers
            return status.pid not in {worker, None} and status.state == "verified"

        wait_until(is_replaced, "another worker")
        _asks_itself(s)
        assert Scrape(s.metrics_port).total("corral_items_retried_total") == 0
        assert s.stop() == 0
