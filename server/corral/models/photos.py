"""Photographs that ship with corral: some to calibrate on, others to guard a precision with.

They are in the public domain or freely licensed (photographs/SOURCES.md). The two sets of 40 share
none, and no test classifies any of them. Each becomes several pictures: crops of different sizes
and places, some mirrored.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from importlib import resources

import numpy as np
from numpy.typing import NDArray

#: raise it whenever ``crops`` cuts other pictures out of the same photographs
FORMAT = 1
#: what photographs are there for
CALIBRATION = "calibration"
GUARD = "guard"

#: a crop's side as a share of the photograph's shorter side
_SHARES = {CALIBRATION: (0.35, 1.0), GUARD: (0.6, 1.0)}
_SEEDS = {CALIBRATION: 20_150_512, GUARD: 19_061_209}


def crops(purpose: str, count: int, size: int) -> NDArray[np.uint8]:
    """Pictures cut out of the photographs of one purpose, UINT8 [count,size,size,3].

    The same count and size give the same pictures, and a larger count begins with them.

    Args:
        purpose: CALIBRATION or GUARD.
        count: how many; the photographs take turns.
        size: their side in pixels.
    """
    from PIL import Image

    photos = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in files(purpose)]
    pictures = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        random = np.random.default_rng([_SEEDS[purpose], index])
        photo = photos[index % len(photos)]
        side = min(photo.size) * random.uniform(*_SHARES[purpose])
        left = random.uniform(0, photo.width - side)
        top = random.uniform(0, photo.height - side)
        box = (left, top, left + side, top + side)
        crop = photo.resize((size, size), Image.Resampling.BICUBIC, box)
        if random.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pictures[index] = np.asarray(crop)
    return pictures


def digest() -> str:
    """SHA-256, in hex, of all photographs of both purposes."""
    whole = hashlib.sha256()
    for purpose in (CALIBRATION, GUARD):
        for name, content in files(purpose):
            whole.update(f"{purpose}/{name}\0{len(content)}\0".encode())
            whole.update(content)
    return whole.hexdigest()


def files(purpose: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the photographs of one purpose, by name."""
    folder = resources.files("corral.models") / "photographs" / purpose
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".jpg"):
            yield entry.name, entry.read_bytes()
