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


def test_anything_else_stays_as_it_was_said() -> None:
    assert explain(RuntimeError("no memory\nat 3"), BackendName.OPENVINO) == "no memory"
