"""Finds shared objects to preload, where distributions and Python packages put them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from corral.settings import Allocator

#: file names by what they are for, the best first
NAMES = {
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"),
    "jemalloc": ("libjemalloc.so.2",),
    "openmp": ("libiomp5.so",),
}

#: glob patterns of folders; Debian keeps a folder for each architecture
_SYSTEM_FOLDERS = (
    "/usr/local/lib",
    "/usr/lib/*-linux-gnu",
    "/lib/*-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
)


def library_folders(prefix: Path | None = None, root: Path = Path("/")) -> list[Path]:
    """Folders to look into: the Python environment's first, then the system's.

    Args:
        prefix: the Python environment; this interpreter's if None.
        root: what the system's folders lie below.
    """
    folders = [(sys.prefix if prefix is None else prefix) / Path("lib")]
    for pattern in _SYSTEM_FOLDERS:
        folders.extend(sorted(root.glob(pattern.lstrip("/"))))
    return [folder for folder in folders if folder.is_dir()]


def find_library(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """The first of the names that is a file in one of the folders, better names first."""
    places = list(folders)
    for name in names:
        for folder in places:
            if (folder / name).is_file():
                return folder / name
    return None


def find_libraries(allocator: Allocator, *, openmp: bool = False) -> dict[str, Path | None]:
    """The libraries that ``environment.allocator_environment`` takes; None for what is missing.

    Args:
        allocator: the choice.
        openmp: whether to look for libiomp5 too.
    """
    wanted = [] if allocator is Allocator.SYSTEM else [allocator.value]
    folders = library_folders()
    return {
        name: find_library(NAMES[name], folders)
        for name in [*wanted, *(["openmp"] if openmp else [])]
    }
