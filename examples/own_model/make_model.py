"""Writes colours.onnx: FP32 [n,3,64,64] pixels in, FP32 [n,3] logits out, red, green and blue."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    from onnx import TensorProto, helper, save
except ModuleNotFoundError as missing:
    sys.exit(
        f"make_model.py: {missing.name} is not installed; in the repository's folder: "
        f"{sys.executable} -m pip install --constraint requirements.lock -e '.[onnxruntime]'"
    )


def write(path: Path) -> None:
    """Writes the model: the mean of each channel, ten times, is that colour's logit."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Mul", ["flat", "ten"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor("ten", TensorProto.FLOAT, [1], [10.0])],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    write(folder / "colours.onnx")
