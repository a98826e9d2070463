"""Pixels become the same input in every engine's graph as they do outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, save

from corral.backends.onnxruntime.build import with_pixels
from corral.backends.openvino.pixels import accept_pixels
from corral.models.pictures import normalise
from corral.tensors import Recipe

_PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), np.uint8)


def _write(path: Path, shape: list[Any]) -> None:
    """A network that answers with its input, doubled."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _openvino(path: Path, recipe: Recipe) -> NDArray[Any]:
    import openvino as ov

    core = ov.Core()
    model = accept_pixels(core.read_model(path), recipe)
    model.reshape(list(_PIXELS.shape))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(_PIXELS)[0])


def _onnxruntime(path: Path, recipe: Recipe) -> NDArray[Any]:
    import onnxruntime

    made = with_pixels(str(path), recipe.mean, recipe.std, recipe)
    session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"corral_pixels": _PIXELS})[0])


@pytest.mark.parametrize("run", [_openvino, _onnxruntime])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("colors", ["RGB", "BGR", "GREY"])
def test_layouts_and_colours_are_folded_into_the_graph(
    tmp_path: Path, run: Any, layout: str, colors: str
) -> None:
    recipe = Recipe(
        crop=6, mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0), layout=layout, colors=colors
    )
    expected = normalise(_PIXELS, recipe)
    _write(tmp_path / "m.onnx", ["n", *expected.shape[1:]])
    np.testing.assert_allclose(run(tmp_path / "m.onnx", recipe), 2 * expected, rtol=1e-5, atol=1e-3)
