"""What a detector's sorts take, as both engines find it in a small one's graph; INT8 and the guard
that go by it."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from corral.accuracy import Fidelity, Thresholds, compare_outputs, faults
from corral.artifacts.store import Artefact
from corral.planning import topology
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Precision, Settings
from corral.tuning import trial_worker
from corral.tuning.accuracy import NothingToCompareError, float_answers, measure_fidelity
from corral.tuning.before_sorts import cut_before_sorts, pairs
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate

pytestmark = pytest.mark.timeout(300)

_ENGINES = pytest.mark.parametrize("backend", [BackendName.OPENVINO, BackendName.ONNXRUNTIME])
#: as each engine's file calls them
_SCORES = dict.fromkeys((BackendName.OPENVINO, BackendName.ONNXRUNTIME), "every_score")
_SIDE, _PLACES, _CLASSES, _BEST = 64, 256, 3, 40


def _network(end: str) -> onnx.GraphProto:
    """Finds the 40 best of 256 boxes, where it ends as "sorted".

    Else it answers with all, boxes and scores "joined"; with where scores are above a bound
    ("mask", or "mask by rows", where the floats are not one row a picture); with each place's class
    ("classes"); or with points and scores beside which constants are large ("constants").
    """
    random = np.random.default_rng(4)

    def kernel(out: int, channels: int, side: int) -> NDArray[np.float32]:
        weights = random.normal(size=(out, channels, side, side))
        return np.asarray(weights / np.sqrt(channels * side * side), np.float32)

    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1).reshape(1, _PLACES, 2)
    weights: dict[str, NDArray[Any]] = {
        "w0": kernel(16, 3, 4),
        "w1": kernel(16, 16, 3) * 3,
        "w2": kernel(_CLASSES + 2, 16, 1) * 4,
        "bias": np.asarray([-2.0] * _CLASSES + [1.5] * 2, np.float32),
        "parts": np.asarray([_CLASSES, 2]),
        "flat": np.asarray([0, -1, _PLACES]),
        "centres": (grid * 4 + 2).astype(np.float32),
        "half": np.asarray(8, np.float32),
        "k": np.asarray([_BEST]),
        "last": np.asarray([-1]),
        "four": np.asarray([1, 1, 4]),
        "back": np.asarray([-1, _PLACES, _CLASSES]),
        "bound": np.asarray(0.25, np.float32),
        "far": (grid * 400 + 200).astype(np.float32),
        "prior": np.asarray(-40, np.float32),
    }
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Conv", ["x", "w0"], ["a"], {"strides": [4, 4]}),
        ("Relu", ["a"], ["b"], {}),
        ("Conv", ["b", "w1"], ["c"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["d"], {}),
        ("Conv", ["d", "w2", "bias"], ["head"], {}),
        ("Reshape", ["head", "flat"], ["rows"], {}),
        ("Transpose", ["rows"], ["all"], {"perm": [0, 2, 1]}),
        ("Split", ["all", "parts"], ["logits", "raw"], {"axis": 2}),
        ("Sigmoid", ["logits"], ["every_score"], {}),
        ("Softplus", ["raw"], ["positive"], {}),
        ("Mul", ["positive", "half"], ["reach"], {}),
        ("Sub", ["centres", "reach"], ["low"], {}),
        ("Add", ["centres", "reach"], ["high"], {}),
        ("Concat", ["low", "high"], ["every_box"], {"axis": 2}),
    ]
    behind: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("ReduceMax", ["every_score"], ["best"], {"axes": [2], "keepdims": 0}),
        ("ArgMax", ["every_score"], ["classes"], {"axis": 2, "keepdims": 0}),
        ("TopK", ["best", "k"], ["scores", "order"], {"axis": 1}),
        ("GatherElements", ["classes", "order"], ["labels"], {"axis": 1}),
        ("Unsqueeze", ["order", "last"], ["column"], {}),
        ("Tile", ["column", "four"], ["places"], {}),
        ("GatherElements", ["every_box", "places"], ["boxes"], {"axis": 1}),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", _BEST, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", _BEST]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", _BEST]),
    ]
    if end == "joined":
        behind = [
            ("Transpose", ["every_box"], ["box_rows"], {"perm": [0, 2, 1]}),
            ("Transpose", ["every_score"], ["score_rows"], {"perm": [0, 2, 1]}),
            ("Concat", ["box_rows", "score_rows"], ["output0"], {"axis": 1}),
        ]
        shape = ["n", 4 + _CLASSES, _PLACES]
        outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)]
    if end == "mask":
        behind = [("Greater", ["every_score", "bound"], ["found"], {})]
        shape = ["n", _PLACES, _CLASSES]
        outputs = [helper.make_tensor_value_info("found", TensorProto.BOOL, shape)]
    if end == "mask by rows":
        behind = [
            ("Reshape", ["every_score", "last"], ["row"], {}),
            ("Greater", ["row", "bound"], ["above"], {}),
            ("Reshape", ["above", "back"], ["found"], {}),
        ]
        shape = ["n", _PLACES, _CLASSES]
        outputs = [helper.make_tensor_value_info("found", TensorProto.BOOL, shape)]
    if end == "classes":
        behind = [("ArgMax", ["every_score"], ["labels"], {"axis": 2, "keepdims": 0})]
        outputs = [helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", _PLACES])]
    if end == "constants":
        behind = [
            ("Add", ["far", "reach"], ["points"], {}),
            ("Add", ["logits", "prior"], ["y"], {}),
        ]
        outputs = [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, ["n", _PLACES, 2]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", _PLACES, _CLASSES]),
        ]
    every = [*nodes, *behind]
    return helper.make_graph(
        [helper.make_node(kind, takes, gives, **extra) for kind, takes, gives, extra in every],
        "finder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, _SIDE, _SIDE])],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )


def _written(folder: Path, end: str) -> Path:
    """The file, and how pictures are fed to it."""
    path = folder / "finder.onnx"
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(_network(end), opset_imports=opset, ir_version=9)
    onnx.save(model, path)
    path.with_suffix(".toml").write_text("[preprocessing]\nresize = 72\nstd = [255, 255, 255]\n")
    return path


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("finder"), "sorted")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _bench(path: Path, cache: Path) -> Bench:
    cpus = sorted(os.sched_getaffinity(0))[:1]
    machine = topology.read_machine()
    return Bench(
        settings=Settings.flat(model=str(path), cache_dir=str(cache)),
        pen=PlannedWorker(id=0, cpus=cpus, cores=1, memory_node=None, env={}),
        environ={},
        isa=machine.isa,
        cpu_model=machine.model_name,
        progress=lambda phase, share: None,
    )


def _cut_answers(bench: Bench, candidate: Candidate, made: Artefact) -> dict[str, NDArray[Any]]:
    """Of four of the guard's pictures, what the sorts take."""
    rows = np.random.default_rng(1).random((4, 3, _SIDE, _SIDE)).astype(np.float32)
    with cut_before_sorts(bench.order(candidate, made, [1])) as cut:
        assert cut is not None
        with trial_worker.start(cut, bench.environ) as trial:
            return float_answers(trial, cut.signature, rows)


