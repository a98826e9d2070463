"""Which of two cuts' outputs belong together, and what becomes of a graph that cannot be cut."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from corral.ipc.messages import ModelBoot
from corral.settings import BackendName, Precision, Settings
from corral.tensors import Datatype, Signature, TensorSpec
from corral.tuning.before_sorts import arranged, cut_before_sorts, pairs
from corral.tuning.trial_worker import TrialOrder

_BOXES, _SCORES = (100, 4), (100, 80)


def _signature(**shapes: tuple[int, ...]) -> Signature:
    outputs = tuple(TensorSpec(name, Datatype.FP32, shape) for name, shape in shapes.items())
    return Signature({Datatype.FP32: (3, 8, 8)}, outputs[0].shape, outputs=outputs)


def _order(signature: Signature, backend: BackendName = BackendName.OPENVINO) -> TrialOrder:
    model = ModelBoot(
        name="finder", artefact="model.xml", precision="int8", synthetic=False, weights="a file"
    )
    settings = Settings.flat(backend=backend, precision=Precision.INT8)
    return TrialOrder(settings=settings, model=model, signature=signature, cpus=[0])


def test_outputs_of_the_same_names_belong_together() -> None:
    found = pairs(_signature(a=_BOXES, b=_BOXES), _signature(b=_BOXES, a=_BOXES))
    assert found == {"a": "a", "b": "b"}


def test_where_an_engine_renames_them_shapes_tell() -> None:
    found = pairs(_signature(a=_BOXES, b=_SCORES), _signature(c=_SCORES, d=_BOXES))
    assert found == {"a": "d", "b": "c"}


def test_a_transposition_that_an_engine_moved_is_made_good() -> None:
    names = pairs(_signature(a=_BOXES, b=_SCORES), _signature(a=_BOXES, c=(80, 100)))
    assert names == {"a": "a", "b": "c"}
    boxes, scores = (np.random.default_rng(1).random((3, *shape)) for shape in (_BOXES, _SCORES))
    found = arranged({"a": boxes, "b": scores}, {"a": boxes, "c": scores.swapaxes(1, 2)}, names)
    np.testing.assert_array_equal(found["a"], boxes)
    np.testing.assert_array_equal(found["b"], scores)


@pytest.mark.parametrize(
    "other",
    [
        _signature(c=_BOXES, d=_BOXES),
        _signature(a=_BOXES),
        _signature(a=_BOXES, b=_SCORES),
    ],
    ids=["alike", "fewer", "another shape"],
)
def test_what_cannot_be_told_is_no_pair(other: Signature) -> None:
    assert pairs(_signature(a=_BOXES, b=_BOXES), other) is None


def _writes(monkeypatch: pytest.MonkeyPatch, write: Callable[..., object]) -> None:
    module = types.SimpleNamespace(write_before_sorts=write)
    monkeypatch.setattr(importlib, "import_module", lambda name: module)


def test_the_same_worker_loads_the_cut_as_long_as_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = (TensorSpec("scores before the sort", Datatype.FP32, _SCORES),)

    def write(artefact: Path, signature: Signature, folder: Path) -> object:
        assert (artefact, signature.outputs[0].name) == (Path("model.xml"), "boxes")
        file = folder / "cut.xml"
        file.touch()
        return file, outputs

    _writes(monkeypatch, write)
    order = _order(_signature(boxes=_BOXES, scores=(100,)))
    with cut_before_sorts(order) as cut:
        assert cut is not None
        assert cut.model.artefact is not None
        file = Path(cut.model.artefact)
        assert file.exists()
        assert (cut.signature.outputs, cut.signature.output_shape) == (outputs, _SCORES)
        assert (cut.model.precision, cut.settings) == ("int8", order.settings)
    assert not file.parent.exists()


def test_a_graph_that_cannot_be_cut_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(*_: object) -> object:
        raise RuntimeError("no such operator")

    _writes(monkeypatch, write)
    with cut_before_sorts(_order(_signature(boxes=_BOXES, scores=(100,)))) as cut:
        assert cut is None
    assert "judged by its outputs" in caplog.text
    assert "no such operator" in caplog.text


def test_scores_of_classes_and_engines_without_a_graph_have_no_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(*_: object) -> object:
        raise AssertionError

    _writes(monkeypatch, write)
    classes = Signature({Datatype.FP32: (3, 8, 8)}, (10,))
    several = _signature(boxes=_BOXES, scores=(100,))
    for order in (_order(classes), _order(several, BackendName.TORCH)):
        with cut_before_sorts(order) as cut:
            assert cut is None
