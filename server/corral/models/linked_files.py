"""An ONNX model's weights as plain files: readers refuse them behind links, symbolic and hard.

A hub's cache is full of them: every file of a snapshot is a link into a folder of contents named
by their hashes, where nothing lies beside anything by its name. Package managers and backups make
hard links, with which a reader takes a model for an attack. The user has named this model.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def as_plain(file: Path, beside: Sequence[Path], room: Path) -> Iterator[Path]:
    """The model file with plain files beside it: itself, or a copy that ends with the context.

    Args:
        file: the model.
        beside: the files of its weights, in its folder or below it.
        room: a folder to copy into.

    Raises:
        OSError: a file cannot be read, or the room not written to.
    """
    if all(_is_plain(path, file.parent) for path in beside):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="plain-", dir=room) as folder:
        for path in (file, *beside):
            place = Path(folder) / path.relative_to(file.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        yield Path(folder) / file.name


def _is_plain(path: Path, home: Path) -> bool:
    # The folder may be reached through links: only what lies in it counts.
    real = path.resolve(strict=True)
    return real == home.resolve() / path.relative_to(home) and real.stat().st_nlink == 1
