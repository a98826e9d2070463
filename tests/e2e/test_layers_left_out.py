"""Layers of a quantized model that go back to FP32, and a search that finds which."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.accuracy import Thresholds
from corral.backends import calibration
from corral.backends.calibration import Calibration
from corral.backends.job import BuildJob
from corral.backends.onnxruntime import layers as onnx_layers
from corral.backends.onnxruntime import quantize as onnx_quantize
from corral.backends.onnxruntime.sessions import open_as_is
from corral.backends.openvino import layers, quantize
from corral.backends.openvino.hints import inference_precision, is_marked_bf16
from corral.backends.torch import build as torch_build
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.settings import BackendName, Precision

_RECIPE = Recipe(resize=36, crop=32, mean=(127.0,) * 3, std=(64.0,) * 3)


def _network(*, spoiled: bool) -> Any:
    """Two convolutions, a sum of both and a classifier; channels of 1 and 10,000 where spoiled."""
    import openvino as ov

    op = ov.opset13
    random = np.random.default_rng(3)

    def weights(*shape: int) -> Any:
        return op.constant((random.normal(size=shape) / np.sqrt(shape[1] * 9)).astype("f4"))

    picture = op.parameter([-1, 3, 32, 32], np.float32, name="input")
    pads: tuple[list[int], ...] = ([1, 1], [1, 1], [1, 1], [1, 1])
    hidden = op.convolution(picture, weights(8, 3, 3, 3), *pads)
    hidden = op.relu(op.add(hidden, op.constant(random.normal(size=(1, 8, 1, 1)).astype("f4"))))
    if spoiled:
        scales = np.where(np.arange(8) == 0, 1e4, 1.0).astype(np.float32).reshape(1, 8, 1, 1)
        hidden = op.multiply(hidden, op.constant(scales))
        kernel = weights(8, 8, 3, 3).data / scales
        second = op.convolution(hidden, op.constant(kernel.astype("f4")), *pads)
    else:
        second = op.convolution(hidden, weights(8, 8, 3, 3), *pads)
    second = op.add(second, op.constant(random.normal(size=(1, 8, 1, 1)).astype("f4")))
    pooled = op.reduce_mean(op.relu(second), op.constant([2, 3]), keep_dims=False)
    scores = op.matmul(pooled, op.constant(random.normal(size=(12, 8)).astype("f4")), False, True)
    return ov.Model([op.multiply(scores, op.constant(np.float32(4)))], [picture], "net")


def _job(source: str, narrow: bool, thresholds: Thresholds, *, bf16: bool = False) -> BuildJob:
    weights = Weights(source=source, description="", path=None, digest="1")
    spec = ModelSpec(
        name="net", recipe=_RECIPE, classes=12, find_weights=lambda *_: weights,
        build=lambda _: None,
    )  # fmt: skip
    return BuildJob(
        backend=BackendName.OPENVINO, spec=spec, weights=weights, precision=Precision.INT8,
        narrow_sums=narrow, left_out_in_bf16=bf16, thresholds=thresholds, calibration=None,
        at=lambda step, share=0.0: None, remark=lambda phrase: None, fp32=Path,
        file=Path("model.xml"),
    )  # fmt: skip


def _answers(model: Any) -> NDArray[np.float32]:
    import openvino as ov

    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = np.random.default_rng(5).normal(size=(4, 3, 32, 32)).astype(np.float32)
    return np.asarray(compiled(inputs)[0])


@dataclasses.dataclass(frozen=True)
class _Pair:
    exact: Any
    whole: Any


@pytest.fixture(scope="module")
def pair() -> _Pair:
    exact = _network(spoiled=False)
    job = _job("synthetic", narrow=True, thresholds=Thresholds())
    pictures = Calibration(job.spec, job.at, synthetic=True)
    return _Pair(exact, quantize.by_nncf(exact, pictures, job))


def test_layers_with_weights_are_found_in_their_order(pair: _Pair) -> None:
    found = layers.layers(pair.whole)
    assert len(found) == 3
    assert all(layer.cost > 0 for layer in found)
    # The second convolution has 8 input channels for 3.
    assert found[1].cost > found[0].cost > found[2].cost


def test_with_all_layers_left_out_it_is_fp32(pair: _Pair) -> None:
    every = frozenset(name for layer in layers.layers(pair.whole) for name in layer.names)
    assert np.abs(_answers(pair.whole) - _answers(pair.exact)).max() > 1e-3
    np.testing.assert_allclose(
        _answers(layers.left_out(pair.whole, pair.exact, every)), _answers(pair.exact), atol=2e-4
    )


def test_with_none_left_out_nothing_changes(pair: _Pair) -> None:
    same = layers.left_out(pair.whole, pair.exact, frozenset())
    np.testing.assert_array_equal(_answers(same), _answers(pair.whole))


def test_full_range_takes_the_overflow_fix_back(pair: _Pair) -> None:
    def ranges(model: Any) -> list[float]:
        return [
            float(op.input_value(2).get_node().data.max())
            for op in model.get_ordered_ops()
            if op.get_type_name() == "FakeQuantize"
            and op.input_value(0).get_node().get_type_name() == "Constant"
        ]

    halves, whole = ranges(pair.whole), ranges(layers.full_range(pair.whole))
    assert len(halves) == 3
    np.testing.assert_allclose(np.divide(halves, whole), 2.0, atol=0.05)


#: layers are searched where the weights mean something
_SOURCES = pytest.mark.parametrize(
    ("source", "searched"), [("file", True), ("synthetic", False)], ids=["real", "synthetic"]
)


@_SOURCES
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_a_layer_that_int8_ruins_goes_back_alone(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    searched: bool,
    *,
    bf16: bool,
) -> None:
    import openvino as ov

    monkeypatch.setattr(calibration, "CROPS", 2)
    exact = _network(spoiled=True)
    ov.save_model(exact, tmp_path / "exact.xml", compress_to_fp16=False)
    job = _job(source, narrow=False, thresholds=Thresholds(loss=0.02, snr_db=25.0), bf16=bf16)
    with caplog.at_level(logging.INFO):
        made = quantize.quantize(tmp_path / "exact.xml", job)
    expected = _answers(exact)
    noise = np.square(_answers(made) - expected).sum() / np.square(expected).sum()
    assert ("layers left out" in caplog.text) is searched
    assert bool(noise < 1e-2) is searched
    constants = [op for op in made.get_ops() if op.get_type_name() == "Constant"]
    assert any(constant.get_element_type() == ov.Type.i8 for constant in constants)
    ov.save_model(made, tmp_path / "made.xml", compress_to_fp16=False)
    # It is told to the worker, which computes the others in BF16 where it can.
    saved = ov.Core().read_model(tmp_path / "made.xml")
    assert is_marked_bf16(saved) is (searched and bf16)
    kernels = _kernels(saved)
    assert any(kernel.endswith("_i8") for kernel in kernels)
    in_bf16 = any(kernel.endswith("_bf16") for kernel in kernels)
    assert in_bf16 is (searched and bf16 and "BF16" in _able())


def _able() -> list[str]:
    import openvino as ov

    return list(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _kernels(model: Any) -> list[str]:
    """Of the convolutions and products, as a worker would run them, in small letters.

    Those with AMX are called "…_i8", those without "…_I8".
    """
    import openvino as ov

    hint = inference_precision("int8", marked_bf16=is_marked_bf16(model), able=_able())
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    said = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return [
        str(one["primitiveType"].value).lower()
        for one in said
        if str(one["layerType"].value) in {"Convolution", "FullyConnected", "MatMul"}
    ]


def _onnx_network(file: Path) -> None:
    """The spoiled network as an ONNX file, one layer more in front, whose nodes have no names."""
    from onnx import TensorProto, helper, numpy_helper, save

    random = np.random.default_rng(3)
    scales = np.where(np.arange(8) == 0, 1e4, 1.0).astype(np.float32)
    weights = {
        "w0": random.normal(size=(8, 3, 3, 3)) / np.sqrt(27),
        "w1": random.normal(size=(8, 8, 3, 3)) / np.sqrt(72),
        "b1": random.normal(size=8),
        "scales": scales.reshape(1, 8, 1, 1),
        "w2": random.normal(size=(8, 8, 3, 3)) / np.sqrt(72) / scales.reshape(1, 8, 1, 1),
        "b2": random.normal(size=8),
        "w3": 4 * random.normal(size=(8, 12)),
    }
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["first"], **pads),
        helper.make_node("Conv", ["first", "w1", "b1"], ["a"], **pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Mul", ["b", "scales"], ["c"]),
        helper.make_node("Conv", ["c", "w2", "b2"], ["d"], **pads),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("MatMul", ["g", "w3"], ["output"]),
    ]
    shapes = {"input": ["n", 3, 32, 32], "output": ["n", 12]}
    infos = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    constants = [
        numpy_helper.from_array(np.asarray(values, np.float32), name)
        for name, values in weights.items()
    ]
    graph = helper.make_graph(nodes, "net", [infos["input"]], [infos["output"]], constants)
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), file)


def _onnx_answers(file: Path) -> NDArray[np.float32]:
    inputs = np.random.default_rng(5).normal(size=(4, 3, 32, 32)).astype(np.float32)
    return np.asarray(open_as_is(file).run(None, {"input": inputs})[0])


@_SOURCES
def test_so_it_does_with_onnx_runtime(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    searched: bool,
) -> None:
    import onnx

    monkeypatch.setattr(calibration, "CROPS", 2)
    exact = tmp_path / "exact.onnx"
    _onnx_network(exact)
    # A sum on the way to the spoiled channels is quantized from both sides here.
    job = _job(source, narrow=True, thresholds=Thresholds(loss=0.05, snr_db=15.0))
    job = dataclasses.replace(job, file=tmp_path / "made.onnx")
    with caplog.at_level(logging.INFO, "corral"):
        onnx_quantize.quantize(exact, job)
    expected = _onnx_answers(exact)
    noise = np.square(_onnx_answers(job.file) - expected).sum() / np.square(expected).sum()
    assert ("layers left out" in caplog.text) is searched
    assert ("weights of 7 bits: " in caplog.text) is searched
    assert bool(noise < 1e-2) is searched
    made = [node.op_type for node in onnx.load(job.file).graph.node]
    assert "QuantizeLinear" in made


def _torch_network() -> Any:
    """The spoiled network as a module; the sum in front of its classifier is quantized, too."""
    import torch
    from torch import nn

    class Net(nn.Module):  # type: ignore[misc]
        """Two convolutions, the first one's channels scaled, and a classifier."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 8, 3, padding=1)
            self.third = nn.Linear(8, 12)
            scales = torch.where(torch.arange(8) == 0, 1e4, 1.0).reshape(1, 8, 1, 1)
            self.register_buffer("scales", scales)
            with torch.no_grad():
                self.second.weight /= scales
                self.third.weight *= 40

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = nn.functional.relu(self.first(x)) * self.scales
            hidden = nn.functional.relu(self.second(hidden))
            return self.third(hidden.mean((2, 3)))

    return Net().eval()


