"""Temporary folders that the next process clears where their owners died without a word."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

#: its owner holds a lock on it, which ends with the owner, whatever that one dies of
_OWNER = ".owner"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
#: a pipe of that name must not be waited for
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
_TRIES = 10


class OwnedFolder:
    """A new temporary folder; a context manager, and gone when the process ends in order.

    Whoever makes one clears those beside it whose owners were killed.

    Args:
        prefix: of its name; folders of another prefix are left alone.
        base: folder to make it in; None: the usual one.

    Attributes:
        path: the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, prefix: str, base: Path | None = None) -> None:
        clear(Path(tempfile.gettempdir()) if base is None else base, prefix)
        for _ in range(_TRIES):
            self._folder = tempfile.TemporaryDirectory(prefix=prefix, dir=base)
            self.path = Path(self._folder.name)
            self._lock = _hold(self.path)
            if self._lock is not None:
                return
            # Another process has cleared it before it was ours.
            self._folder.cleanup()
        raise OSError(f"{prefix}: others clear each folder that is made")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Removes it."""
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def clear(base: Path, prefix: str) -> None:
    """Removes this user's folders of a prefix whose owners are gone.

    One whose owner lives, or that never had one, stays; links lead nowhere.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    _clear_one(Path(entry.path))


def _hold(folder: Path) -> int | None:
    """The lock on a folder of ours; None where another process clears it."""
    try:
        lock = os.open(folder / _OWNER, _FILE | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        # A file system without locks: nobody can clear anything there.
        return lock
    if os.fstat(lock).st_nlink:
        return lock
    os.close(lock)
    return None


def _clear_one(path: Path) -> None:
    folder = os.open(path, _FOLDER)
    try:
        if not _is_ours(os.fstat(folder)):
            return
        lock = os.open(_OWNER, _FILE, dir_fd=folder)
        try:
            found = os.fstat(lock)
            if not stat.S_ISREG(found.st_mode) or not _is_ours(found):
                return
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder)
            path.rmdir()
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def _is_ours(found: os.stat_result) -> bool:
    """Whether it is this user's, and nobody else can have put anything there."""
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _empty(folder: int) -> None:
    """Removes all that lies in an open folder, the mark of its owner last: who is killed meanwhile
    leaves something that can be cleared."""
    for name in sorted(os.listdir(folder), key=_OWNER.__eq__):
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
