"""``corral top``: a running server in a terminal, again and again."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from corral.cli.interrupting import interrupts
from corral.console import terminal
from corral.console.frame import Frame, Window
from corral.doctor.finding import Report
from corral.errors import CorralError, StartError
from corral.ipc.status import ServerStatus
from corral.planning import topology
from corral.planning.machine import Machine
from corral.supervisor import admin
from corral.system.terminal import standard_output

#: for a server to answer
_PATIENCE_S = 5.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one look shows; with --json it is printed."""

    status: ServerStatus
    frame: Frame
    #: what the doctor found; None while it has not looked
    doctor: Report | None


class Watch:
    """Looks at one server, wherever its socket lies.

    Args:
        options: the server's port, or its socket.
        environ: of the user.
    """

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._window = Window()

    def look(self) -> Seen:
        """The server now, and its numbers since the looks before.

        Raises:
            ConfigError: there is no server, or it is not ours to ask.
            StartError: it does not answer.
        """
        path = admin.find_socket(self._environ, self._options.port, self._options.admin_socket)
        reply = admin.ask(path, admin.Request(command="look"), _PATIENCE_S)
        if reply.status is None or reply.look is None:
            raise StartError(reply.text or "the server is of another version")
        frame = self._window.add(reply.look.sample, unix_s=time.time())
        return Seen(status=reply.status, frame=frame, doctor=reply.look.report)


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Looks until it is told to stop, or once; returns the exit code.

    Raises:
        ConfigError: there is no server at the beginning.
        StartError: the server does not answer then.
    """
    watch = Watch(options, environ)
    watch.look()
    console = standard_output()
    if options.json:
        return _print_json(watch, options.interval, once=options.once)
    if options.once or not console.is_terminal or console.is_dumb_terminal:
        time.sleep(options.interval)
        console.print(_rendered(watch.look(), _machine(), console.width))
        return 0
    return _show(watch, console, options.interval)


def _print_json(watch: Watch, interval_s: float, *, once: bool) -> int:
    """A line of JSON a look."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(interval_s)
            print(msgspec.json.encode(watch.look()).decode(), flush=True)
            if once:
                break
    return 0


def _machine() -> Machine | None:
    """The machine, to be drawn; a server's own view of it decides nothing here."""
    with contextlib.suppress(CorralError, OSError, ValueError):
        return topology.read_machine()
    return None


def _rendered(seen: Seen, machine: Machine | None, width: int, note: str = "") -> Any:
    return terminal.render(seen.status, seen.frame, seen.doctor, machine, width=width, note=note)


def _show(watch: Watch, console: Console, interval_s: float) -> int:
    """Fills the terminal until q or Ctrl-C; a server that goes away is waited for."""
    machine, seen, note, since = _machine(), watch.look(), "", ""
    with (
        contextlib.suppress(KeyboardInterrupt),
        # The terminal is put in order again, whoever ends this.
        interrupts(),
        _keys() as quits,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(_rendered(seen, machine, console.width, note), refresh=True)
            if quits(interval_s):
                break
            try:
                seen, note, since = watch.look(), "", ""
            except CorralError as error:
                since = since or time.strftime("%H:%M:%S")
                note = f"since {since}: {error}; q ends this"
    return 0


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Waits for seconds, or until q is pressed: then it is True."""
    if not sys.stdin.isatty():
        yield time.sleep
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield lambda seconds: _is_quit(fd, time.monotonic() + seconds)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _is_quit(fd: int, until_s: float) -> bool:
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([fd], [], [], left_s)[0]:
            key = os.read(fd, 1)
            if key in {b"q", b"Q"}:
                return True
            if not key:
                # The terminal is gone.
                raise KeyboardInterrupt
    return False
