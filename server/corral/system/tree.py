"""Reads many small files below a root folder at once, and remembers why some could not be read.

The root folder is ``/``, or a copy of another machine's /sys and /proc.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from corral.errors import os_reason

_MOST_BYTES = 4 * 2**20
_CHUNK_BYTES = 65536
_NUMBER = re.compile(r"\d+")
_WHOLE = re.compile(r"-?[0-9]{1,20}")


def read_texts(root: Path, paths: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of files, and the reasons why others have none.

    Args:
        root: the folder that the paths are below.
        paths: relative ones.

    Returns:
        text without its end by path, and the kernel's reason by path for what is there but cannot
        be read; a file that is not there is in neither.
    """
    texts: dict[str, str] = {}
    refused: dict[str, str] = {}
    base = os.fspath(root)
    for path in paths:
        try:
            texts[path] = read_text(os.path.join(base, path))  # noqa: PTH118 - thousands of files
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as error:
            refused[path] = os_reason(error)
    return texts, refused


def read_text(path: str | Path) -> str:
    """A file's text without its end; of a pipe that nobody writes to, nothing.

    Raises:
        OSError: it cannot be read.
    """
    # Without a file object, which costs more than the kernel takes for one number.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(descriptor, _CHUNK_BYTES)
        while len(data) < _MOST_BYTES and (more := os.read(descriptor, _CHUNK_BYTES)):
            data += more
    finally:
        os.close(descriptor)
    return data.decode(errors="replace").replace("\0", " ").strip()


def whole_number(text: str) -> int | None:
    """A whole number of at most 64 bits, as the kernel writes one; None for anything else."""
    return int(text) if _WHOLE.fullmatch(text) else None


def matching(root: Path, pattern: str) -> list[str]:
    """The relative paths below ``root`` that a glob pattern names, by the numbers in them."""
    try:
        found = [str(path.relative_to(root)) for path in root.glob(pattern)]
    except OSError:
        return []
    return sorted(found, key=_by_numbers)


def _by_numbers(path: str) -> tuple[str, tuple[int, ...]]:
    return _NUMBER.sub("", path), tuple(int(number) for number in _NUMBER.findall(path))


def fields(text: str, separator: str = ":") -> Mapping[str, str]:
    """The lines ``name: value`` of a file; names and values without blanks around them."""
    pairs = (line.partition(separator) for line in text.splitlines())
    return {name.strip(): value.strip() for name, found, value in pairs if found}
