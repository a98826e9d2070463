"""Caches on a disk that is full, read-only or well. Run as a program: ``full_disk.py FOLDER``.

Stores an artefact of 256 KiB and a cost curve below the folder, and says in two lines how that
went; then the same once more with the disk's other contents, ``FOLDER/ballast``, gone.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

from corral.artifacts import store as artefact
from corral.artifacts.curve_cache import load_curve, save_curve
from corral.artifacts.order import Order
from corral.batching.cost_curve import CostCurve
from corral.errors import ModelError
from corral.tensors import Datatype

_ORDER = Order(
    model="m", precision="fp32", synthetic=True, weights="none", ingredients={"made": "up"}
)
_CURVE = CostCurve({(Datatype.FP32, 1): 0.1})
_OF = {"made": "up"}


def _write(xml: Path) -> None:
    xml.write_text("<net/>")
    xml.with_suffix(".bin").write_bytes(bytes(256 * 1024))


def store_artefact(folder: Path) -> str:
    """Stores it; "stored", or how that failed."""
    try:
        with artefact.exclusive(folder, _ORDER, lambda: None):
            artefact.store(folder, _ORDER, _write)
    except ModelError as error:
        return f"refused: {error}"
    return "stored" if artefact.find(folder, _ORDER) else "lost"


def cache_curve(folder: Path) -> str:
    """Caches it; "cached" or "not cached"."""
    save_curve(folder / "curves", _OF, _CURVE)
    return "cached" if load_curve(folder / "curves", _OF) else "not cached"


def main() -> None:
    """Prints four lines."""
    folder = Path(sys.argv[1])
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s")
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    print(store_artefact(folder))
    print(cache_curve(folder))
    with contextlib.suppress(OSError):
        ballast.unlink()
    print(store_artefact(folder))
    print(cache_curve(folder))
    left = [path.name for path in folder.rglob(".*") if path.suffix != ".lock"]
    print("left behind:", left)


if __name__ == "__main__":
    main()
