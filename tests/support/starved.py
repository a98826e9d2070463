"""Programs on a machine that has run out: of descriptors, of disk, or of a disk to write to."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


def with_descriptors(limit: int, command: Sequence[str]) -> list[str]:
    """The command, and all it starts, with so many descriptors a process."""
    return ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(limit), *command]


def with_tmpfs(folder: Path, options: str, command: Sequence[str]) -> list[str]:
    """The command with a file system of its own at a folder: ``size=64k``, or ``ro``."""
    script = 'mount -t tmpfs -o "$0" none "$1" && shift && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, options, str(folder), *command]


def can_mount(folder: Path) -> bool:
    """Whether this process may mount anything, if only for its children."""
    try:
        done = subprocess.run(
            with_tmpfs(folder, "size=64k", ["true"]), capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0
