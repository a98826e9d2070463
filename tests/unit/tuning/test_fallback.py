"""An engine that throws gives way to one that works; a file in INT8 serves as it is."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from corral.artifacts import build
from corral.artifacts.store import Artefact
from corral.errors import ModelError, PassingError
from corral.models import registry
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.settings import BackendName, Precision
from corral.tensors import Datatype, Signature
from corral.tuning import search_cache, trial_worker
from corral.tuning import select as selection
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Row
from corral.tuning.fallback import first_that_runs
from corral.tuning.trial_worker import TrialOrder

_OPENVINO, _ORT = (
    Candidate(backend=name, precision=Precision.FP32)
    for name in (BackendName.OPENVINO, BackendName.ONNXRUNTIME)
)
_INSTALLED = {"openvino", "nncf", "onnxruntime", "onnx"}
_ROWS = ModelSpec(
    name="rows",
    recipe=Recipe(),
    classes=3,
    find_weights=lambda *_: Weights(source="file", description="", path=None, digest="1"),
    build=lambda _: None,
    shapes=Signature({Datatype.FP32: (5,)}, (3,)),
    file=Path("rows.onnx"),
)
_PICTURES = dataclasses.replace(
    _ROWS,
    recipe=Recipe(resize=8, crop=8),
    shapes=Signature(
        {Datatype.FP32: (3, 8, 8), Datatype.UINT8: (8, 8, 3)}, (3,), Recipe(resize=8, crop=8)
    ),
)


class Machine:
    """Which engines fail here, when they are prepared and when their worker starts."""

    def __init__(self) -> None:
        self.unprepared: dict[BackendName, ModelError] = {}
        self.unstarted: dict[BackendName, ModelError] = {}
        self.started: list[str] = []
        self.spec = _ROWS

    def prepare(self, candidate: Candidate, begin: float, end: float) -> Artefact:
        if candidate.backend in self.unprepared:
            raise self.unprepared[candidate.backend]
        return Artefact(
            path=Path(f"{candidate.backend}"),
            model="rows",
            precision=candidate.precision.value,
            synthetic=False,
            weights="none",
            key="k",
        )

    @contextlib.contextmanager
    def start(self, order: TrialOrder, environ: Mapping[str, str]) -> Iterator[None]:
        backend = order.settings.engine.backend
        self.started.append(backend.value)
        if backend in self.unstarted:
            raise self.unstarted[backend]
        yield


@pytest.fixture
def machine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(Bench, "prepare", made.prepare)
    monkeypatch.setattr(trial_worker, "start", made.start)
    monkeypatch.setattr(registry, "get", lambda name, shapes=None: made.spec)
    monkeypatch.setattr(build, "check_engine", lambda settings, spec, precision, **_: None)
    return made


@pytest.mark.parametrize("when", ["unprepared", "unstarted"])
def test_the_next_serves_where_the_first_throws(
    bench: Bench, machine: Machine, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    getattr(machine, when)[BackendName.OPENVINO] = ModelError("can't protect")
    chosen = selection.without_pictures(bench, Precision.FP32, _INSTALLED)
    assert chosen.backend is BackendName.ONNXRUNTIME
    assert chosen.model.artefact == "onnxruntime"
    assert "openvino fp32 does not run here: can't protect" in caplog.text
    # The next start goes by that, and `corral tune` looks again.
    tried = len(machine.started)
    machine.unprepared.clear()
    machine.unstarted.clear()
    again = selection.without_pictures(bench, Precision.FP32, _INSTALLED)
    assert (again.backend, len(machine.started)) == (BackendName.ONNXRUNTIME, tried)
    anew = selection.without_pictures(bench, Precision.FP32, _INSTALLED, again=True)
    assert anew.backend is BackendName.OPENVINO


def test_what_may_pass_is_not_remembered(bench: Bench, machine: Machine) -> None:
    machine.unstarted[BackendName.OPENVINO] = PassingError("killed, probably out of memory")
    chosen = selection.without_pictures(bench, Precision.FP32, _INSTALLED)
    assert chosen.backend is BackendName.ONNXRUNTIME
    machine.unstarted.clear()
    chosen = selection.without_pictures(bench, Precision.FP32, _INSTALLED)
    assert chosen.backend is BackendName.OPENVINO


def test_where_code_may_not_be_written_is_another_machine(
    bench: Bench, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        selection.without_pictures(bench, Precision.FP32, _INSTALLED).backend is _OPENVINO.backend
    )
    monkeypatch.setattr(search_cache, "refuses_executable_memory", lambda: True)
    machine.unstarted[BackendName.OPENVINO] = ModelError("can't protect")
    after = selection.without_pictures(bench, Precision.FP32, _INSTALLED)
    assert after.backend is BackendName.ONNXRUNTIME


def test_where_none_runs_every_cause_is_told(bench: Bench, machine: Machine) -> None:
    machine.unprepared = {
        BackendName.OPENVINO: ModelError("stoi"), BackendName.ONNXRUNTIME: ModelError("no such op")
    }  # fmt: skip
    with pytest.raises(ModelError, match="openvino fp32: stoi; onnxruntime fp32: no such op"):
        first_that_runs(bench, [_OPENVINO, _ORT])
    # One cause for all, weights that are missing perhaps, is told once.
    machine.unprepared = dict.fromkeys(machine.unprepared, PassingError("no weights"))
    with pytest.raises(PassingError, match=r"^no weights$"):
        first_that_runs(bench, [_OPENVINO, _ORT])


def test_an_engine_that_was_named_is_not_replaced(bench: Bench, machine: Machine) -> None:
    named = dataclasses.replace(bench, settings=bench.settings.replace(backend="openvino"))
    machine.unprepared[BackendName.OPENVINO] = ModelError("can't protect")
    with pytest.raises(ModelError, match="can't protect"):
        selection.without_pictures(named, Precision.FP32, _INSTALLED)


@pytest.mark.parametrize("asked", list(Precision))
@pytest.mark.parametrize("spec", [_ROWS, _PICTURES], ids=["rows", "pictures"])
def test_a_file_in_int8_serves_as_it_is_on_the_fastest(
    bench: Bench,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    asked: Precision,
    spec: ModelSpec,
) -> None:
    machine.spec = dataclasses.replace(spec, quantized=True)
    wanted = dataclasses.replace(bench, settings=bench.settings.replace(precision=asked))
    measured: list[list[str]] = []

    def search(_: Bench, options: list[Candidate], *_rest: object) -> list[Row]:
        measured.append([option.name for option in options])
        return [Row(candidate=option) for option in reversed(options)]

    monkeypatch.setattr(selection, "search", search)
    chosen = selection.as_it_is(wanted, _INSTALLED)
    assert chosen.precision is Precision.INT8
    assert chosen.model.guard is None
    assert measured == ([["openvino int8", "onnxruntime int8"]] if spec is _PICTURES else [])
    fastest = BackendName.ONNXRUNTIME if spec is _PICTURES else BackendName.OPENVINO
    assert chosen.backend is fastest
    # A second start measures nothing.
    assert selection.as_it_is(wanted, _INSTALLED).backend is fastest
    assert len(measured) == (spec is _PICTURES)


def test_a_precision_that_a_file_in_int8_cannot_have_is_told(
    bench: Bench, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.spec = dataclasses.replace(_ROWS, quantized=True)
    for asked in (Precision.AUTO, Precision.INT8):
        settings = bench.settings.replace(precision=asked)
        selection.as_it_is(dataclasses.replace(bench, settings=settings), _INSTALLED)
    assert not caplog.messages
    settings = bench.settings.replace(precision=Precision.FP32)
    selection.as_it_is(dataclasses.replace(bench, settings=settings), _INSTALLED)
    assert "--precision fp32: rows.onnx is in INT8 already, and serves as it is" in caplog.text
