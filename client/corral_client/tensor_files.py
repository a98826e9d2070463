"""Arrays that the command reads from files and writes to one: numpy's .npy and .npz."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: how every archive begins, also an empty one
_ARCHIVE = b"PK"
_ENDING = ".npy"
#: what a broken archive raises
_BROKEN = (
    ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError,
)  # fmt: skip
_NO_ARRAY = "no array of numbers as numpy.save writes it"
_NO_ARCHIVE = "no archive of arrays as numpy.savez writes it"


class UnreadableFile(Exception):
    """What the user named cannot be used; the text says why, in one line."""


def read(words: Sequence[str]) -> dict[str | None, NDArray[Any]]:
    """Arrays by the inputs' names; None for a file that came without one.

    Args:
        words: FILE.npy, NAME=FILE.npy, and FILE.npz, which has the names inside.

    Raises:
        UnreadableFile: a file is none of these, or a name comes twice.
    """
    found: dict[str | None, NDArray[Any]] = {}
    for word in words:
        for name, array in _read(word).items():
            if name in found:
                twice = f"{name!r} comes twice" if name else "only one can be without a name"
                raise UnreadableFile(f"{word}: {twice}; say NAME=FILE.npy, each name once")
            found[name] = array
    return found


def _read(word: str) -> Mapping[str | None, NDArray[Any]]:
    name, separator, rest = word.partition("=")
    # A file's own name may hold the sign.
    named = bool(separator and name) and not Path(word).is_file()
    path = Path(rest if named else word)
    try:
        with path.open("rb") as file:
            if _is_archive(file):
                if named:
                    raise UnreadableFile(f"{path}: it has its names inside; leave {name}= out")
                return _archive(path, file)
            return {name if named else None: _array(path, file)}
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except MemoryError:
        raise UnreadableFile(f"{path}: its array does not fit into the memory") from None


def _is_archive(file: IO[bytes]) -> bool:
    begins = file.read(len(_ARCHIVE))
    if not file.seekable():
        raise UnreadableFile(f"{file.name}: {_NO_ARRAY}")
    file.seek(0)
    return begins == _ARCHIVE


def _array(path: Path, file: IO[bytes]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except _BROKEN:
        raise UnreadableFile(f"{path}: {_NO_ARRAY}") from None
    return array


def _archive(path: Path, file: IO[bytes]) -> dict[str | None, NDArray[Any]]:
    found: dict[str | None, NDArray[Any]] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                # A member that is no array comes as bytes.
                if not isinstance(array := archive[name], np.ndarray):
                    raise UnreadableFile(f"{path}: {name!r} in it is {_NO_ARRAY}")
                found[name] = array
    except _BROKEN:
        raise UnreadableFile(f"{path}: {_NO_ARCHIVE}") from None
    if not found:
        raise UnreadableFile(f"{path}: {_NO_ARCHIVE}")
    return found


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays as numpy.savez does, whatever their names are; BYTES as numpy's ``S``.

    Raises:
        UnreadableFile: the file cannot be written.
    """
    try:
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                plain = array.astype("S") if array.dtype == object else array
                written = io.BytesIO()
                np.lib.format.write_array(written, plain, allow_pickle=False)
                archive.writestr(f"{name}{_ENDING}", written.getbuffer())
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from None
