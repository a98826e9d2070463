"""Pictures on disk by what is in them: which cannot be read, and which are copies of others."""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

#: of each end of a large file; a thousand photographs take a second or less to tell apart
_END_BYTES = 128 * 2**10
#: files whose content is remembered; ImageNet's validation set has 50,000
_REMEMBERED = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distinct:
    """Which of several files are different pictures.

    Attributes:
        kept: indices of the first file of each picture, but for those of ``torn``.
        copies: how many other files are copies of these.
        torn: indices of all files of each picture that has several labels.
    """

    kept: list[int]
    copies: int
    torn: list[list[int]]


def unreadable(path: Path) -> str:
    """Why nothing can be read there, in the kernel's words or in ours; empty where it can.

    A folder is one that could not be listed.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "the link leads nowhere" if path.is_symlink() else os.strerror(errno.ENOENT)
    except OSError as error:
        return error.strerror or str(error)
    # A pipe that is opened for reading may never open.
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "it is no file"
    if stat.S_ISDIR(mode) or not os.access(path, os.R_OK, effective_ids=True):
        return os.strerror(errno.EACCES)
    return ""


def is_no_folder(path: Path) -> bool:
    """Whether it is there, and something else than a folder."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def content(file: Path) -> bytes:
    """A file's content in short: the same of copies, other of other pictures.

    Raises:
        OSError: it cannot be read.
    """
    found = file.stat()
    state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _sample(file.absolute(), state) + f"\0{found.st_size}".encode()


def distinct(files: Sequence[Path], labels: Sequence[int] | None) -> Distinct:
    """Tells pictures from their copies, byte by byte, but for the middle of large files.

    Args:
        files: in the order that decides which of several counts as the first.
        labels: a class's number each; None where they are not known.

    Raises:
        OSError: one cannot be read; it has the file's name.
    """
    sizes = [file.stat().st_size for file in files]
    times = Counter(sizes)
    same: dict[bytes, list[int]] = {}
    for index, file in enumerate(files):
        # Most pictures need not be read to be told apart.
        alone = times[sizes[index]] == 1
        same.setdefault(b"%d" % sizes[index] if alone else content(file), []).append(index)
    kept, torn = [], []
    for group in same.values():
        if labels is not None and len({labels[index] for index in group}) > 1:
            torn.append(group)
        else:
            kept.append(group[0])
    left = len(files) - len(kept) - sum(map(len, torn))
    return Distinct(kept=kept, copies=left, torn=torn)


@functools.lru_cache(maxsize=_REMEMBERED)
def _sample(file: Path, state: tuple[int, ...]) -> bytes:
    """SHA-256 of a file, of a large one of its ends; ``state`` changes whenever the file does.

    Both formats are compressed, so that other pixels change an end or the size, and PNG's end has
    a checksum of all.
    """
    _, size_bytes, *_ = state
    with file.open("rb") as stream:
        if size_bytes <= 2 * _END_BYTES:
            return hashlib.file_digest(stream, "sha256").digest()
        ends = hashlib.sha256(stream.read(_END_BYTES))
        stream.seek(-_END_BYTES, os.SEEK_END)
        ends.update(stream.read(_END_BYTES))
        return ends.digest()
