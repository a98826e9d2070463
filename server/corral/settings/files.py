"""Files that a user named: read within a time and a size, whatever they turn out to be; written.

A pipe that nobody writes to, or a device without end, must not hold a start up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from corral.errors import CorralError, os_reason

#: of a settings file, a certificate chain, tokens: no honest one is as large
_MOST_BYTES = 16 * 2**20
#: for whoever writes into a pipe
_PATIENCE_S = 3.0
_CHUNK_BYTES = 2**16
#: half a file is none
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def read_file(path: Path, *, once: bool = True) -> tuple[bytes, os.stat_result]:
    """A file's content, and what it is.

    Args:
        path: the file; a pipe (``<(command)``) is read to its end.
        once: False for what is read again later, which a pipe or a device cannot be.

    Raises:
        OSError: it cannot be read, has more than 16 MiB, or does not end within three seconds.
    """
    # A pipe that nobody writes to would not even open without O_NONBLOCK; a file ignores it.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(fd)
        if not once and not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return _read(fd), found
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    end_s = time.monotonic() + _PATIENCE_S
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    content = bytearray()
    while time.monotonic() < end_s:
        # A pipe that no writer has opened yet would read as ended.
        if not poll.poll(max(0.0, end_s - time.monotonic()) * 1000):
            break
        try:
            chunk = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            continue
        if not chunk:
            return bytes(content)
        content += chunk
        if len(content) > _MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {_MOST_BYTES // 2**20} MiB")
    raise TimeoutError(errno.ETIMEDOUT, f"it does not end within {_PATIENCE_S:g} s")


def read_text(path: Path) -> str:
    """A file's text in UTF-8, whatever the locale; some editors put a mark in front.

    Raises:
        OSError: it cannot be read; see ``read_file``.
        ValueError: it is in another encoding.
    """
    content, _ = read_file(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not in UTF-8") from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables.

    Raises:
        OSError: it cannot be read; see ``read_file``.
        ValueError: it is no TOML; says why.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"not TOML: {error}") from None
    except ValueError:
        # Python's own word is about a function that nobody here can call.
        most = sys.get_int_max_str_digits()
        raise ValueError(
            f"a whole number in it has more than {most} digits: shorten it, or put it in quotes"
        ) from None


def write_text(path: Path, option: str, text: str) -> None:
    """Writes what an option asked for, in UTF-8; see ``write_bytes``."""
    write_bytes(path, option, text.encode("utf-8"))


def write_bytes(path: Path, option: str, content: bytes) -> None:
    """Writes what an option asked for. A signal that would end this process waits until then.

    A file that was there is replaced by a whole one, or stays as it was.

    Raises:
        CorralError: the disk is full, or the file cannot be written any more.
    """
    try:
        # Who reads a pipe may take long: that is waited for as long as no signal comes.
        is_file = path.is_file() or not path.exists()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS if is_file else ())
        try:
            if is_file:
                _put(Path(os.path.realpath(path)), content)
            else:
                path.write_bytes(content)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as error:
        raise CorralError(f"{option} {path}: {os_reason(error)}") from None


def _put(place: Path, content: bytes) -> None:
    """By renaming; where nothing can be made beside it, or put over it, in its place."""
    draft = place.with_name(f".corral-{os.getpid()}.draft")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError:
        place.write_bytes(content)
        return
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
        with contextlib.suppress(OSError):
            draft.chmod(stat.S_IMODE(place.stat().st_mode))
        try:
            draft.rename(place)
        except OSError:
            # A container's mounted file, or another user's in a folder like /tmp.
            place.write_bytes(content)
            draft.unlink()
    # Whatever ends it, half a file does not stay.
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
