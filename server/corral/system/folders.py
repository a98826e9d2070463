"""Folders that can be had: homes and /tmp may be missing, read-only, noexec or somebody else's."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

#: of folders that hold what workers load: whoever can write there decides what is run
_MODE = 0o775
_PRIVATE_MODE = 0o700
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108
_MEMORY = "/dev/shm"  # noqa: S108


class NotOursAlone(OSError):
    """Others can enter a folder, or it is somebody else's, or a link."""


def home(environ: Mapping[str, str]) -> Path | None:
    """The user's home: as the environment has it, else as the accounts have it; None without."""
    named = environ.get("HOME", "")
    if named.startswith("/"):
        return Path(named)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def expand(path: str, environ: Mapping[str, str]) -> str:
    """A path with ``~`` and ``~user`` in front replaced by a home, as a shell does it.

    What has no home behind it stays as it is, and so does a folder that is named ``./~``.
    """
    if not path.startswith("~"):
        return path
    name, slash, rest = path[1:].partition("/")
    if name:
        try:
            found: Path | None = Path(pwd.getpwnam(name).pw_dir)
        except (KeyError, ValueError):
            found = None
    else:
        found = home(environ)
    return path if found is None else f"{found}{slash}{rest}"


def refusal(folder: Path) -> str:
    """Why a folder cannot be had to read and write; empty where it is there, or can be made."""
    try:
        existing = _nearest(folder)
        if not existing.is_dir():
            return f"{existing} is no folder"
    except OSError as error:
        return error.strerror or str(error)
    if existing == folder:
        needed, what = os.R_OK | os.W_OK | os.X_OK, "cannot be read and written"
    else:
        needed, what = os.W_OK | os.X_OK, "nothing can be made there"
    return "" if os.access(existing, needed, effective_ids=True) else f"{existing}: {what}"


def _nearest(folder: Path) -> Path:
    """The folder itself, or the closest one above it that exists."""
    for path in (folder, *folder.parents):
        # Not lexists: a link into nowhere is in the way, too.
        if os.path.lexists(path):
            return path
    return Path()


def make(folder: Path) -> None:
    """Makes a folder and those above it; whatever the umask, no stranger writes to what is made.

    Raises:
        OSError: it cannot be made.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            try:
                path.mkdir(_MODE, exist_ok=True)
            except FileExistsError:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def make_private(folder: Path) -> None:
    """Makes a folder of mode 0700, or makes sure that the one there is ours alone.

    Raises:
        NotOursAlone: it is not.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=_PRIVATE_MODE, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise NotOursAlone(errno.EPERM, "not ours alone")


def temporary(environ: Mapping[str, str], *, lasting: bool = False) -> Iterator[Path]:
    """Where what need not last can be put, the best first; none of them need be there.

    Args:
        environ: this process's environment.
        lasting: what outlives a restart of the machine first.
    """
    usual = reversed(_TEMPORARY) if lasting else _TEMPORARY
    for name in dict.fromkeys((environ.get("TMPDIR", ""), *usual)):
        if name.startswith("/"):
            yield Path(name)


def settle_temporary(environ: Mapping[str, str], instead: Path) -> dict[str, str]:
    """What lets libraries find a folder for temporary files where the usual ones are not to be had.

    Args:
        environ: this process's environment.
        instead: a folder that is made if it is needed.

    Returns:
        variables for the environment; none where all is well, or nothing helps.
    """
    if any(path.is_dir() and not refusal(path) for path in temporary(environ)):
        return {}
    try:
        make(instead)
    except OSError:
        return {}
    return {"TMPDIR": str(instead)}


def for_programs(candidates: Sequence[Path]) -> Path | None:
    """The first folder that files can be written to and mapped as programs from; None without.

    A library that lies on a file system mounted noexec cannot be loaded.
    """
    for folder in candidates:
        try:
            if os.statvfs(folder).f_flag & os.ST_NOEXEC:
                continue
            # Only a file tells: a quota, a full disk, or a security module may be in the way.
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def program_candidates(
    environ: Mapping[str, str], *, first: Path | None = None, last: Path | None = None
) -> list[Path]:
    """Folders to try for ``for_programs``: temporary ones, then memory, which is dear."""
    named = (first, *temporary(environ), last, Path(_MEMORY))
    return [path for path in named if path is not None]
