"""Asks a detector for a picture's boxes: ``python ask.py HOST:PORT MODEL PICTURE``."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    from corral_client import Client
except ModuleNotFoundError as missing:
    sys.exit(
        f"ask.py: {missing.name} is not installed; in the repository's folder: "
        f"{sys.executable} -m pip install --constraint requirements.lock -e ."
    )


def main() -> None:
    """Prints the five best boxes."""
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT MODEL PICTURE")
    url, model, picture = sys.argv[1:]
    with Client(url, model=f"{model}_image") as client:
        found = client.infer_all(Path(picture).read_bytes())
    boxes, scores, labels = (found[name][0] for name in ("boxes", "scores", "labels"))
    for box, score, label in list(zip(boxes, scores, labels, strict=True))[:5]:
        corners = " ".join(f"{value:7.1f}" for value in box)
        print(f"{score:6.3f}  label {label:3d}  {corners}")


if __name__ == "__main__":
    main()
