"""Another machine's /sys and /proc: a folder, or an archive that is unpacked for the while."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from corral.errors import ConfigError

#: an archive of a machine holds some ten thousand files of a few bytes
_MOST_FILES = 500_000
_MOST_BYTES = 512 * 2**20


@contextlib.contextmanager
def machine_root(path: Path) -> Iterator[Path]:
    """The folder that holds ``sys`` and ``proc``, for as long as the context lasts.

    Args:
        path: that folder, a folder with that one inside, or a tar archive of either.

    Raises:
        ConfigError: it is neither.
    """
    try:
        root = _find_root(path) if path.is_dir() else None
        is_file = path.is_file()
    except OSError as error:
        raise ConfigError(f"--sysfs {path}: {(error.strerror or str(error)).lower()}") from None
    if root is not None:
        yield root
        return
    # A device may have no end, and a pipe nobody who writes to it.
    if not is_file:
        raise ConfigError(f"--sysfs {path}: no such folder or archive")
    with tempfile.TemporaryDirectory(prefix="corral-sysfs-") as folder:
        _unpack(path, Path(folder))
        yield _find_root(Path(folder))


def _find_root(folder: Path) -> Path:
    """The folder itself, unless sys and proc lie in the one folder inside."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    names = {entry.name for entry in inner}
    if not names & {"sys", "proc"} and len(inner) == 1:
        return inner[0]
    return folder


def _unpack(path: Path, folder: Path) -> None:
    total = 0
    try:
        with tarfile.open(path, encoding="utf-8") as archive:
            for number, member in enumerate(archive):
                total += member.size
                if number > _MOST_FILES or total > _MOST_BYTES:
                    raise ConfigError(f"--sysfs {path}: too large for the files of a machine")
                # Links that lead out of it, devices and the like are left out.
                with contextlib.suppress(tarfile.FilterError, tarfile.ExtractError):
                    archive.extract(member, folder, set_attrs=False, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0].rstrip(":")
        raise ConfigError(f"--sysfs {path}: no archive of a machine ({reason})") from None
