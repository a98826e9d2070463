"""Promises about a server that is changed while it runs, in their short form."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.counted_load import closed_loop
from support.running_server import StartServer, StartSupervisor, wait_until
from support.scenarios.reload import (
    GROWTH_PER_10000_BYTES,
    CapacityWatch,
    reload_under_load,
    restart_workers,
    serve_many,
    serving,
    status_of,
    switch_modes,
)

QUICK = ("--null-batch-ms", "5", "--oversubscribe")
#: a window of 200 requests sees pages, and not the promise's 100 bytes a request
SHORT = 4
THREE = ("--workers", "3", *QUICK)


def corral(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def write_config(path: Path, **settings: object) -> None:
    lines = (f"{name.replace('_', '-')} = {value!r}" for name, value in settings.items())
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("by_signal", [False, True], ids=["corral reload", "SIGHUP"])
def test_r8_a_reload_costs_no_request_and_one_worker_at_a_time(
    server: StartServer, by_signal: bool
) -> None:
    with server(*THREE) as s:
        reload_under_load(s, 0.0, by_signal=by_signal)


def test_r8_the_only_worker_is_replaced_behind_a_spare(server: StartServer) -> None:
    with server("--workers", "1", *QUICK) as s:
        reload_under_load(s, 0.0)
        status = status_of(s)
        assert [worker.id for worker in status.workers] == [0]
        assert status.workers[0].restarts["reload"] == 1  # type: ignore[index]


def test_r8_each_cell_keeps_a_worker(server: StartServer) -> None:
    with server("--workers", "2", "--cells", "2", *QUICK) as s:
        reload_under_load(s, 0.0)


def test_r8_the_mode_switches_live(server: StartServer) -> None:
    with server("--workers", "2", "--oversubscribe") as s:
        switch_modes(s, 0.0)
        result = corral("mode", "throughput", "--port", str(s.port))
        assert (result.returncode, result.stderr) == (0, "")
        assert "changed: mode rti → throughput" in result.stdout
        assert max(status_of(s).workers[0].sizes) > 1
        result = corral("status", "--port", str(s.port))
        assert "worker 1" in result.stdout
        assert "throughput" in result.stdout


def test_r8_a_reload_brings_new_settings(server: StartServer, tmp_path: Path) -> None:
    config = tmp_path / "corral.toml"
    write_config(config, workers=2, max_batch=1)
    with server("--config", str(config), *QUICK) as s, closed_loop(s.port, 4) as load:
        wait_until(lambda: serving(s) == 2, "both workers")
        write_config(config, workers=3, max_batch=2)
        with CapacityWatch(s) as watch:
            result = corral("reload", "--port", str(s.port))
        assert result.returncode == 0, result.stderr
        assert "workers 2 → 3, max-batch 1 → 2" in result.stdout
        assert watch.least >= 2, "one more was there before one was taken away"
        assert [w.sizes for w in status_of(s).workers] == [[1, 2]] * 3
        write_config(config, workers=1)
        assert corral("reload", "--port", str(s.port)).returncode == 0
        assert [w.sizes for w in status_of(s).workers] == [[1, 2, 4, 8]]
        assert len(s.workers()) == 1
        load.wait_for_answers(4)
    assert load.counted.lost == 0, str(load.counted)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"max_batch": 0}, "--max-batch: a whole number of items, 1 to 256, is needed"),
        ({"cells": 2, "workers": 2}, "--cells cannot change while the server runs"),
        ({"max_items": 1, "host": "localhost"}, "--max-items, --host cannot change while"),
        ({"workers": 1000}, "workers"),
        ({"nonesuch": 1}, "unknown setting 'nonesuch'"),
    ],
)
def test_r8_a_wrong_reload_is_one_line_and_changes_nothing(
    server: StartServer, tmp_path: Path, settings: dict[str, object], complaint: str
) -> None:
    config = tmp_path / "corral.toml"
    config.write_text("")
    with server("--config", str(config), "--oversubscribe") as s:
        before = s.workers()
        write_config(config, **settings)
        result = corral("reload", "--port", str(s.port))
        assert result.returncode == 2
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("corral: ")
        assert complaint in line
        s.signal(signal.SIGHUP)
        s.wait_for_line("ERROR .*SIGHUP: reload: ")
        assert s.workers() == before


def test_r8_new_workers_that_do_not_start_leave_the_old_settings(
    server: StartServer, tmp_path: Path
) -> None:
    config = tmp_path / "corral.toml"
    config.write_text("")
    timing = ("--restart-backoff-s", "0.05", "--boot-timeout-s", "30")
    args = ("--config", str(config), "--workers", "2", "--oversubscribe", *timing)
    with server(*args) as s, closed_loop(s.port, 4) as load:
        wait_until(lambda: serving(s) == 2, "both workers")
        # A warm-up that never ends.
        write_config(config, null_batch_ms=60_000.0)
        with CapacityWatch(s) as watch, subprocess.Popen(
            [sys.executable, "-m", "corral", "reload", "--port", str(s.port)],
            stderr=subprocess.PIPE, text=True,
        ) as client:  # fmt: skip
            killed: set[int] = set()
            old = set(s.workers())
            while client.poll() is None and len(killed) < 3:
                wait_until(lambda: set(s.workers()) - old - killed, "a new worker")
                (new,) = set(s.workers()) - old - killed
                os.kill(new, signal.SIGKILL)
                killed.add(new)
            _, errors = client.communicate(timeout=30)
        assert client.returncode == 1
        assert "the new workers do not start, nothing was changed: worker" in errors
        assert watch.least == 1
        assert serving(s) == 2
        load.wait_for_answers(4)
    assert load.counted.lost == 0, str(load.counted)


def test_the_admin_socket_is_ours_alone_and_goes_with_the_server(
    server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with server("--admin-socket", str(path)) as s:
        s.wait_for_line(f"admin +{path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with server("--admin-socket", str(path), ready=False) as other:
            assert other.wait() == 2
            assert "another server listens there" in other.lines[-1]
        result = corral("status", "--admin-socket", str(path), "--json")
        assert '"phase": "serving"' in result.stdout
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b'{"command": "stop"}\n')
            assert b"that is no request" in client.recv(4096)
        assert s.stop() == 0
    assert not path.exists()
    result = corral("reload", "--admin-socket", str(path))
    assert result.returncode == 2
    assert "no server answers at" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_admin_socket_turns_other_users_away(server: StartServer) -> None:
    # Not pytest's folder, which nobody else can enter.
    with (
        tempfile.TemporaryDirectory() as folder,
        server("--admin-socket", f"{folder}/admin.sock") as s,
    ):
        path = Path(folder) / "admin.sock"
        # Whoever could get at it in spite of its mode.
        path.chmod(0o666)
        path.parent.chmod(0o755)
        script = (
            f"import os,socket; os.setuid(65534); s=socket.socket(socket.AF_UNIX);"
            f"s.connect({str(path)!r}); print(s.recv(99))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
        )
        assert result.stdout.strip() == "b''"
        s.wait_for_line("user 65534 was turned away")


def test_r13_restarts_leave_nothing_behind(server: StartServer) -> None:
    with server("--workers", "4", *QUICK) as s:
        growth = restart_workers(s, 20, clients=2)
        assert not growth.grown
        assert s.stop() == 0


def test_r13_requests_leave_nothing_behind(server: StartServer) -> None:
    with server("--workers", "2", "--oversubscribe") as s:
        growth = serve_many(s, 2600, settle=600)
        assert not growth.grown
        assert growth.steady_per_10000_bytes < SHORT * GROWTH_PER_10000_BYTES, growth


def test_r13_a_descriptor_that_leaks_is_caught(supervisor: StartSupervisor) -> None:
    with supervisor(workers=4, frontend="support.leaky_frontend", weights="leaks-descriptors") as s:
        growth = restart_workers(s, 8, clients=2, settle_requests=50)
        assert any(line.startswith("descriptors: ") for line in growth.grown)


def test_r13_memory_that_leaks_is_caught(supervisor: StartSupervisor) -> None:
    with supervisor(workers=2, frontend="support.leaky_frontend", weights="leaks-memory") as s:
        growth = serve_many(s, 1300, settle=300)
        # 4 KiB of each request, 39 MiB of 10,000.
        assert growth.steady_per_10000_bytes > 4 * SHORT * GROWTH_PER_10000_BYTES, growth
