"""Sends a JPEG or PNG with Triton's own client: ``ask.py HOST:PORT MODEL_image PICTURE``."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import numpy as np
    import tritonclient.grpc as triton
except ModuleNotFoundError as missing:
    sys.exit(
        f"ask.py: {missing.name} is not installed: "
        f"{sys.executable} -m pip install 'tritonclient[grpc]'"
    )


def main(url: str, model: str, picture: str) -> None:
    """Prints the three most likely classes, one ``score:index:label`` a line."""
    tensor = triton.InferInput("input", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([Path(picture).read_bytes()], dtype=object))
    wanted = triton.InferRequestedOutput("output", class_count=3)
    with triton.InferenceServerClient(url) as client:
        answer = client.infer(model, [tensor], outputs=[wanted]).as_numpy("output")
    for line in answer.reshape(-1):
        print(line.decode())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT MODEL_image PICTURE")
    main(*sys.argv[1:])
