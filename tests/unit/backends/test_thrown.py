"""What engines throw, in one line with a way out."""

from __future__ import annotations

import pytest

from corral.backends.thrown import explain
from corral.settings import BackendName

_FAILED = "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from a b.onnx failed:"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (BackendName.OPENVINO, "No conversion rule found for operations: my.domain.Fancy"),
        (BackendName.ONNXRUNTIME, f"{_FAILED}Error No Op registered for Fancy with domain 17"),
        (
            BackendName.ONNXRUNTIME,
            (
                "[ONNXRuntimeError] : 1 : FAIL : Load model from a.onnx failed:Fatal error: "
                "my.domain:Fancy(-1) is not a registered function/op"
            ),
        ),
    ],
)
def test_an_operator_that_an_engine_lacks_has_a_way_out(name: BackendName, said: str) -> None:
    line = explain(RuntimeError(said), name)
    assert "Fancy" in line
    assert line.endswith(": export the model without that operator, or try another --backend")
    assert "ONNXRuntimeError" not in line
    assert ".onnx" not in line


def test_a_shape_that_hangs_on_the_values_is_told_so() -> None:
    said = (
        "Error in execution: Non-zero status code returned while running NonMaxSuppression node. "
        "Name:'' Status Message: op_kernel.cc:87 OutputMLValue(int, const TensorShape&) "
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : The output OrtValue provided for output 'out' "
        "of node '' (NonMaxSuppression) has shape {1,3} but the computed output shape for this run "
        "is {0,3}. When calling Run() with pre-allocated output OrtValues"
    )
    assert explain(RuntimeError(said), BackendName.ONNXRUNTIME) == (
        "output out has another shape for other values ([1, 3], [0, 3]): only shapes that stay are "
        "served, so let the model pad it to a fixed one"
    )


def test_a_shape_that_the_file_says_otherwise_is_told_so() -> None:
    said = (
        "The output OrtValue provided for output 'y' of node '' (Neg) has shape {1,5} but the "
        "computed output shape for this run is {1,4}. When calling Run()"
    )
    line = explain(RuntimeError(said), BackendName.ONNXRUNTIME, {"y": ["n", 5]})
    assert line.startswith("the graph answers y [1, 4], not [1, 5] as the file says: ")
    assert "for other values" in explain(
        RuntimeError(said), BackendName.ONNXRUNTIME, {"y": ["n", "boxes"]}
    )


def test_a_file_of_a_newer_version_has_a_way_out_and_no_place_in_the_source() -> None:
    said = (
        "[ONNXRuntimeError] : 1 : FAIL : Load model from a.onnx failed:/onnxruntime_src/core/"
        "graph/model.cc:256 Model::Model(ModelProto&&, const std::function<void(int)>&) "
        "Unsupported model IR version: 99, max supported IR version: 13"
    )
    assert explain(RuntimeError(said), BackendName.ONNXRUNTIME) == (
        "Unsupported model IR version: 99, max supported IR version: 13: export it for an older "
        "version, or try another --backend"
    )


def test_anything_else_stays_as_it_was_said() -> None:
    assert explain(RuntimeError("no memory\nat 3"), BackendName.OPENVINO) == "no memory"
