"""Outputs that are an input as it came: engines take both for one tensor, and wrote neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import parser, save
from support.loaded_engine import load

from corral.backends.openvino import read
from corral.backends.openvino.passed_through import tell_apart
from corral.settings import BackendName, Precision
from corral.worker.warmup import compile_batch

#: graphs of ``x``, FP32 [n,4], and which of their outputs are ``x``; the others are its negative
_GRAPHS = {
    "alone": ("(float[n,4] x) => (float[n,4] x) {}", [1]),
    "beside": ("(float[n,4] x) => (float[n,4] x, float[n,4] y) { y = Neg(x) }", [1, -1]),
    "dropout": ("(float[n,4] x) => (float[n,4] y) { y = Dropout(x) }", [1]),
    "twice": (
        "(float[n,4] x) => (float[n,4] y, float[n,4] z) { y = Dropout(x) z = Max(x) }",
        [1, 1],
    ),
    "both": (
        "(float[n,4] x) => (float[n,4] y, float[n,4] z) { y = Dropout(x) z = Neg(x) }",
        [1, -1],
    ),
}


@pytest.mark.parametrize("backend", [BackendName.OPENVINO, BackendName.ONNXRUNTIME])
@pytest.mark.parametrize("graph", _GRAPHS)
def test_what_is_passed_through_is_answered(
    tmp_path: Path, backend: BackendName, graph: str
) -> None:
    text, signs = _GRAPHS[graph]
    file = tmp_path / "m.onnx"
    save(parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> g {text}'), file)
    loaded = load(str(file), backend, tmp_path, [1, 2], Precision.AUTO)
    engine, region, signature = loaded.engine, loaded.region, loaded.signature
    compile_batch(engine, region, signature.native, 2)
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    region.all_inputs(signature.native, 2)[0][:] = x
    engine.run(signature.native, 2)
    for answer, sign in zip(region.all_outputs(2), signs, strict=True):
        np.testing.assert_array_equal(answer, sign * x)


def test_an_identifier_of_64_bits_keeps_them(tmp_path: Path) -> None:
    """OpenVINO computes in 32; the first of these came back as -1."""
    graph = "(float[n] x, int64[n] id) => (float[n] y, int64[n] same) { y = Neg(x) same = Max(id) }"
    file = tmp_path / "m.onnx"
    save(parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> g {graph}'), file)
    loaded = load(str(file), BackendName.OPENVINO, tmp_path, [1, 2])
    compile_batch(loaded.engine, loaded.region, loaded.signature.native, 2)
    identifiers = [2**62 - 1, -(2**40)]
    loaded.region.all_inputs(loaded.signature.native, 2)[1][:] = identifiers
    loaded.engine.run(loaded.signature.native, 2)
    assert loaded.region.all_outputs(2)[1].tolist() == identifiers


def test_a_tensor_that_is_returned_twice_has_two_names() -> None:
    """As TorchScript may: what names one output names the other, too."""
    import openvino as ov
    from openvino import opset16

    given = opset16.parameter([-1, 4], np.float32, "a")
    twice = opset16.relu(given)
    model = ov.Model([twice, given, twice], [given], "m")
    tell_apart(model)
    read._name(model, kept=False)
    names = [output.any_name for output in model.outputs]
    assert len(set(names)) == 3
    x = np.array([[-1, 2, -3, 4]], np.float32)
    compiled = ov.compile_model(model, "CPU")
    answers = [compiled(x)[index] for index in range(3)]
    for answer, wanted in zip(answers, (np.maximum(x, 0), x, np.maximum(x, 0)), strict=True):
        np.testing.assert_array_equal(answer, wanted)
