"""Layers of a quantized IR that go back to FP32, and a search that finds which."""

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
from corral.backends.openvino import layers, quantize
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


def _job(source: str, narrow: bool, thresholds: Thresholds) -> BuildJob:
    weights = Weights(source=source, description="", path=None, digest="1")
    spec = ModelSpec(
        name="net", recipe=_RECIPE, classes=12, find_weights=lambda *_: weights,
        build=lambda _: None,
    )  # fmt: skip
    return BuildJob(
        backend=BackendName.OPENVINO, spec=spec, weights=weights, precision=Precision.INT8,
        narrow_sums=narrow, thresholds=thresholds, calibration=None,
        at=lambda step, share=0.0: None, fp32=Path, file=Path("model.xml"),
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


@pytest.mark.parametrize(
    ("source", "searched"), [("file", True), ("synthetic", False)], ids=["real", "synthetic"]
)
def test_a_layer_that_int8_ruins_goes_back_alone(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    searched: bool,
) -> None:
    import openvino as ov

    monkeypatch.setattr(calibration, "CROPS", 2)
    exact = _network(spoiled=True)
    ov.save_model(exact, tmp_path / "exact.xml", compress_to_fp16=False)
    job = _job(source, narrow=False, thresholds=Thresholds(loss=0.02, snr_db=25.0))
    with caplog.at_level(logging.INFO):
        made = quantize.quantize(tmp_path / "exact.xml", job)
    expected = _answers(exact)
    noise = np.square(_answers(made) - expected).sum() / np.square(expected).sum()
    assert ("layers in FP32" in caplog.text) is searched
    assert bool(noise < 1e-2) is searched
    constants = [op for op in made.get_ops() if op.get_type_name() == "Constant"]
    assert any(constant.get_element_type() == ov.Type.i8 for constant in constants)
