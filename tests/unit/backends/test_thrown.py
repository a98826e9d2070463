"""What engines throw, in one line with a way out."""

from __future__ import annotations

import pytest

from corral.backends.thrown import explain, refusal
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


def test_a_shape_that_somebody_gave_and_the_graph_has_not_is_told_so() -> None:
    said = (
        "Error in execution: Got invalid dimensions for output: y for the following indices\n"
        " index: 1 Got: 9 Expected: 3\n Please fix either the inputs/outputs or the model."
    )
    assert explain(RuntimeError(said), BackendName.ONNXRUNTIME) == (
        "dimension 1 of output y is 3 in the graph, not 9: correct --shape, or [shapes] in the "
        "TOML file beside the model"
    )
    said = (
        "The output OrtValue provided for output 'y' of node '' (Neg) has shape {1,9} but the "
        "computed output shape for this run is {1,3}. When calling Run()"
    )
    line = explain(RuntimeError(said), BackendName.ONNXRUNTIME, {"y": ["n", None]})
    assert line.startswith("the graph answers y [1, 3] here, not [1, 9]: correct --shape, or ")


def test_an_answer_whose_rows_are_not_the_items_is_told_so() -> None:
    said = (
        "The output OrtValue provided for output 'y' of node '' (Reshape) has shape {1,2} but the "
        "computed output shape for this run is {2,2}. When calling Run()"
    )
    line = explain(RuntimeError(said), BackendName.ONNXRUNTIME, {"y": [None, 2]})
    assert line.startswith("the graph answers y [2, 2], not [1, 2]: the first dimension of an ")
    said = (
        "Error in execution: Got invalid dimensions for output: y for the following indices\n"
        " index: 0 Got: 1 Expected: 4\n Please fix either the inputs/outputs or the model."
    )
    line = explain(RuntimeError(said), BackendName.ONNXRUNTIME)
    assert line.startswith("the graph answers y with 4 rows for 1 of a batch: the first dimension")


def test_paddle_s_missing_weights_have_a_way_out() -> None:
    said = "PaddlePaddle *.pdiparams format weight file doesn't exist!"
    assert explain(RuntimeError(said), BackendName.OPENVINO) == (
        "PaddlePaddle *.pdiparams format weight file doesn't exist: its .pdiparams is missing or "
        "empty; copy both files into one folder"
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


_RUNNING = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running {} node. "


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            _RUNNING.format("Gather") + "Name:'g' Status Message: indices element out of data "
            "bounds, idx=100 must be within the inclusive range [-10,9]",
            ("Gather: indices element out of data bounds, idx=100 must be within the inclusive "
            "range [-10,9]"),
        ),
        (
            _RUNNING.format("Div") + "Name:'' Status Message: element_wise_ops.cc:692 Compute "
            "Integer division by zero",
            "Div: Integer division by zero",
        ),
        (
            _RUNNING.format("Reshape") + "Name:'' Status Message: /onnxruntime_src/core/"
            "reshape_helper.h:27 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::"
            "TensorShape&, bool) requested_shape[i] >= -1 was false. A dimension cannot be less "
            "than -1, got -7",
            "Reshape: A dimension cannot be less than -1, got -7",
        ),
        (
            _RUNNING.format("GatherElements") + "Name:'' Status Message: /onnxruntime_src/"
            "gather_elements.cc:150 void onnxruntime::core_impl(const Tensor*, "
            "concurrency::ThreadPool*) [with Tin = long int; int64_t = long int] "
            "GatherElements op: Out of range value in index tensor",
            "GatherElements: GatherElements op: Out of range value in index tensor",
        ),
        (
            ("Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
            "Exception from src/plugins/intel_cpu/src/graph.cpp:1628:\n"
            "Node y of type GatherElements\nCheck 'index < axisDimSize' failed at "
            "src/plugins/intel_cpu/src/nodes/gather_elements.cpp:116:\n"
            "indices values of GatherElement exceed data size\n\n\n"),
            "GatherElements: indices values of GatherElement exceed data size",
        ),
        (
            ("Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
            "[CPU] OneHot node with name 'o' Check 'depth >= 0' failed at src/one_hot.cpp:33:\n"
            "OneHot depth value can't be negative.\n"),
            "OneHot: OneHot depth value can't be negative",
        ),
        (
            _RUNNING.format("X") + "Name:'' Status Message: cannot open /home/a/b",
            "X: not these values",
        ),
        # Nothing of these is the values' fault.
        (_RUNNING.format("Conv") + "Name:'' Status Message: Failed to allocate memory", ""),
        (_RUNNING.format("Neg") + "Name:'' Status Message: op_kernel.cc:87 OutputMLValue() The "
         "output OrtValue provided for output 'y' of node '' (Neg) has shape {1,5} but the "
         "computed output shape for this run is {1,4}.", ""),
        ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization", ""),
        ("vector::reserve", ""),
    ],
)  # fmt: skip
def test_values_that_an_engine_refuses_are_told_to_the_client(said: str, told: str) -> None:
    assert refusal(RuntimeError(said)) == told
