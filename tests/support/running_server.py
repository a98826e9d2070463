"""A server as a subprocess, and waiting for conditions: for tests that start one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil

from corral.system import procfs
from support.programs import TESTS

READY = re.compile(
    r"ready in .*gRPC on \S+:(\d+), HTTP on \S+:(\d+), metrics on http://\S+:(\d+)/metrics"
)
PATIENCE_S = 30.0
#: not an option: among a null server's arguments it lets requests and signals make workers fail,
#: see null_faults/corral_null_faults.py
WITH_FAULTS = "with faults"
#: what a machine that is busy with others may add to a promised time; nothing in ``make soak``
BUSY_S = float(os.environ.get("CORRAL_TEST_BUSY_S", "6"))


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Polls until the condition's result is true, and returns it."""
    deadline_s = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline_s, f"waited {timeout_s:g} s for: {what}"
        time.sleep(0.01)
    return result


class Server:
    """A running server. Its standard error is collected in ``lines``."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=env, process_group=0
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = 0
        self.http_port = 0
        self.metrics_port = 0

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str | re.Pattern[str], timeout_s: float = PATIENCE_S) -> Any:
        """Waits until a line matches; returns the match."""
        expression = re.compile(pattern)

        def find() -> re.Match[str] | None:
            return next((m for line in self.lines if (m := expression.search(line))), None)

        with self._news:
            self._news.wait_for(lambda: find() or not self._reader.is_alive(), timeout_s)
            found = find()
        assert found, f"no line matches {expression.pattern!r} in:\n{self.stderr}"
        return found

    def wait_until_ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Waits for the ready line, and learns the ports from it."""
        found = self.wait_for_line(READY, timeout_s)
        self.port, self.http_port, self.metrics_port = (int(found[n]) for n in (1, 2, 3))

    def children(self, pattern: str = "") -> list[psutil.Process]:
        """Child processes whose command line matches, oldest first."""
        found = []
        with contextlib.suppress(ProcessLookupError):
            # psutil's own way asks every process of the machine, and this is asked all the time.
            for pid in procfs.children(self.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child = psutil.Process(pid)
                    if re.search(pattern, " ".join(child.cmdline())):
                        found.append(child)
        return sorted(found, key=lambda child: child.create_time())

    def workers(self) -> list[int]:
        """The workers' pids."""
        return [child.pid for child in self.children(r"\bworker\b")]

    def workers_by_id(self) -> dict[int, int]:
        """The workers' pids by their ids: a slot that is being filled again may be missing."""
        found = {}
        for child in self.children(r"\bworker\b"):
            with contextlib.suppress(psutil.NoSuchProcess):
                if match := re.search(r"\bworker\.process (\d+) \d+$", " ".join(child.cmdline())):
                    found[int(match[1])] = child.pid
        return found

    def frontends(self) -> list[int]:
        """The frontends' pids."""
        return [child.pid for child in self.children("frontend")]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Waits for the end; returns the exit code, with ``lines`` complete."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def end(self) -> None:
        """Leaves nothing behind, whatever the test did."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_S)
        assert self._process.stderr
        self._process.stderr.close()


@contextlib.contextmanager
def stopped_workers(server: Server) -> Iterator[None]:
    """A server's workers stand still: what they hold and what waits stays so."""
    workers = server.workers()
    stop_still(workers)
    try:
        yield
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def stop_still(pids: Collection[int]) -> None:
    """Stops processes, and waits until none of their threads runs any more."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_until(lambda p=pid: _stands_still(p), f"{pid} to stand still")  # type: ignore[misc]


def _stands_still(pid: int) -> bool:
    """A thread that has ended meanwhile stands still, too."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "stat").read_text().rpartition(") ")[2][0] not in "TtZX":
                return False
    return True


def environment() -> dict[str, str]:
    """What servers under test are started with."""
    inherited = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "VIRTUAL_ENV")
    env = {name: os.environ[name] for name in inherited if name in os.environ}
    return {**env, "CORRAL_OFFLINE": "1", "PYTHONPATH": str(TESTS), "COLUMNS": "200"}


@contextlib.contextmanager
def running(
    command: list[str], *, ready: bool = True, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Starts a server, waits until it is ready if asked to, and ends it, whatever happens.

    With WITH_FAULTS in the command, workers of the null backend crash and hang on demand;
    ``environ`` is added to its environment.
    """
    env = {**environment(), **(environ or {})}
    if WITH_FAULTS in command:
        env["PYTHONPATH"] += f":{TESTS / 'support' / 'null_faults'}"
    server = Server([argument for argument in command if argument != WITH_FAULTS], env)
    try:
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        server.end()


def null_server(*args: str, ready: bool = True) -> contextlib.AbstractContextManager[Server]:
    """``corral serve --backend null ARGS`` on free ports."""
    command = [sys.executable, "-m", "corral", "serve", "--backend", "null"]
    ports = ["--port", "0", "--metrics-port", "0"]
    return running([*command, *ports, *args], ready=ready)


class StartServer(Protocol):
    """``server(*args)``: a context manager of a ready Server, or one that is still starting."""

    def __call__(
        self, *args: str, ready: bool = True
    ) -> contextlib.AbstractContextManager[Server]: ...


class StartSupervisor(Protocol):
    """See ``supervisor``."""

    def __call__(
        self,
        *,
        cells: int = 1,
        workers: int = 2,
        worker: dict[str, Any] | None = None,
        model: str = "resnet50",
        frontend: str = "support.fake_frontend",
        ready: bool = True,
        **settings: Any,
    ) -> contextlib.AbstractContextManager[Server]: ...
