"""Models that are odd and legal: items that see one another, a batch in the graph, a softmax."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from support import odd_models
from support.loaded_engine import load
from support.running_server import StartServer
from support.scenarios.reload import status_of

from corral.artifacts.build import prepare
from corral.backends.openvino.build import read
from corral.errors import ModelError, ValuesRefused
from corral.models import registry
from corral.planning import topology
from corral.settings import BackendName, Precision, Settings
from corral.worker.warmup import Order, WarmedUp, warm_up
from corral_client import Client

_ENGINES = [BackendName.OPENVINO, BackendName.ONNXRUNTIME]


def _warmed(file: str, backend: BackendName, cache: Path, precision: str = "fp32") -> WarmedUp:
    """What a worker finds out of a model, in this process."""
    loaded = load(file, backend, cache, [1, 2, 4], Precision(precision))
    order = Order(
        datatypes=loaded.signature.datatypes[:1],
        sizes=[1, 2, 4],
        measured=False,
        exact=loaded.precision == "fp32",
    )
    return warm_up(loaded.engine, loaded.region, order)


@pytest.mark.parametrize("backend", _ENGINES)
@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (odd_models.across, "an answer changes by"),
        (odd_models.by_the_mean, "an answer changes by"),
        (odd_models.by_the_largest, "an answer changes by"),
        (odd_models.in_training, "an answer changes by"),
        (odd_models.baked_inside, "an answer changes by"),
        (odd_models.baked, "it takes no batch of 2"),
        (odd_models.one_out, "it takes no batch of 2"),
    ],
)
def test_batches_are_of_one_where_the_model_asks_for_it(
    tmp_path: Path, backend: BackendName, write: Callable[[Path], Path], reason: str
) -> None:
    found = _warmed(str(write(tmp_path / "m.onnx")), backend, tmp_path)
    assert found.sizes == [1]
    assert reason in found.findings.batch_limit


@pytest.mark.parametrize("backend", _ENGINES)
@pytest.mark.parametrize(
    "way", ["declared", "reshaped", "inside", "answered", "hidden", "halved", "expanded"]
)
def test_a_graph_of_four_items_is_served_one_by_one(
    tmp_path: Path, backend: BackendName, way: str
) -> None:
    file = str(odd_models.of_four(tmp_path / "m.onnx", way))
    loaded = load(file, backend, tmp_path, [1, 2])
    native = loaded.signature.native
    fixed = registry.get(file).fixed_batch
    assert fixed == (None if way in {"hidden", "expanded"} else 4)
    sizes = [1] if fixed else [1, 2]
    order = Order(datatypes=(native,), sizes=sizes, measured=False, fixed_batch=fixed)
    warmed = warm_up(loaded.engine, loaded.region, order)
    assert warmed.sizes == [1]
    reason = "its file fixes the batch at 4" if fixed else "it takes no batch of 2"
    assert reason in warmed.findings.batch_limit
    # The graph itself, of four items, says what is right.
    items = np.random.default_rng(3).normal(size=(4, 3, 8, 8)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(file).run(None, {"x": items})
    for item, answer in zip(items, wanted, strict=True):
        loaded.region.inputs(native, 1)[:] = item
        loaded.engine.run(native, 1)
        np.testing.assert_allclose(loaded.region.outputs(1)[0], answer, atol=1e-5)


def test_a_graph_is_looked_at_as_compiled_once_for_each_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino as ov

    shapes: list[tuple[int, ...]] = []

    compile_model = ov.Core.compile_model

    def counting(core: ov.Core, model: Any, *given: Any) -> Any:
        shapes.append(tuple(model.inputs[0].shape))
        return compile_model(core, model, *given)

    monkeypatch.setattr(ov.Core, "compile_model", counting)
    spec = registry.get(str(odd_models.of_four(tmp_path / "m.onnx", "hidden")))
    assert spec.file
    read(spec, spec.file)
    # One item fails before that.
    assert shapes == [(4, 3, 8, 8)]


@pytest.mark.parametrize("backend", _ENGINES)
def test_equal_rows_that_go_with_no_item_are_no_batch(tmp_path: Path, backend: BackendName) -> None:
    file = odd_models.one_of_all(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="its answers do not go with the 4 items"):
        load(str(file), backend, tmp_path, [1])


@pytest.mark.parametrize("backend", _ENGINES)
@pytest.mark.parametrize("way", ["multiplied", "averaged"])
def test_an_input_without_a_batch_is_not_taken_for_one(
    tmp_path: Path, backend: BackendName, way: str
) -> None:
    file = odd_models.with_a_matrix(tmp_path / "m.onnx", way)
    with pytest.raises(ModelError, match="its answers do not go with the 4 items"):
        load(str(file), backend, tmp_path, [1])


@pytest.mark.parametrize("backend", _ENGINES)
def test_a_fixed_batch_that_draws_at_random_is_served(tmp_path: Path, backend: BackendName) -> None:
    file = odd_models.at_random_of_four(tmp_path / "m.onnx")
    load(str(file), backend, tmp_path, [1])


@pytest.mark.parametrize("backend", _ENGINES)
@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (odd_models.plain, "logits"),
        (odd_models.softmaxed, "probabilities"),
        (odd_models.in_percent, "percentages"),
        (odd_models.sigmoided, "independent_probabilities"),
    ],
)
def test_any_batch_will_do_where_items_keep_to_themselves(
    tmp_path: Path, backend: BackendName, write: Callable[[Path], Path], kind: str
) -> None:
    found = _warmed(str(write(tmp_path / "m.onnx")), backend, tmp_path)
    assert found.sizes == [1, 2, 4]
    assert not found.findings.batch_limit
    assert found.findings.output_kind == kind


@pytest.mark.parametrize("backend", _ENGINES)
def test_weights_behind_links_are_read(tmp_path: Path, backend: BackendName) -> None:
    path = odd_models.as_in_a_hub(tmp_path / "m.onnx")
    assert path.is_symlink()
    found = _warmed(str(path), backend, tmp_path)
    assert found.sizes == [1, 2, 4]
    # Nothing of the copy that was read stays.
    assert not list(tmp_path.glob("artefacts/*/plain-*"))


def test_an_engine_looks_into_weights_behind_links(tmp_path: Path) -> None:
    path = odd_models.as_in_a_hub(tmp_path / "m.onnx", is_open=True)
    assert registry.get(str(path)).signature.output_shape == (4,)


@pytest.mark.parametrize("backend", _ENGINES)
@pytest.mark.parametrize("precision", ["auto", "fp32", "int8"])
def test_a_file_in_int8_is_left_as_it_is(
    tmp_path: Path, backend: BackendName, precision: str
) -> None:
    path = odd_models.quantized(tmp_path / "m.onnx")
    settings = Settings.flat(
        model=str(path), backend=backend, precision=precision, cache_dir=str(tmp_path)
    )
    made = prepare(settings, lambda step, share: None, topology.read_machine().isa)
    assert made.precision == "int8"
    assert [folder.name for folder in (tmp_path / "artefacts").glob("m-*")] == [
        made.path.parent.name
    ]
    found = _warmed(str(path), backend, tmp_path, precision)
    assert found.sizes == [1, 2, 4]
    if backend is BackendName.ONNXRUNTIME:
        kept = [node.op_type for node in onnx.load(made.path).graph.node]
        assert kept == [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("backend", _ENGINES)
def test_an_engines_own_noise_is_none_of_it(artefact_cache: Path, backend: BackendName) -> None:
    """Batches of real INT8 kernels, which differ from those of one."""
    found = _warmed("efficientnet_lite0", backend, artefact_cache, "int8")
    assert found.sizes == [1, 2, 4]
    assert found.findings.output_kind == "logits"


@pytest.mark.parametrize(
    ("write", "backend"),
    [
        (odd_models.across, "openvino"),
        (odd_models.baked, "onnxruntime"),
        (odd_models.one_out, "onnxruntime"),
        (odd_models.one_out, "openvino"),
    ],
)
def test_a_server_says_so_and_answers_as_for_one(
    real_server: StartServer,
    tmp_path: Path,
    write: Callable[[Path], Path],
    backend: str,
) -> None:
    path = write(tmp_path / "odd.onnx")
    options = ["--model", str(path), "--backend", backend, "--workers", "1"]
    options += ["--mode", "throughput", "--cache-dir", str(tmp_path)]
    with real_server(*options, ready=False) as server:
        server.wait_until_ready(timeout_s=60)
        assert server.wait_for_line("WARNING.* odd runs in batches of 1 at most: ")
        items = np.random.default_rng(1).normal(size=(4, 3, 8, 8)).astype(np.float32)
        with Client(f"127.0.0.1:{server.port}", model="odd") as client:
            together = client.infer(items)
            alone = np.concatenate([client.infer(items[i : i + 1]) for i in range(4)])
            properties = client.metadata("odd").properties
        np.testing.assert_array_equal(together, alone)
        assert properties["batch_limit"]
        status = status_of(server)
        assert any("odd runs in batches of 1 at most" in line for line in status.warnings)
        assert [worker.sizes for worker in status.workers] == [[1]]


def test_a_batch_in_the_graph_of_an_ir_is_found_too(tmp_path: Path) -> None:
    import openvino as ov

    model = ov.convert_model(odd_models.baked(tmp_path / "m.onnx"))
    ov.save_model(model, tmp_path / "m.xml", compress_to_fp16=False)
    found = _warmed(str(tmp_path / "m.xml"), BackendName.OPENVINO, tmp_path)
    assert found.sizes == [1]
    assert "it takes no batch of 2" in found.findings.batch_limit


@pytest.mark.parametrize("backend", _ENGINES)
def test_an_output_that_only_says_that_it_is_of_one_is_served(
    tmp_path: Path, backend: BackendName
) -> None:
    found = _warmed(str(odd_models.said_to_be_one(tmp_path / "m.onnx")), backend, tmp_path)
    assert found.sizes[0] == 1


_INTEGERS = '<ir_version: 9, opset_import: ["": 17]> g '
_DIVIDE = "(int64[n,4] a, int64[n,4] b) => (int64[n,4] y) { y = Div(a, b) }"
_LOOK_UP = "(float[n,4] x, int64[n,2] i) => (float[n,2] y) { y = GatherElements<axis=1>(x, i) }"

_REGIONS = """(float[n,1,2,2] x, float[n,4] r, int64[n] i) => (float[n,1,1,1] y) {
  y = RoiAlign<output_height=1, output_width=1, sampling_ratio=1>(x, r, i)
}"""


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_region_of_no_item_is_not_answered_with_the_last_answer(
    tmp_path: Path, is_nested: bool
) -> None:
    file = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(_INTEGERS + _REGIONS)
    if is_nested:
        _into_if(model.graph)
    onnx.save(model, file)
    loaded = load(str(file), BackendName.OPENVINO, tmp_path, [1])
    native = loaded.signature.native
    order = Order(datatypes=(native,), sizes=[1], measured=False)
    warm_up(loaded.engine, loaded.region, order)
    picture, region, item = loaded.region.all_inputs(native, 1)
    picture[:], region[:], item[:] = 6, (0, 0, 2, 2), 0
    loaded.engine.run(native, 1)
    (answers,) = loaded.region.all_outputs(1)
    assert answers == pytest.approx(6)
    picture[:], item[:] = 7, 9
    with pytest.raises(ValuesRefused, match=r"Demanded batch \(id = 9\)"):
        loaded.engine.run(native, 1)


def _into_if(graph: onnx.GraphProto) -> None:
    """Moves the nodes of a graph into both branches of a condition that holds."""
    from onnx import helper, numpy_helper

    inside = helper.make_graph(list(graph.node), "inside", [], list(graph.output))
    del graph.node[:]
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "axes"))
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["holds"], to=onnx.TensorProto.BOOL),
            helper.make_node("If", ["holds"], ["y"], then_branch=inside, else_branch=inside),
        ]
    )


@pytest.mark.parametrize(
    ("backend", "graph", "refused", "taken"),
    [
        (BackendName.ONNXRUNTIME, _DIVIDE, 0, 3),
        (BackendName.ONNXRUNTIME, _LOOK_UP, 4, 3),
        (BackendName.OPENVINO, _LOOK_UP, 4, 3),
    ],
)
def test_values_that_the_engine_refuses_keep_no_model_from_being_served(
    tmp_path: Path, backend: BackendName, graph: str, refused: int, taken: int
) -> None:
    file = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(_INTEGERS + graph), file)
    loaded = load(str(file), backend, tmp_path, [1, 2])
    native = loaded.signature.native
    order = Order(datatypes=(native,), sizes=[1, 2], measured=False)
    warmed = warm_up(loaded.engine, loaded.region, order)
    assert warmed.sizes == [1, 2]
    assert (warmed.findings.batch_limit, warmed.findings.unsteady) == ("", "")
    first, second = loaded.region.all_inputs(native, 2)
    first[:], second[:] = 6, taken
    loaded.engine.run(native, 2)
    (answers,) = loaded.region.all_outputs(2)
    assert (answers == (2 if graph == _DIVIDE else 6)).all()
    # More than once, and what comes next is answered.
    for _ in range(3):
        second[1] = refused
        with pytest.raises(ValuesRefused, match=r"Div: |GatherElements: "):
            loaded.engine.run(native, 2)
        second[:], answers[:] = taken, 0
        loaded.engine.run(native, 2)
        assert answers.all()
