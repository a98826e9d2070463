"""Files that a command is to write."""

from __future__ import annotations

from pathlib import Path

from corral.errors import ConfigError


def check_writable(path: Path, option: str) -> None:
    """Makes sure that a file can be written, before anything is measured for it.

    Raises:
        ConfigError: it cannot.
    """
    there = path.exists()
    try:
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        reason = (error.strerror or "cannot be written").lower()
        raise ConfigError(f"{option} {path}: {reason}") from None
