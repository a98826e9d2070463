"""Files that may change while the server runs: read again when they did, kept when broken."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from corral.errors import ConfigError, os_reason
from corral.settings.files import read_file

logger = logging.getLogger(__name__)

T = TypeVar("T")
Stamp = tuple[tuple[int, ...], ...]


class WatchedFile(Generic[T]):
    """What a set of files says, as of the last time that it made sense. Safe for any thread.

    Links are followed, so that the swapped links of Kubernetes' secrets count as a change.

    Args:
        paths: the files.
        load: reads them; raises ConfigError when they are of no use.
        every_s: how long an answer is taken to be fresh, seconds.
        clock: monotonic seconds.

    Raises:
        ConfigError: the files are of no use at the start.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[], T],
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._every_s = every_s
        self._clock = clock
        self._guard = threading.Lock()
        # Taken before the files are read: what changes meanwhile is seen at the next look.
        self._stamp = _stamp(self._paths)
        self._looked_s = clock()
        self._value = load()

    def current(self) -> T:
        """The newest content that made sense; a broken new one is logged once."""
        with self._guard:
            now_s = self._clock()
            if now_s - self._looked_s >= self._every_s:
                self._looked_s = now_s
                self._look()
            return self._value

    def _look(self) -> None:
        stamp = _stamp(self._paths)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        names = ", ".join(str(path) for path in self._paths)
        try:
            self._value = self._load()
        except ConfigError as error:
            logger.warning("changed, but not used; the old content stays in force: %s", error)
        except Exception:
            # Whoever asks has no use for it, and may be a thread that nobody starts again.
            logger.exception("changed, but not used; the old content stays in force: %s", names)
        else:
            logger.info("read again, because it changed: %s", names)


def _stamp(paths: Sequence[Path]) -> Stamp:
    """Changes when one of the files does; a missing file has a stamp of its own."""
    stamps: list[tuple[int, ...]] = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            stamps.append(())
        else:
            stamps.append(
                (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            )
    return tuple(stamps)


def read_private(path: Path, option: str) -> bytes:
    """Reads a file that only its owner and group may read.

    Args:
        path: the file.
        option: the setting that names it, for the errors.

    Raises:
        ConfigError: it cannot be read, or everybody on the machine can read it.
    """
    try:
        content, found = read_file(path, once=False)
    except OSError as error:
        raise ConfigError(f"{option} {path}: {os_reason(error)}") from None
    if found.st_mode & 0o007:
        raise ConfigError(
            f"{option} {path}: every user of this machine has access to it; "
            f"chmod o= {path} takes that away"
        )
    return content
