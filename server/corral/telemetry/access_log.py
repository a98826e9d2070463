"""A line of JSON about each request, in a file that may be moved away at any time.

A thread of its own writes; serving never waits for a disk or a pipe. What cannot be written is
dropped and counted.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from corral.errors import ConfigError
from corral.system.background import step_back
from corral.telemetry.report import RequestReport

logger = logging.getLogger(__name__)

STANDARD_OUTPUT = "-"
#: lines that wait to be written; what comes beyond is dropped
_MOST_WAITING = 50_000
#: how long a thread that waits for lines, or for a disk, sleeps
_LOOK_S = 0.2
#: how long lines may take at the end
_LAST_LINES_S = 1.0
#: only the owner and the group read who asked for what
_MODE = 0o640
#: gRPC's names of its codes
_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)


def code_name(code: int) -> str:
    """gRPC's name of a status code; "" where there was no status."""
    return _CODES[code] if 0 <= code < len(_CODES) else ""


def line(told: RequestReport, unix_offset_s: float) -> dict[str, Any]:
    """What the log says of a request; times are milliseconds.

    Args:
        told: of the request.
        unix_offset_s: what the wall clock is ahead of the monotonic one.
    """
    began = datetime.datetime.fromtimestamp(told.begun_s + unix_offset_s, datetime.UTC)
    said: dict[str, Any] = {
        "time": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "peer": told.peer,
        "protocol": "grpc" if told.is_grpc else "http",
        "method": told.path if told.is_grpc else f"{told.method} {told.path}",
        # 499 is what servers write of a client that left before its answer.
        "status": (code_name(told.grpc_status) or "CANCELLED")
        if told.is_grpc
        else told.status or 499,
        "duration_ms": _ms(told.begun_s, told.ended_s),
        "sent_bytes": told.sent_bytes,
        "cell": told.cell,
    }
    if told.model:
        said |= {"model": told.model, "items": told.items}
    if told.outcome:
        said["outcome"] = told.outcome
    if told.received_s:
        said["receive_ms"] = _ms(told.begun_s, told.received_s)
    if told.runs:
        first, last = told.runs[0], told.runs[-1]
        said |= {
            "queue_ms": _ms(told.queued_s, first.formed_s),
            "infer_ms": _ms(first.started_s, last.ended_s),
            "worker": last.worker,
            "batch": last.batch,
            "batch_items": last.items,
        }
    if told.trace is not None:
        said |= {"trace_id": told.trace.trace_id, "span_id": told.trace.span_id}
    return said


def _ms(start_s: float, end_s: float) -> float:
    return round(max(0.0, end_s - start_s) * 1e3, 3)


def try_out(path: str) -> None:
    """Makes sure that a log can be written there; leaves nothing that was not there.

    Raises:
        ConfigError: it cannot be opened.
    """
    if path == STANDARD_OUTPUT:
        return
    with _refusals(path):
        # Of a link that leads to nothing yet, the file that it names is made.
        file = Path(path).resolve()
        is_new = not file.exists()
        os.close(_open_file(file))
        if is_new:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusals(path: str) -> Iterator[None]:
    try:
        yield
    # A path with a NUL in it is a ValueError.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--access-log {path}: {reason}") from None


def _open_file(path: Path) -> int:
    # A pipe that nobody has opened to read is an error, and not waited for.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, _MODE)
    os.set_blocking(fd, True)
    return fd


class AccessLog:
    """The file.

    Args:
        path: of the file; ``-`` for standard output.
        clock: monotonic seconds.

    Raises:
        ConfigError: it cannot be opened.

    Attributes:
        written: lines.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = None if path == STANDARD_OUTPUT else Path(path)
        self._clock = clock
        self._lines: collections.deque[bytes] = collections.deque()
        self._more = threading.Event()
        self._ending = False
        self._fails = False
        #: whether the last line was cut off
        self._is_torn = False
        self._overflowed = self._unwritten = 0
        self.written = 0
        self._fd = -1
        with _refusals(path):
            self._open()
        self._thread = threading.Thread(target=self._write_all, name="access log", daemon=True)
        self._thread.start()

    def add(self, said: dict[str, Any]) -> None:
        """Writes a line soon; from one thread."""
        if len(self._lines) >= _MOST_WAITING:
            self._overflowed += 1
            self._begin_to_drop("it is written more slowly than lines come")
            return
        self._lines.append(msgspec.json.encode(said) + b"\n")
        self._more.set()

    def close(self) -> None:
        """Writes what there is, unless that takes long."""
        self._ending = True
        self._more.set()
        self._thread.join(_LAST_LINES_S)
        if left := len(self._lines):
            self._unwritten += left
            self._begin_to_drop(f"the last {left} found nobody in time")

    @property
    def dropped(self) -> int:
        """Lines that could not be written, or found no room."""
        return self._overflowed + self._unwritten

    def _open(self) -> None:
        if self._path is None:
            self._fd = sys.__stdout__.fileno() if sys.__stdout__ is not None else -1
            if self._fd < 0:
                raise OSError(errno.EBADF, "standard output is closed")
            return
        self._fd = _open_file(self._path)

    def _write_all(self) -> None:
        step_back()
        looked_s = self._clock()
        while True:
            self._more.wait(_LOOK_S)
            self._more.clear()
            # Looked at once for many lines.
            if self._clock() - looked_s >= _LOOK_S:
                self._follow()
                looked_s = self._clock()
            while self._lines:
                batch = [self._lines.popleft() for _ in range(min(256, len(self._lines)))]
                self._write(batch)
            if self._ending:
                return

    def _follow(self) -> None:
        """A file that was moved away or removed is opened anew."""
        if self._path is None:
            return
        try:
            there = self._path.stat()
            ours = os.fstat(self._fd) if self._fd >= 0 else None
            if ours is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        self._shut()
        try:
            self._open()
        except OSError as error:
            self._failed(error, 0)

    def _shut(self) -> None:
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, lines: list[bytes]) -> None:
        data = (b"\n" if self._is_torn else b"") + b"".join(lines)
        try:
            if self._fd < 0:
                self._open()
            while data:
                count = os.write(self._fd, data)
                self._is_torn = data[count - 1 : count] != b"\n"
                data = data[count:]
        except OSError as error:
            left = min(len(lines), data.count(b"\n"))
            self.written += len(lines) - left
            self._failed(error, left)
            return
        self.written += len(lines)
        # A queue that is emptied a bit and fills again is one story.
        if self._fails and len(self._lines) < _MOST_WAITING // 2:
            self._fails = False
            logger.warning("the access log is written again; %d lines were dropped", self.dropped)

    def _failed(self, error: OSError, lines: int) -> None:
        self._unwritten += lines
        self._begin_to_drop(str(error.strerror or error))

    def _begin_to_drop(self, reason: str) -> None:
        """Says so once, until it is over."""
        if not self._fails:
            self._fails = True
            logger.warning(
                "the access log cannot be written (%s): its lines are dropped until it can", reason
            )
