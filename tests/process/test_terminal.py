"""What becomes of a server whose terminal is closed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.counted_load import ask
from support.running_server import PATIENCE_S, READY, environment, wait_until
from support.serving_null import null_server_command

#: becomes a session's leader with the terminal at descriptor 0, as a shell's job is in one
_LEADER = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""


class InTerminal:
    """A server in a terminal of its own."""

    def __init__(self, log: Path | None, how: str) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-c", _LEADER, how, *null_server_command("--workers", "1")]
        with contextlib.ExitStack() as stack:
            stderr = stack.enter_context(log.open("wb")) if log else slave
            self.process = subprocess.Popen(
                command, stdin=slave, stdout=slave, stderr=stderr, env=environment()
            )
        os.close(slave)
        self._log = log
        self._shown = b""
        self._wake, self._woken = os.pipe()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while self._wake not in select.select([self._master, self._wake], [], [])[0]:
                self._shown += os.read(self._master, 4096)

    @property
    def said(self) -> str:
        """What it wrote to standard error so far, without a terminal's colours."""
        text = self._log.read_text() if self._log else self._shown.decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)

    def wait_until_ready(self) -> int:
        """Returns the port."""
        found = wait_until(lambda: READY.search(self.said.replace("\r\n", "")), "the server")
        return int(found[1])

    def close(self) -> None:
        """Closes the terminal's window."""
        # What is being read stays open until it has been.
        os.write(self._woken, b"x")
        self._reader.join()
        for fd in (self._master, self._wake, self._woken):
            os.close(fd)
        self._master = -1

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._master >= 0:
            self.close()


@contextlib.contextmanager
def in_terminal(log: Path | None, how: str = "") -> Iterator[InTerminal]:
    server = InTerminal(log, how)
    try:
        yield server
    finally:
        server.end()


@pytest.mark.parametrize("to_file", [False, True], ids=["shown", "in a file"])
def test_a_closed_terminal_ends_the_server_as_sigterm_does(tmp_path: Path, to_file: bool) -> None:
    with in_terminal(tmp_path / "log" if to_file else None) as server:
        port = server.wait_until_ready()
        assert ask(port) == "OK"
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.close()
        assert server.process.wait(PATIENCE_S) == 0
        assert not [child for child in children if child.is_running()]
        if to_file:
            assert "SIGHUP: draining" in server.said
            assert "Traceback" not in server.said


def test_with_nohup_it_lives_on(tmp_path: Path) -> None:
    with in_terminal(tmp_path / "log", "nohup") as server:
        port = server.wait_until_ready()
        server.close()
        wait_until(lambda: "SIGHUP: reload" in server.said, "the signal to be noticed")
        assert ask(port) == "OK"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0


def test_a_server_that_is_not_up_yet_ignores_what_means_no_end() -> None:
    code = (
        "import os, signal; from corral.supervisor.terminal import ignore_until_served as ignore; "
        "ignore(); [os.kill(os.getpid(), n) for n in (signal.SIGHUP, signal.SIGUSR1)]"
    )
    # A session of its own has no terminal.
    done = subprocess.run([sys.executable, "-c", code], start_new_session=True, check=False)
    assert done.returncode == 0
