"""Standard output that takes no more: a full disk, or a pipe that its reader has closed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

#: what a write to standard output fails of
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Ends the process with one line and exit code 1 where what it prints cannot be written.

    Whoever closed a pipe has seen enough: then it ends with 0 and no word.
    """
    failed: OSError | None = None
    try:
        try:
            yield
        finally:
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
