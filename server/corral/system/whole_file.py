"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_whole(file: Path, data: bytes) -> None:
    """Puts a file in place by renaming, so that a reader sees the old one or the new one.

    Raises:
        OSError: it cannot be written there.
    """
    fd, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    draft = Path(name)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
        # Other users may read what one has made; a file system without modes decides itself.
        with contextlib.suppress(OSError):
            draft.chmod(0o644)
        draft.rename(file)
    # Whatever ends it, a half-written draft does not stay.
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
