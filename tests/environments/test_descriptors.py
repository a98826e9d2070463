"""Standard input, output and error may be closed: /dev/null takes their place."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.running_server import environment, wait_until

from corral_client import Client
from corral_loadtest.servers.processes import free_port

_CLOSED = [fds for n in (1, 2, 3) for fds in itertools.combinations(range(3), n)]


def _shell(command: list[str], closed: tuple[int, ...]) -> list[str]:
    return ["sh", "-c", 'exec "$@" ' + " ".join(f"{fd}>&-" for fd in closed), "sh", *command]


@pytest.mark.parametrize("closed", _CLOSED, ids=lambda fds: "".join(map(str, fds)))
def test_a_server_starts_and_answers(closed: tuple[int, ...]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "corral", "serve", "--backend", "null", "--workers", "1"]
    command += ["--port", str(port), "--http-port", "0", "--metrics-port", "0"]
    server = subprocess.Popen(_shell(command, closed), env=environment(), process_group=0)
    try:
        with Client(f"127.0.0.1:{port}", model="resnet50") as client:
            client.wait_until_ready(30)
        named = {fd: Path(f"/proc/{server.pid}/fd/{fd}").readlink() for fd in closed}
        assert set(named.values()) == {Path(os.devnull)}
    finally:
        server.terminate()
    assert server.wait(30) == 0


@pytest.mark.parametrize("closed", _CLOSED, ids=lambda fds: "".join(map(str, fds)))
def test_a_command_ends_as_it_should(closed: tuple[int, ...]) -> None:
    plan = subprocess.run(
        _shell([sys.executable, "-m", "corral", "plan", "--backend", "null"], closed),
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert plan.returncode == 0, plan.stderr
    assert "Traceback" not in plan.stderr
    assert wait_until(lambda: plan.stdout or 1 in closed, "the plan")
