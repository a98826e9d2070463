"""Whether this machine has what no server can do without; asked once, before all else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from corral.errors import ConfigError
from corral.system import memfd
from corral.system.limits import start_refusal


def _open_null() -> None:
    os.close(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))


def _read_proc() -> None:
    list(Path(f"/proc/{os.getpid()}/task").iterdir())


def _make_memory() -> None:
    os.close(memfd.create("probe", 1))


def _open_process() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _make_event() -> None:
    os.close(os.eventfd(0, os.EFD_CLOEXEC))


_NEEDED: tuple[tuple[str, Callable[[], None]], ...] = (
    ("/dev/null", _open_null),
    ("/proc of its own processes", _read_proc),
    ("sealed anonymous memory (memfd_create)", _make_memory),
    ("descriptors of processes (pidfd_open, Linux 5.3)", _open_process),
    ("descriptors of events (eventfd)", _make_event),
)


def require() -> None:
    """Raises ConfigError, one line, where a container or an old kernel lacks one of them."""
    for name, use in _NEEDED:
        try:
            use()
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise ConfigError(start_refusal(error)) from None
            raise ConfigError(
                f"this machine, or its container, has not {name}, which corral needs: "
                f"{error.strerror or error}"
            ) from None
