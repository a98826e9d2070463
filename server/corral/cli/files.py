"""Files that a command is to write: looked at before it measures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from corral.errors import ConfigError, CorralError, os_reason

#: no files, and of use all the same: what this process has open already, and what takes everything
_STREAMS = ("/dev/null", "/dev/stdout", "/dev/stderr")
_OPEN = ("/dev/fd/", "/proc/self/fd/")


def write_each(*writes: Callable[[], object]) -> None:
    """Writes results, each whether or not those before it could be written.

    Raises:
        CorralError: one could not; the first that failed.
    """
    failed: CorralError | None = None
    for write in writes:
        try:
            write()
        except CorralError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def is_stream(path: Path) -> bool:
    """Whether it is no file, and of use all the same."""
    return str(path) in _STREAMS or str(path).startswith(_OPEN)


def check_apart(written: Mapping[str, Path | None]) -> None:
    """Makes sure that no two results have the same file: one of them would be lost.

    Args:
        written: files by the option that names them; None: there is none.

    Raises:
        ConfigError: two have.
    """
    seen: dict[str, str] = {}
    for option, path in written.items():
        if path is None or is_stream(path):
            continue
        # Unlike Path.resolve it raises nothing where links go in a circle.
        other = seen.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ConfigError(f"{other} and {option} have the same file: {path}")


def check_writable(path: Path | None, option: str) -> None:
    """Makes sure that a file can be written, before anything is measured for it.

    Args:
        path: the file; None: none was asked for.
        option: that names it.

    Raises:
        ConfigError: it cannot, or is a pipe, a socket or a device: opening one may wait for ever.
    """
    if path is None:
        return
    try:
        there = path.exists()
        if there and not path.is_file() and not path.is_dir():
            if not is_stream(path):
                raise ConfigError(f"{option} {path}: no regular file")
            # A pipe is not opened twice: who reads it would see an end.
            if not os.access(path, os.W_OK, effective_ids=True):
                raise PermissionError(0, "Permission denied")
            return
        with path.open("ab"):
            pass
        if not there:
            # A link into nowhere is the user's.
            Path(os.path.realpath(path)).unlink()
    except OSError as error:
        raise ConfigError(f"{option} {path}: {os_reason(error)}") from None
