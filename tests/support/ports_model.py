"""Strangers' models of several inputs and outputs, as ONNX files: every datatype, and a pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: the datatypes of ``write_every_datatype`` by the protocol's names, and numpy's
EVERY = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_OPSET = 17


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: list) -> None:  # type: ignore[type-arg]
    from onnx import helper, save

    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opset = [helper.make_opsetid("", _OPSET)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def write_every_datatype(path: Path, *, bf16: bool = False) -> None:
    """For each datatype X an input ``in_X`` [n,3], and an output ``out_X`` [n,6]: it twice."""
    from onnx import TensorProto, helper

    kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for name, kind in EVERY.items()}
    if bf16:
        kinds["BF16"] = TensorProto.BFLOAT16
    _save(
        path,
        [helper.make_node("Concat", [f"in_{k}"] * 2, [f"out_{k}"], axis=1) for k in kinds],
        [helper.make_tensor_value_info(f"in_{k}", t, ["n", 3]) for k, t in kinds.items()],
        [helper.make_tensor_value_info(f"out_{k}", t, ["n", 6]) for k, t in kinds.items()],
        [],
    )


def write_pair(path: Path, seed: int = 1) -> NDArray[np.float32]:
    """``ids`` INT64 [n,4] and ``scale`` FP32 [n,1] to ``best`` INT64 [n] and ``scores`` FP32 [n,5].

    Scores are the sum of the ids' rows of a matrix, times scale.

    Returns:
        the matrix, FP32 [10,5].
    """
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.random.default_rng(seed).normal(size=(10, 5)).astype(np.float32)
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    _save(
        path,
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "axes"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["sum", "scale"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=1),
        ],
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 4]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("best", TensorProto.INT64, ["n", 1]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5]),
        ],
        [numpy_helper.from_array(matrix, "table"), axes],
    )
    return matrix
