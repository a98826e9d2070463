"""Anonymous shared memory whose size nobody can change."""

from __future__ import annotations

import fcntl
import os


def create(name: str, size_bytes: int) -> int:
    """Makes a zeroed memfd, sealed against resizing; returns its descriptor.

    A sealed size means that no process can make another one die of SIGBUS.

    Args:
        name: for /proc; nobody can open it by that.
        size_bytes: its size.

    Raises:
        OSError: no memory or descriptor to be had; nothing is left open.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(fd)
        raise
    return fd
