"""Another machine's /sys and /proc: a folder, or an archive that is unpacked for the while."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from corral.errors import ConfigError, os_reason
from corral.system.owned_folder import OwnedFolder

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
        raise ConfigError(f"--sysfs {path}: {os_reason(error)}") from None
    if root is not None:
        yield root
        return
    # A device may have no end, and a pipe nobody who writes to it.
    if not is_file:
        raise ConfigError(f"--sysfs {path}: no such folder or archive")
    with OwnedFolder("corral-sysfs-") as folder:
        _unpack(path, folder.path)
        yield _find_root(folder.path)


def _find_root(folder: Path) -> Path:
    """The folder itself, unless sys and proc lie in the one folder inside."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    names = {entry.name for entry in inner}
    if not names & {"sys", "proc"} and len(inner) == 1:
        return inner[0]
    return folder


def extract(archive: tarfile.TarFile, members: Iterable[tarfile.TarInfo], folder: Path) -> None:
    """Writes files, folders and symbolic links below a folder, without their owners and modes.

    What leads out of the folder is left out, and so is what is none of them. tarfile's own filters
    are not in every Python that corral runs on: Debian 12 has 3.11.2, they came with 3.11.4.

    Args:
        archive: open for reading.
        members: of it; a generator may stop the work by raising.
        folder: an empty one.

    Raises:
        OSError: what a member should become cannot be written.
        tarfile.TarError: the archive is damaged.
    """
    top = folder.resolve()
    links: list[tuple[Path, str]] = []
    for member in members:
        place = PurePosixPath(member.name)
        if ".." in place.parts or "\0" in member.name + member.linkname:
            continue
        path = top.joinpath(*(part for part in place.parts if part != "/"))
        if member.issym():
            links.append((path, member.linkname))
        elif member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.isreg() and (content := archive.extractfile(member)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    _make_links(links, top)


def _make_links(links: Iterable[tuple[Path, str]], top: Path) -> None:
    """Makes those that end below ``top``, after all files: so nothing is written through one."""
    made = []
    for path, target in links:
        parent = _end(path.parent)
        within = parent.is_relative_to(top) and _end(parent / target).is_relative_to(top)
        if within and not os.path.lexists(path):
            parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
            made.append(path)
    # Where a link ends may have changed with those made after it.
    for path in made:
        if not _end(path).is_relative_to(top):
            path.unlink()


def _end(path: Path) -> Path:
    """Where its links lead; links in a circle end somewhere, too, where Path.resolve may raise."""
    return Path(os.path.realpath(path))


def _within_limits(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    total = 0
    for number, member in enumerate(archive):
        total += member.size
        if number > _MOST_FILES or total > _MOST_BYTES:
            raise ConfigError(f"--sysfs {path}: too large for the files of a machine")
        yield member


def _unpack(path: Path, folder: Path) -> None:
    try:
        with tarfile.open(path, encoding="utf-8") as archive:
            extract(archive, _within_limits(archive, path), folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0].rstrip(":")
        raise ConfigError(f"--sysfs {path}: no archive of a machine ({reason})") from None
