"""Whether a user's model file is in INT8 already: it serves as it is, for nothing is left to do.

What a quantizer has left in a file is seen by its operators. Quantizing once more would round
twice, or make what no engine takes.
"""

from __future__ import annotations

import functools
import os
import xml.etree.ElementTree as ET
from pathlib import Path

from corral.errors import ModelError
from corral.models import onnx_header
from corral.models.files import kind_of

#: of ONNX and of ONNX Runtime; those that begin with a prefix below count, too
_OPERATORS = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("DynamicQuantizeLSTM", "QGemm", "QAttention", "QEmbedLayerNormalization", "MatMulNBits"),
}
_PREFIXES = ("QLinear", "QOrdered")
#: of OpenVINO's IR
_LAYERS = {"FakeQuantize", "FakeConvert"}


def is_quantized(path: Path) -> bool:
    """Whether a model file, ONNX or OpenVINO IR, was quantized by whoever made it; others are not.

    Raises:
        ModelError: it cannot be read.
    """
    if kind_of(path) not in {".onnx", ".xml"}:
        return False
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None
    return _is_quantized(os.fspath(path), (found.st_ino, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=8)
def _is_quantized(path: str, identity: tuple[int, ...]) -> bool:
    """The file is read once; ``identity`` tells it from one that took its place."""
    if path.endswith(".xml"):
        return not _LAYERS.isdisjoint(_layers(path))
    return any(
        name in _OPERATORS or name.startswith(_PREFIXES)
        for name in onnx_header.read_operators(Path(path))
    )


def _layers(path: str) -> set[str]:
    # Read before, and found to be an IR without a DOCTYPE.
    root = ET.parse(path).getroot()  # noqa: S314
    return {layer.get("type", "") for layer in root.iter("layer")}
