"""A server of our own to measure, on ports of its own, with an admin socket to ask it by."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.errors import ConfigError, CorralError, StartError
from corral.ipc.status import ServerStatus
from corral.settings import options
from corral.supervisor import admin
from corral.system import haste
from corral.system.owned_folder import OwnedFolder

_POLL_S = 0.1
_STOP_S, _STOP_POLL_S = 10.0, 0.02
#: becomes what follows, and ends by SIGTERM when its parent does, whatever that one dies of
_END_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):  # else it has died before that
    os.execv(sys.argv[2], sys.argv[2:])
"""


def status_of(socket: Path) -> ServerStatus:
    """The server at an admin socket.

    Raises:
        ConfigError: none answers there.
    """
    reply = admin.ask(socket, admin.Request(command="status"))
    if reply.status is None:
        raise ConfigError(f"{socket}: {reply.text}")
    return reply.status


@contextlib.contextmanager
def asking_ours() -> Iterator[None]:
    """Of a server that we have started it is no option's fault that it does not answer.

    Raises:
        StartError: no server answers.
    """
    try:
        yield
    except ConfigError:
        raise StartError("the server has ended before its time") from None


def options_of(settings: Mapping[str, Any]) -> Iterator[str]:
    """Options of a command line."""
    for name, value in settings.items():
        if isinstance(value, bool):
            # Some are on unless they are turned off, and others know no opposite.
            yield from (f"--{name}",) if value else _turned_off(name)
        elif isinstance(value, list | tuple):
            yield from (f"--{name}={each}" for each in value)
        else:
            yield f"--{name}={value}"


def _turned_off(name: str) -> Iterator[str]:
    option = next(option for option in options().values() if option.name == name)
    if option.fallback is True:
        yield f"--no-{name}"


class ChildServer:
    """A server with these options on ports of its own; ``end`` must follow.

    Attributes:
        socket: its admin socket.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._is_ending = False
        self._folder = OwnedFolder("corral-own-")
        self.socket = self._folder.path / "admin"
        self._log = self._folder.path / "log"
        ports = ("--port=0", "--http-port=0", "--metrics-port=0", f"--admin-socket={self.socket}")
        with self._log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _END_WITH_PARENT, str(os.getpid()),
                 sys.executable, "-m", "corral", "serve", *words, *ports],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                # Ctrl-C is for whoever measures, who then ends the server in order.
                process_group=0,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of its supervisor."""
        return self._process.pid

    def wait_until_ready(self, timeout_s: float) -> None:
        """Waits until every worker is ready.

        Raises:
            StartError: it ended, or took longer.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                lines = self._log.read_text(encoding="utf-8", errors="replace").strip()
                said = (lines or "it said nothing").splitlines()[-1]
                raise StartError(f"the server ended: {said.removeprefix('corral: ')}")
            with contextlib.suppress(CorralError):
                status = status_of(self.socket)
                if status.ready and all(worker.costs_s for worker in status.workers):
                    return
            time.sleep(_POLL_S)
        raise StartError(f"the server was not ready after {timeout_s:g} s")

    def ask_to_end(self) -> None:
        """Has it end in order while others do, too; ``end`` must follow."""
        if not self._is_ending:
            self._is_ending = True
            self._process.terminate()

    def end(self) -> None:
        """Ends it, in order if it does that in time, and nobody is in haste."""
        try:
            self.ask_to_end()
            deadline_s = time.monotonic() + _STOP_S
            while self._process.poll() is None and time.monotonic() < deadline_s:
                if haste.is_wanted():
                    break
                time.sleep(_STOP_POLL_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._folder.cleanup()


@contextlib.contextmanager
def own_server(words: Sequence[str], timeout_s: float) -> Iterator[Path]:
    """A server with these options on ports of its own; its admin socket. It ends with the context.

    Raises:
        StartError: it did not get ready.
    """
    server = ChildServer(words)
    try:
        server.wait_until_ready(timeout_s)
        yield server.socket
    finally:
        server.end()
