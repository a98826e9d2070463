"""A stranger's smallest model: one matrix product, from [n,5] to [n,3], as an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_matrix_model(path: Path, seed: int = 1) -> NDArray[np.float32]:
    """Writes it; returns the matrix, FP32 [5,3], which the seed decides on."""
    from onnx import TensorProto, helper, numpy_helper, save

    matrix = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["scores"])],
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(matrix, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return matrix