def test_engines_find_the_same_cut(detector: Path, cache: Path) -> None:
    bench = _bench(detector, cache)
    found: list[Mapping[str, NDArray[Any]]] = []
    signatures = []
    for backend in (BackendName.OPENVINO, BackendName.ONNXRUNTIME):
        candidate = Candidate(backend=backend, precision=Precision.FP32)
        made = bench.prepare(candidate, 0, 1)
        found.append(_cut_answers(bench, candidate, made))
        with cut_before_sorts(bench.order(candidate, made, [1])) as cut:
            assert cut is not None
            signatures.append(cut.signature)
    assert {name.removesuffix(" before the sort") for name in found[1]} == {
        "every_score",
        "best",
        "every_box",
    }
    names = pairs(*signatures)
    assert names is not None
    other = {name: found[1][names[name]] for name in found[0]}
    assert compare_outputs(found[0], other).snr_db > 80
    shapes = sorted(answers.shape[1:] for answers in found[0].values())
    assert shapes == [(_PLACES,), (_PLACES, _CLASSES), (_PLACES, 4)]


@_ENGINES
def test_int8_of_a_detector_keeps_layers_and_passes(
    detector: Path, cache: Path, backend: BackendName, caplog: pytest.LogCaptureFixture
) -> None:
    bench = _bench(detector, cache)
    with caplog.at_level(logging.INFO, "corral"):
        made = bench.prepare(Candidate(backend=backend, precision=Precision.INT8), 0, 1)
    assert "no layer stays in INT8" not in caplog.text
    found = _fidelity(bench, backend, made)
    assert found.output.endswith(" before the sort")
    assert 20 <= found.snr_db < 100
    # Something is in INT8, and a sort of it is another list.
    assert faults(found, Thresholds(), synthetic=False) == []


@_ENGINES
def test_fp32_of_a_detector_passes_beside_itself(
    detector: Path, cache: Path, backend: BackendName
) -> None:
    bench = _bench(detector, cache)
    exact = bench.prepare(Candidate(backend=backend, precision=Precision.FP32), 0, 1)
    assert _fidelity(bench, backend, exact).snr_db > 100


