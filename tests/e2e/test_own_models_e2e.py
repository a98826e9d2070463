"""Models of a stranger's own, by path: pictures in, labels out, in FP32 and INT8; and bad ones."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from PIL import Image
from support.running_server import StartServer

from corral.backends.onnxruntime.build import with_pixels
from corral.backends.telemetry import silence_telemetry
from corral_client import Client

#: torch's exporter wrote it: tests/support/write_colours.py
DATA = Path(__file__).parents[1] / "data" / "models"
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def _picture(colour: tuple[int, int, int]) -> bytes:
    """A JPEG of mostly one colour."""
    noise = np.random.default_rng(3).integers(-40, 40, (48, 64, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


_PICTURES = {
    "red": _picture((190, 90, 80)),
    "green": _picture((90, 190, 80)),
    "blue": _picture((90, 90, 190)),
}


def _place(form: str, folder: Path) -> Path:
    """The colours' model in a folder of its own, with its notes: as ONNX, of pixels, or as IR."""
    for name in ("colours.onnx", "colours.toml", "colours.txt"):
        shutil.copy(DATA / name, folder / name)
    onnx = folder / "colours.onnx"
    if form == "pixels":
        onnx.write_bytes(with_pixels(str(onnx), _MEAN, _STD))
    if form != "ir":
        return onnx
    silence_telemetry()
    import openvino as ov

    ov.save_model(ov.Core().read_model(onnx), folder / "colours.xml", compress_to_fp16=False)
    onnx.unlink()
    return folder / "colours.xml"


@pytest.mark.parametrize(
    ("form", "backend", "precision"),
    [
        ("onnx", "openvino", "fp32"),
        ("ir", "openvino", "int8"),
        ("onnx", "onnxruntime", "int8"),
        ("pixels", "openvino", "int8"),
    ],
)
def test_a_picture_in_and_a_label_out(
    real_server: StartServer, tmp_path: Path, form: str, backend: str, precision: str
) -> None:
    path = _place(form, tmp_path)
    options = ["--model", str(path), "--backend", backend, "--precision", precision]
    # Many photographs have nearly as much of one colour as of another.
    options += ["--accuracy-loss", "30%"]
    with real_server(*options, "--workers", "1", "--max-batch", "2", ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        with Client(f"127.0.0.1:{server.port}", model="colours") as client:
            for colour, picture in _PICTURES.items():
                assert client.classify(picture, k=1)[0].label == colour
            properties = client.metadata("colours").properties
    assert (properties["backend"], properties["precision"]) == (backend, precision)
    assert properties.get("guard", "passed") == "passed"


def _unknown_operator(folder: Path) -> Path:
    """An ONNX file with a good header, whose one operator nobody has."""
    source, target = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")
    )
    node = helper.make_node("Frobnicate", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [source], [target])
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "odd.onnx")
    return folder / "odd.onnx"


def _cut_weights(folder: Path) -> Path:
    """An IR whose weights are cut off."""
    path = _place("ir", folder)
    path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes()[:40])
    return path


def _broken_layer(folder: Path) -> Path:
    """An IR with a layer of no known type."""
    path = _place("ir", folder)
    path.write_text(path.read_text().replace('type="ReLU"', 'type="Frobnicate"'))
    return path


@pytest.mark.parametrize(
    ("make", "backend", "cause"),
    [
        (_unknown_operator, "openvino", "Frobnicate"),
        (_unknown_operator, "onnxruntime", "Frobnicate"),
        (_broken_layer, "openvino", "Frobnicate"),
        (_cut_weights, "openvino", "(?i)weights|size|bin"),
    ],
)
def test_a_bad_body_behind_a_good_header_is_one_line_with_file_and_cause(
    tmp_path: Path, make: Callable[[Path], Path], backend: str, cause: str
) -> None:
    path = make(tmp_path)
    command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
    options = ["--backend", backend, "--precision", "fp32", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, *options, "--model", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    # What comes before it tells the steps of the preparation.
    *_, line = done.stderr.strip().splitlines()
    subject, found, reason = line.partition(f"--model {path}")
    assert subject.startswith("corral: ")
    assert found
    # Weights are looked at before anything is prepared.
    assert reason.startswith(": its weights" if make is _cut_weights else " cannot be prepared: ")
    assert re.search(cause, reason)
    assert "Exception from" not in reason
