"""Asks a detector for a picture's boxes: ``python ask.py HOST:PORT MODEL PICTURE``."""

from __future__ import annotations

import sys
from pathlib import Path

from corral_client import Client


def main() -> None:
    """Prints the five best boxes."""
    url, model, picture = sys.argv[1:]
    with Client(url, model=f"{model}_image") as client:
        found = client.infer_all(Path(picture).read_bytes())
    boxes, scores, labels = (found[name][0] for name in ("boxes", "scores", "labels"))
    for box, score, label in list(zip(boxes, scores, labels, strict=True))[:5]:
        corners = " ".join(f"{value:7.1f}" for value in box)
        print(f"{score:6.3f}  label {label:3d}  {corners}")


if __name__ == "__main__":
    main()
