"""Files that a command is to write."""

from __future__ import annotations

import os
from pathlib import Path

from corral.errors import ConfigError


def check_writable(path: Path, option: str) -> None:
    """Makes sure that a file can be written, before anything is measured for it.

    Raises:
        ConfigError: it cannot.
    """
    try:
        there = path.exists()
        if there and not path.is_file() and not path.is_dir():
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
