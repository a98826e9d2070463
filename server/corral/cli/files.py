"""Files that a command is to write: looked at before it measures."""

from __future__ import annotations

import os
from pathlib import Path

from corral.errors import ConfigError

#: no files, and of use all the same: what this process has open already, and what takes everything
_STREAMS = ("/dev/null", "/dev/stdout", "/dev/stderr")
_OPEN = ("/dev/fd/", "/proc/self/fd/")


def check_writable(path: Path, option: str) -> None:
    """Makes sure that a file can be written, before anything is measured for it.

    Raises:
        ConfigError: it cannot, or is a pipe, a socket or a device: opening one may wait for ever.
    """
    try:
        there = path.exists()
        if there and not path.is_file() and not path.is_dir():
            if str(path) not in _STREAMS and not str(path).startswith(_OPEN):
                raise ConfigError(f"{option} {path}: no regular file")
            # A pipe is not opened twice: who reads it would see an end.
            if not os.access(path, os.W_OK, effective_ids=True):
                raise PermissionError(0, "Permission denied")
            return
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        reason = (error.strerror or "cannot be written").lower()
        raise ConfigError(f"{option} {path}: {reason}") from None