# torchao takes 4 s to import.
@pytest.mark.long
def test_so_it_does_with_torch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(calibration, "CROPS", 2)
    job = _job("file", narrow=False, thresholds=Thresholds(loss=0.05, snr_db=25.0))
    spec = dataclasses.replace(job.spec, build=lambda _: _torch_network())
    job = dataclasses.replace(
        job, backend=BackendName.TORCH, spec=spec, file=tmp_path / "model.pt2"
    )
    with caplog.at_level(logging.INFO, "corral"):
        torch_build.write(job)
    assert "of 3 layers left out, in FP32" in caplog.text
    made = torch_build.read_pt2e(str(job.file))
    # Any batch but one would do for the export.
    inputs = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        found, expected = made(inputs).numpy(), _torch_network()(inputs).numpy()
    assert 0 < np.square(found - expected).sum() / np.square(expected).sum() < 1e-2
    assert any(value.dtype == torch.int8 for value in made.state_dict().values())


def test_the_layers_of_an_onnx_file_have_names_and_costs(tmp_path: Path) -> None:
    import onnx

    file = tmp_path / "net.onnx"
    _onnx_network(file)
    onnx_layers.name_nodes(file)
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(file)), file)
    whole = _quantized(file, tmp_path)
    found = onnx_layers.layers(file, whole)
    assert all(layer.multiplies for layer in found)
    kinds = [[name.rpartition("_")[2] for name in layer.names] for layer in found]
    assert [kind[0] for kind in kinds] == ["Conv", "Conv", "Conv", "MatMul"]
    names = [name for layer in found for name in layer.names]
    assert len(names) == len(set(names))
    # The second convolution has 8 input channels for 3.
    assert found[1].cost > found[0].cost > found[3].cost
    # Of what is not quantized nothing is in INT8, whatever the operator.
    assert not any(layer.multiplies for layer in onnx_layers.layers(file, file))


def test_a_network_of_pools_has_nothing_that_int8_is_for(tmp_path: Path) -> None:
    import onnx

    file = tmp_path / "pools.onnx"
    tensor = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("MaxPool", ["input"], ["a"], "first", kernel_shape=[2, 2]),
        onnx.helper.make_node("GlobalAveragePool", ["a"], ["output"], "second"),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", [tensor("input", 1, [1, 3, 32, 32])], [tensor("output", 1, [1, 3, 1, 1])]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), file)
    found = onnx_layers.layers(file, _quantized(file, tmp_path))
    assert [layer.multiplies for layer in found] == [False]


def _quantized(file: Path, folder: Path) -> Path:
    """All of a file in INT8, by the ranges of some noise."""
    random = np.random.default_rng(5)
    noise = [random.random((1, 3, 32, 32), np.float32) for _ in range(2)]
    return onnx_quantize.Quantizer(file, folder, noise).whole(reduce_range=False).model
