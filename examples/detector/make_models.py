"""Writes ssd.onnx and yolo.onnx, with their TOML files: detectors whose weights know nothing.

Their architecture is the real one, so that what they cost is real, too.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

try:
    import torch
    from parts import seed_weights
    from ssd import SSDLite
    from torch import nn
    from yolo import Yolo
except ModuleNotFoundError as missing:
    sys.exit(
        f"make_models.py: {missing.name} is not installed; in the repository's folder: "
        f"{sys.executable} -m pip install --constraint requirements.lock -e '.[torch,onnxruntime]'"
    )

_OUTPUTS = ("boxes", "scores", "labels")
_SSD_NOTES = """\
# Pixels are scaled to -1 … 1, the picture is stretched to the input's size.
[preprocessing]
resize_mode = "stretch"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
"""
_YOLO_NOTES = """\
# Pixels are scaled to 0 … 1; the picture keeps its shape, with grey beside it.
[preprocessing]
resize_mode = "letterbox"
pad = [114, 114, 114]
std = [255, 255, 255]
"""


def export(network: nn.Module, file: Path, side: int, outputs: tuple[str, ...]) -> None:
    """Writes an ONNX file whose batch is dynamic."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, side, side),),
            str(file),
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "n"} for name in ("images", *outputs)},
            opset_version=17,
            dynamo=False,
        )


def main() -> None:
    """Writes both into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--side", type=int, default=320, help="of the pictures; 640 is usual")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--raw", action="store_true", help="YOLO as ultralytics exports it")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    yolo_outputs = ("output0",) if options.raw else _OUTPUTS
    for name, network, outputs, notes in (
        ("ssd", SSDLite(options.side), _OUTPUTS, _SSD_NOTES),
        ("yolo", Yolo(options.side, raw=options.raw), yolo_outputs, _YOLO_NOTES),
    ):
        seed_weights(network, options.side, options.seed)
        file = options.out / f"{name}.onnx"
        export(network, file, options.side, outputs)
        file.with_suffix(".toml").write_text(notes)
        print(file)


if __name__ == "__main__":
    main()
