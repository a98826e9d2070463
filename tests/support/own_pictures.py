"""Pictures on disk as a user's own."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from PIL import Image


def draw_picture(path: Path, grey: int | None = None) -> Path:
    """Writes a PNG of one colour, 10 x 10, which its path decides where no grey is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = zlib.crc32(os.fsencode(path)).to_bytes(4, "big")
    colour = (own[0], own[1], own[2]) if grey is None else (grey, grey, grey)
    with path.open("wb") as stream:
        Image.new("RGB", (10, 10), colour).save(stream, "PNG")
    return path
