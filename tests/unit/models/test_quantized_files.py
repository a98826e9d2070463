"""Files that are in INT8 already are known by their operators."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import NodeProto, TensorProto, helper, save

from corral.models import custom
from corral.models.quantized_files import is_quantized

FLOAT = TensorProto.FLOAT


def _write(path: Path, nodes: list[NodeProto]) -> Path:
    ports = [helper.make_tensor_value_info(name, FLOAT, ["n", 4]) for name in ("x", "y")]
    save(helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:])), path)
    return path


@pytest.mark.parametrize(
    "operator",
    [
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "QLinearAdd",
        "ConvInteger",
        "MatMulInteger",
        "QGemm",
        "QAttention",
    ],
)
def test_a_quantizers_operator_says_so(tmp_path: Path, operator: str) -> None:
    path = _write(tmp_path / "m.onnx", [helper.make_node(operator, ["x"], ["y"])])
    assert custom.read(path).quantized


def test_it_is_found_in_a_graph_inside_a_node(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("QLinearMatMul", ["x"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", FLOAT, ["n", 4])],
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    assert is_quantized(_write(tmp_path / "m.onnx", [node]))


@pytest.mark.parametrize("operator", ["Identity", "Quantile", "MatMul"])
def test_others_do_not(tmp_path: Path, operator: str) -> None:
    path = _write(tmp_path / "m.onnx", [helper.make_node(operator, ["x"], ["y"])])
    assert not custom.read(path).quantized


def test_a_file_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])])
    assert not is_quantized(path)
    _write(tmp_path / "n.onnx", [helper.make_node("QGemm", ["x"], ["y"])]).rename(path)
    assert is_quantized(path)


@pytest.mark.parametrize(("layer", "quantized"), [("FakeQuantize", True), ("ReLU", False)])
def test_an_ir_is_known_by_its_layers(tmp_path: Path, layer: str, quantized: bool) -> None:
    path = tmp_path / "m.xml"
    path.write_text(f'<net><layers><layer id="0" type="{layer}"/></layers></net>')
    assert is_quantized(path) is quantized
