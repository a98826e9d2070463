"""Standard output that takes no more: one line and exit code 1; whoever closed a pipe is let go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.running_server import StartServer, environment

CLIENT = [sys.executable, "-c", "from corral_client.console import client; client()"]
CORRAL = [sys.executable, "-m", "corral"]
LOADTEST = [sys.executable, "-m", "corral_loadtest"]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def _said(command: list[str], stdout: int) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        env=environment(),
    )  # fmt: skip
    return done.returncode, done.stderr


def _is_told(command: list[str], *, lines: int | None = 1) -> None:
    """Of ``lines`` on standard error, the last says so; None: of any number."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, said = _said(command, full)
    finally:
        os.close(full)
    assert code == 1, said
    assert said.endswith("standard output: No space left on device\n")
    if lines is None:
        return
    assert said.count("\n") == lines
    readable, closed = os.pipe()
    os.close(readable)
    try:
        assert _said(command, closed) == (0, "")
    finally:
        os.close(closed)


@pytest.mark.parametrize(
    "command",
    [
        [*CORRAL, "plan", "--json"],
        [*CORRAL, "plan"],
        [*CORRAL, "--help"],
        [*CLIENT, "--help"],
        [*LOADTEST, "--help"],
        [*LOADTEST, "run", "--json-schema"],
        [*LOADTEST, "peers", "list"],
    ],
    ids=lambda command: " ".join(command[2:])[-40:],
)
def test_a_full_disk_is_told(command: list[str]) -> None:
    _is_told(command)


def test_of_a_running_server_too(server: StartServer) -> None:
    with server() as running:
        of_it = ["--port", str(running.port)]
        for words in (["status"], ["status", "--json"], ["top", "--once", "--interval", "0.1"]):
            _is_told([*CORRAL, *words, *of_it])
        for words in (["metadata"], ["statistics"], ["wait"], ["infer", "--random", "uint8"]):
            _is_told([*CLIENT, *words, "--url", f"127.0.0.1:{running.port}"])


def test_of_a_dry_run_too() -> None:
    """The full disk is told, and not as a request that failed."""
    _is_told([*CORRAL, "serve", "--dry-run", "--backend", "null"], lines=None)


def test_a_server_outlives_whoever_read_its_standard_error(unused_tcp_port: int) -> None:
    readable, closed = os.pipe()
    os.close(readable)
    where = ["--port", str(unused_tcp_port), "--http-port", "0", "--metrics-port", "0"]
    server = subprocess.Popen(
        [*CORRAL, "serve", "--backend", "null", *where], stderr=closed, env=environment()
    )
    os.close(closed)
    try:
        address = f"127.0.0.1:{unused_tcp_port}"
        waited = [*CLIENT, "wait", "--url", address, "--timeout-s", "30"]
        subprocess.run(waited, check=True, stdout=subprocess.DEVNULL, env=environment())
        server.terminate()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("kind", ["closed pipe", "full disk"])
def test_standard_error_that_takes_nothing_changes_no_exit_code_and_no_result(kind: str) -> None:
    if kind == "full disk":
        silent = os.open("/dev/full", os.O_WRONLY)
    else:
        readable, silent = os.pipe()
        os.close(readable)

    def ask(*command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*CORRAL, *command], stdout=subprocess.PIPE, stderr=silent, timeout=120, check=False,
            env=environment(),
        )  # fmt: skip

    try:
        assert ask("tune", "--p99-ms", "-3").returncode == 2
        assert ask("reload", "--port", "1").returncode == 2
        # It tells its progress before its result.
        done = ask("profile", "--backend", "null", "--seconds", "0.5", "--port", "0", "--json")
    finally:
        os.close(silent)
    assert done.returncode == 0
    assert json.loads(done.stdout)["budget"]