@_ENGINES
@pytest.mark.parametrize("what", ["scores", "boxes"])
def test_a_bad_quantization_of_a_detector_is_refused(
    detector: Path, cache: Path, tmp_path: Path, backend: BackendName, what: str
) -> None:
    bench = _bench(detector, cache)
    found = _fidelity(bench, backend, _spoiled(detector, tmp_path, cache, backend, what))
    assert ("box" in found.output) is (what == "boxes")
    (fault,) = faults(found, Thresholds(), synthetic=False)
    assert fault.startswith(f"SNR of output {found.output} ")


@_ENGINES
@pytest.mark.parametrize("what", ["scores", "boxes"])
def test_where_one_output_joins_both_neither_hides_the_other(
    cache: Path, tmp_path: Path, backend: BackendName, what: str
) -> None:
    path = _written(tmp_path, "joined")
    bench = _bench(path, cache)
    exact = bench.prepare(Candidate(backend=backend, precision=Precision.FP32), 0, 1)
    assert _fidelity(bench, backend, exact).snr_db > 100
    found = _fidelity(bench, backend, _spoiled(path, tmp_path, cache, backend, what))
    assert found.output.endswith(" in output0")
    assert ("box" in found.output) is (what == "boxes")
    assert faults(found, Thresholds(), synthetic=False) != []


@_ENGINES
@pytest.mark.parametrize("end", ["mask", "classes"])
def test_truths_and_integers_are_judged_by_the_floats_they_are_made_of(
    cache: Path, tmp_path: Path, backend: BackendName, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = _written(tmp_path, end)
    bench = _bench(path, cache)
    exact = bench.prepare(Candidate(backend=backend, precision=Precision.FP32), 0, 1)
    found = _fidelity(bench, backend, exact)
    assert (found.output, found.snr_db > 100) == (f"{_SCORES[backend]} before the sort", True)
    bad = _fidelity(bench, backend, _spoiled(path, tmp_path, cache, backend, "scores"))
    (fault,) = faults(bad, Thresholds(), synthetic=False)
    assert fault.startswith(f"SNR of output {_SCORES[backend]} before the sort ")
    with caplog.at_level(logging.INFO, "corral"):
        made = bench.prepare(Candidate(backend=backend, precision=Precision.INT8), 0, 1)
    assert "no layer stays in INT8" not in caplog.text
    assert faults(_fidelity(bench, backend, made), Thresholds(), synthetic=False) == []


@_ENGINES
def test_where_nothing_can_be_compared_the_reason_is_told(
    cache: Path, tmp_path: Path, backend: BackendName, caplog: pytest.LogCaptureFixture
) -> None:
    bench = _bench(_written(tmp_path, "mask by rows"), cache)
    with caplog.at_level(logging.INFO, "corral"):
        made = bench.prepare(Candidate(backend=backend, precision=Precision.INT8), 0, 1)
    assert "no layers are searched for" in caplog.text
    with pytest.raises(NothingToCompareError, match="compared picture by picture"):
        _fidelity(bench, backend, made)


@_ENGINES
@pytest.mark.parametrize("what", ["scores", "boxes"])
def test_constants_beside_which_noise_is_small_hide_none(
    cache: Path, tmp_path: Path, backend: BackendName, what: str
) -> None:
    path = _written(tmp_path, "constants")
    bench = _bench(path, cache)
    exact = bench.prepare(Candidate(backend=backend, precision=Precision.FP32), 0, 1)
    assert _fidelity(bench, backend, exact).snr_db > 100
    found = _fidelity(bench, backend, _spoiled(path, tmp_path, cache, backend, what))
    assert found.output == {"scores": "y", "boxes": "points"}[what]
    assert faults(found, Thresholds(), synthetic=False) != []


def _spoiled(path: Path, folder: Path, cache: Path, backend: BackendName, what: str) -> Artefact:
    """Another artefact in INT8's place: a head with a quarter of noise."""
    model = onnx.load(path)
    (head,) = (weight for weight in model.graph.initializer if weight.name == "w2")
    values = numpy_helper.to_array(head).copy()
    part = slice(None, _CLASSES) if what == "scores" else slice(_CLASSES, None)
    values[part] += 0.5 * values.std() * np.random.default_rng(3).normal(size=values[part].shape)
    head.CopyFrom(numpy_helper.from_array(values, "w2"))
    spoiled = folder / "spoiled.onnx"
    onnx.save(model, spoiled)
    spoiled.with_suffix(".toml").write_bytes(path.with_suffix(".toml").read_bytes())
    candidate = Candidate(backend=backend, precision=Precision.FP32)
    return dataclasses.replace(_bench(spoiled, cache).prepare(candidate, 0, 1), precision="int8")


def _fidelity(bench: Bench, backend: BackendName, made: Artefact) -> Fidelity:
    candidate = Candidate(backend=backend, precision=Precision.INT8)
    reference = Candidate(backend=backend, precision=Precision.FP32)
    return measure_fidelity(bench, candidate, made, reference, bench.prepare(reference, 0, 1))
