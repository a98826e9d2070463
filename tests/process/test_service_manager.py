"""What systemd would hear from a real server: ready, reloading, alive, stopping."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from support.certificates import Authority
from support.running_server import Server, null_server, running, wait_until
from support.service_manager import notify_socket
from support.serving_null import null_server_command

from corral.supervisor import admin
from corral_client import Client


def _is_ready(server: Server) -> bool:
    with Client(f"127.0.0.1:{server.port}", model="resnet50", deadline_s=10) as client:
        return client.ready()


def test_ready_only_when_served_then_reloading_then_stopping(tmp_path: Path) -> None:
    with (
        notify_socket(tmp_path / "notify") as systemd,
        running(
            null_server_command("--workers", "2"), environ={"NOTIFY_SOCKET": systemd.address}
        ) as server,
    ):
        systemd.wait_for("READY")
        assert _is_ready(server)
        # While it starts it asks for more time, and says so.
        first = next(n for n, (_, words) in enumerate(systemd.said) if "READY" in words)
        assert "EXTEND_TIMEOUT_USEC" in {key for _, words in systemd.said[:first] for key in words}
        systemd.wait_for("STATUS", holds="serving resnet50, rti, null fp32; 2 of 2 workers serve")
        for child in server.children():
            assert "NOTIFY_SOCKET" not in child.environ()

        seen = len(systemd.said)
        before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.signal(signal.SIGHUP)
        reloading = systemd.wait_for("RELOADING", seen)
        assert before_us <= int(reloading["MONOTONIC_USEC"])
        assert int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1e3
        assert "under way: SIGHUP: reload" in reloading["STATUS"]
        assert systemd.wait_for("READY", seen)["READY"] == "1"
        server.wait_for_line("2 workers replaced")

        seen = len(systemd.said)
        assert server.stop() == 0
        assert systemd.find("STOPPING", seen)
        assert int(systemd.find("EXTEND_TIMEOUT_USEC", seen)[0]) >= 30_000_000
        assert not systemd.find("READY", seen)


def test_signs_of_life_only_while_every_frontend_answers(tmp_path: Path) -> None:
    with (
        notify_socket(tmp_path / "notify") as systemd,
        running(
            null_server_command("--workers", "2", "--cells", "2", "--oversubscribe"),
            environ={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "400000"},
        ) as server,
    ):
        seen = len(systemd.said)
        wait_until(lambda: len(systemd.find("WATCHDOG", seen)) >= 3, "signs of life")
        stopped = psutil.Process(server.frontends()[1])
        stopped.suspend()
        try:
            # One look may have been under way.
            seen = len(systemd.said)
            time.sleep(0.8)
            assert len(systemd.find("WATCHDOG", seen)) <= 1
        finally:
            stopped.resume()
        seen = len(systemd.said)
        wait_until(lambda: len(systemd.find("WATCHDOG", seen)) >= 2, "signs of life again")
        # Another process takes the slot of one that died, and answers.
        os.kill(stopped.pid, signal.SIGKILL)
        wait_until(lambda: stopped.pid not in server.frontends(), "another frontend")
        wait_until(lambda: len(server.frontends()) == 2, "another frontend")
        seen = len(systemd.said)
        wait_until(lambda: len(systemd.find("WATCHDOG", seen)) >= 2, "signs of life again")
        assert server.stop() == 0


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    command = null_server_command("--workers", "1", "--unix-socket", "/proc/corral.sock")
    environ = {}
    with notify_socket(tmp_path / "notify") as systemd:
        environ["NOTIFY_SOCKET"] = systemd.address
        with running(command, ready=False, environ=environ) as server:
            assert server.wait() == 2
            assert not systemd.find("READY")
            assert systemd.find("STATUS")[-1] in server.stderr


def test_a_service_manager_that_went_away_is_not_missed(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "200000"}
    with running(null_server_command("--workers", "1"), environ=environ) as server:
        assert _is_ready(server)
        assert server.stop() == 0


def test_the_units_socket_is_found_by_the_servers_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "admin.sock"
    monkeypatch.setattr(admin, "UNITS_SOCKET", socket)
    with null_server("--workers", "1", "--admin-socket", str(socket)) as server:
        assert admin.find_socket({}, server.port) == socket
        # Somebody who means another server is not answered by this one.
        other = admin.find_socket({}, server.port + 1)
        assert other != socket
    assert admin.find_socket({}, server.port) != socket


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_credentials_that_systemd_loads_are_taken(tmp_path: Path, mode: int) -> None:
    """LoadCredential: a folder that only the unit's user enters; by ACL, files look like 0440."""
    authority = Authority(tmp_path)
    pair = authority.issue("server", "127.0.0.1")
    loaded = tmp_path / "credentials"
    loaded.mkdir()
    for name, text in (
        ("tls.crt", pair.cert.read_text()),
        ("tls.key", pair.key.read_text()),
        ("tokens", "a" * 32 + "\n"),
    ):
        (loaded / name).write_text(text)
        (loaded / name).chmod(mode)
    loaded.chmod(0o500)
    words = ["--tls-cert", f"{loaded}/tls.crt", "--tls-key", f"{loaded}/tls.key"]
    words += ["--auth-token-file", f"{loaded}/tokens"]
    with (
        null_server("--workers", "1", *words) as server,
        Client(
            f"127.0.0.1:{server.port}", model="resnet50", ca=authority.file, token="a" * 32
        ) as client,
    ):
        assert client.ready()
