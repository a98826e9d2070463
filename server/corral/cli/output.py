"""Standard output that takes no more: a full disk, or a pipe that its reader has closed.

Standard error that takes no more loses words, and nothing else: neither the result nor the exit
code hangs on who listens to the progress.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

#: what a write to standard output fails of
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Ends the process with one line and exit code 1 where what it prints cannot be written.

    Whoever closed a pipe has seen enough: then it ends with 0 and no word.
    """
    failed: OSError | None = None
    error_stream = sys.stderr
    try:
        try:
            # None where the descriptor is closed.
            if error_stream is not None:
                sys.stderr = cast("TextIO", _Forgiving(error_stream))
            yield
        finally:
            sys.stderr = error_stream
            _let_standard_error_go()
            # None where the descriptor is closed.
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        failed = error
    if failed is None:
        return
    _discard(1)
    if isinstance(failed, BrokenPipeError):
        sys.exit(0)
    where = failed.filename or ("standard output" if failed.errno in _FULL else "")
    said = f"{where}: {failed.strerror}" if where else str(failed)
    print(f"corral: {said}", file=sys.stderr)
    sys.exit(1)


class _Forgiving:
    """A stream whose words may be lost. It stays open: a disk may have room again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _let_standard_error_go() -> None:
    """What it did not take is dropped: its reader may have gone long before."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.flush()
    except OSError:
        _discard(2)


def _discard(fd: int) -> None:
    """The interpreter's own flush at the end must not fail, which would be exit code 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
