"""``corral top`` as a user runs it: in a terminal, in a pipe, and when the server goes away."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from support.running_server import PATIENCE_S, Server, StartServer, environment, null_server

TOP = [sys.executable, "-m", "corral", "top"]
#: the alternate screen, and back
ENTERS, LEAVES = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    with null_server("--workers", "1") as server:
        yield server


def top(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*TOP, "--port", str(server.port), "--interval", "0.2", *words]
    return subprocess.run(command, check=False, text=True, capture_output=True, timeout=60)


def test_without_a_terminal_it_prints_once(null: Server) -> None:
    done = top(null)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    for part in ("resnet50", "serving", "worker 0", "frontend 0", "p50 / p90 / p99", "doctor"):
        assert part in done.stdout


def test_json_has_status_numbers_and_findings(null: Server) -> None:
    done = top(null, "--json", "--once")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    seen = json.loads(line)
    assert seen["status"]["model"] == "resnet50"
    assert seen["frame"]["workers"][0]["id"] == 0
    assert 0.1 < seen["frame"]["span_s"] < 30
    assert {"status", "frame", "doctor"} == set(seen)


class Terminal:
    """``corral top`` in a terminal of its own."""

    def __init__(self, server: Server, columns: int, *words: str) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        env = {**environment(), "TERM": "xterm-256color"}
        env.pop("COLUMNS")
        command = [*TOP, "--port", str(server.port), "--interval", "0.2", *words]
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        self.slave = slave
        self.text = ""

    def wait_for(self, pattern: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline_s, self.text[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode("utf-8", "replace")

    def end(self) -> int:
        """Its exit code, once it has left the screen as it was."""
        self.wait_for(re.escape(LEAVES))
        code = self.process.wait(PATIENCE_S)
        assert termios.tcgetattr(self.slave)[3] == self.before[3]
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize(
    ("columns", "how"), [(60, "q"), (140, signal.SIGINT), (80, signal.SIGTERM)]
)
def test_in_a_terminal_it_goes_on_until_it_is_told_to_stop(
    null: Server, columns: int, how: str | signal.Signals
) -> None:
    shown = Terminal(null, columns)
    try:
        shown.wait_for(re.escape(ENTERS))
        shown.wait_for(r"(?s)worker 0.*worker 0")
        if isinstance(how, signal.Signals):
            shown.process.send_signal(how)
        else:
            os.write(shown.master, how.encode())
        assert shown.end() == 0
        assert "Traceback" not in shown.text
    finally:
        shown.close()


def test_a_server_that_goes_away_is_waited_for(server: StartServer) -> None:
    with server("--workers", "1") as s:
        shown = Terminal(s, 100)
        try:
            shown.wait_for("worker 0")
            os.kill(s.pid, signal.SIGTERM)
            shown.wait_for(r"since \d\d:\d\d:\d\d: no server answers")
            os.write(shown.master, b"q")
            assert shown.end() == 0
        finally:
            shown.close()


def test_without_a_server_it_says_so(null: Server) -> None:
    done = subprocess.run(
        [*TOP, "--admin-socket", "/nowhere/at/all.sock"],
        check=False,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("corral: no server answers at /nowhere/at/all.sock")
    assert len(done.stderr.splitlines()) == 1
    assert top(null, "--interval", "0").returncode == 2
