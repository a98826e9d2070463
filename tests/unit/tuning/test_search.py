"""A search's parts: what the guard's result depends on and survives, and what is measured on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.accuracy import Fidelity
from corral.artifacts import build
from corral.artifacts.store import Artefact
from corral.backends.registry import ENGINES
from corral.errors import ModelError, PassingError
from corral.models import photos, registry
from corral.models.evaluation import HeldOut, guard_pictures
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Mode, Precision, Settings, TorchMode
from corral.system.other_load import OtherLoad
from corral.tensors import Datatype, Signature
from corral.tuning import accuracy as measuring
from corral.tuning import bench as trial_bench
from corral.tuning import search, trial_worker
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate
from corral.tuning.trial_worker import TrialOrder

_FP32 = Candidate(backend=BackendName.TORCH, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.TORCH, precision=Precision.INT8)
_BF16 = Candidate(backend=BackendName.TORCH, precision=Precision.BF16)
_LOGITS = np.eye(10, dtype=np.float32) * 9


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        settings=Settings.flat(weights="synthetic", cache_dir=str(tmp_path), mode=Mode.THROUGHPUT),
        pen=PlannedWorker(id=0, cpus=[0], cores=1, memory_node=None, env={}),
        environ={},
        isa=frozenset({"avx2"}),
        cpu_model="a CPU",
        progress=lambda phase, share: None,
    )


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops that cost nothing: each is filled with its number and one."""

    def crops(purpose: str, count: int, size: int) -> NDArray[np.uint8]:
        assert purpose == photos.GUARD
        numbers = np.arange(1, count + 1, dtype=np.uint8)
        return np.broadcast_to(numbers[:, None, None, None], (count, size, size, 3))

    monkeypatch.setattr(photos, "crops", crops)


def _made(precision: str) -> Artefact:
    return Artefact(
        path=Path("model"),
        model="resnet50",
        precision=precision,
        synthetic=True,
        weights="none",
        key=precision,
    )


def _measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[Fidelity, int]:
    """The guard's result on BF16, and how many answers were asked of engines for it."""
    asked = []

    def answers(*arguments: object) -> dict[str, NDArray[np.float32]]:
        asked.append(arguments)
        held_out = arguments[-1]
        assert isinstance(held_out, HeldOut)
        return {"output": np.resize(_LOGITS, (len(held_out.pictures), 10))}

    monkeypatch.setattr(measuring, "_answers", answers)
    # Kept for the candidates of one search.
    bench.references.clear()
    found = measuring.measure_fidelity(bench, _BF16, _made("bf16"), _FP32, _made("fp32"))
    return found, len(asked)


def _entry(bench: Bench) -> Path:
    """The one file of the guard's cache."""
    (entry,) = (Path(bench.settings.model.cache_dir) / "guard").iterdir()
    return entry


def test_the_guards_result_is_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, asked = _measured(bench, monkeypatch)
    assert asked == 2
    assert _measured(bench, monkeypatch) == (first, 0)


def test_the_guards_result_holds_for_one_mode_of_torch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _measured(bench, monkeypatch)
    settings = bench.settings.replace(torch_mode=TorchMode.TRACED)
    traced = dataclasses.replace(bench, settings=settings)
    assert _measured(traced, monkeypatch)[1] == 2


def test_the_guards_result_holds_for_one_revision_of_the_engines_backend(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _measured(bench, monkeypatch)
    torch = dataclasses.replace(ENGINES[BackendName.TORCH], revision=99)
    monkeypatch.setattr(measuring, "ENGINES", {**ENGINES, BackendName.TORCH: torch})
    assert _measured(bench, monkeypatch)[1] == 2


@pytest.mark.parametrize(
    ("shape", "crops"),
    [
        # Ten of each of 40 photographs.
        ((1000,), 400),
        ((10, 4), 400),
        # 5.1 MB an answer, 256 MB together.
        ((1280, 1000), 50),
        # Each photograph counts once all the same.
        ((5000, 5000), 40),
    ],
)
def test_large_answers_that_are_no_classes_are_compared_on_fewer_crops(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], crops: int
) -> None:
    monkeypatch.setattr(photos, "crops", lambda *_: np.zeros((1, 4, 4, 3), np.uint8))
    signature = Signature({Datatype.FP32: (3, 224, 224)}, shape)
    held_out = measuring._held_out(bench, signature, synthetic=False)
    assert len(held_out.pictures) == crops
    assert len(np.unique(held_out.pictures)) == 40


def test_a_result_of_an_older_format_is_measured_again_and_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measuring, "FIDELITY_FORMAT", 0)
    _measured(bench, monkeypatch)
    monkeypatch.undo()
    monkeypatch.setattr(photos, "crops", lambda *_: np.zeros((1, 4, 4, 3), np.uint8))
    assert _measured(bench, monkeypatch)[1] == 2
    assert _measured(bench, monkeypatch)[1] == 0
    assert json.loads(_entry(bench).read_text())["format"] == measuring.FIDELITY_FORMAT
    assert not caplog.messages


def _garbage(entry: Path) -> None:
    entry.write_bytes(b'{"cosine": "\xff"}')


def _nothing(entry: Path) -> None:
    entry.write_bytes(b"")


def _null(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes().replace(b"200.0", b"null"))


def _folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


@pytest.mark.parametrize("damage", [_garbage, _nothing, _null, _folder])
def test_a_result_that_cannot_be_read_is_measured_again_with_a_warning(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    first, _ = _measured(bench, monkeypatch)
    damage(_entry(bench))
    assert _measured(bench, monkeypatch) == (first, 2)
    assert "measured again" in caplog.text


def test_a_cache_that_is_no_folder_is_a_warning(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(bench.settings.model.cache_dir) / "guard").write_text("")
    assert _measured(bench, monkeypatch)[1] == 2
    assert "is not cached" in caplog.text


@pytest.mark.parametrize("native", [Datatype.FP32, Datatype.UINT8])
def test_guard_pictures_are_what_the_network_itself_takes(native: Datatype) -> None:
    spec = registry.get("resnet50")
    shape = spec.signature.input_shapes[native]
    own = dataclasses.replace(spec, shapes=Signature({native: shape}, (1000,)))
    found = guard_pictures(own, 3)
    assert found.shape == (3, *shape)
    assert found.dtype == native.numpy


class _Trial:
    """A worker that takes a moment for everything and remembers what it was given."""

    def __init__(self, sizes: list[int]) -> None:
        self.given: NDArray[np.generic] | None = None
        self.sizes = sizes

    def fill(self, inputs: NDArray[np.generic], datatype: Datatype) -> None:
        assert datatype is Datatype.FP32
        self.given = inputs

    def run(self, datatype: Datatype, count: int) -> float:
        assert self.given is not None, "measured on zeros"
        return 0.01 * count


def test_candidates_are_measured_on_pictures(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[_Trial] = []

    @contextlib.contextmanager
    def start(order: TrialOrder, environ: Mapping[str, str]) -> Iterator[_Trial]:
        if order.settings.engine.precision is Precision.BF16:
            raise ModelError("no such op")
        # The graph of one of them takes no batch.
        one_by_one = order.settings.engine.precision is Precision.INT8
        started.append(_Trial([1] if one_by_one else [1, 8]))
        yield started[-1]

    monkeypatch.setattr(trial_worker, "start", start)
    monkeypatch.setattr(search, "_TURN_S", 0.0)
    ready = {one: _made(one.precision.value) for one in (_FP32, _BF16, _INT8)}
    found = search.measure_speeds(bench, ready)
    assert found[_FP32] == {1: 0.01, 8: 0.08}
    assert found[_INT8] == {1: 0.01}
    assert isinstance(found[_BF16], ModelError)
    assert len(started) == 2
    for trial in started:
        assert trial.given is not None
        assert trial.given.shape == (8, 3, 224, 224)
        assert len(np.unique(trial.given[:, 0, 0, 0])) == 8


@pytest.mark.parametrize(
    ("asked", "excluded"), [(Precision.AUTO, "no layer stays in INT8"), (Precision.INT8, "")]
)
def test_what_is_int8_by_name_alone_is_taken_by_name_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, asked: Precision, excluded: str
) -> None:
    def prepare(settings: Settings, progress: object, isa: object) -> Artefact:
        int8 = settings.engine.precision is Precision.INT8
        remark = "no layer stays in INT8" if int8 else ""
        return dataclasses.replace(_made(settings.engine.precision.value), remark=remark)

    fidelity = Fidelity(cosine=1.0, pictures=40, snr_db=60.0)
    monkeypatch.setattr(build, "prepare", prepare)
    monkeypatch.setattr(search, "measure_fidelity", lambda *_: fidelity)
    monkeypatch.setattr(
        search, "measure_speeds", lambda _, ready: {one: {1: 0.01, 8: 0.08} for one in ready}
    )
    asking = dataclasses.replace(bench, settings=bench.settings.replace(precision=asked))
    rows = search.search(asking, [_FP32, _INT8], _FP32, OtherLoad())
    assert {row.candidate: row.excluded for row in rows} == {_FP32: "", _INT8: excluded}
    told = {row.candidate: row.excluded or row.remark for row in rows}
    assert told == {_FP32: "", _INT8: "no layer stays in INT8"}


@pytest.mark.parametrize(("left", "apart"), [(None, 0), (10**10, 0), (700 * 10**6, 1)])
def test_where_memory_is_short_a_process_of_its_own_prepares(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, left: int | None, apart: int
) -> None:
    order: list[str] = []

    def prepare(settings: Settings, progress: object, isa: object) -> Artefact:
        order.append(f"find {settings.engine.precision}")
        return _made("int8")

    monkeypatch.setattr(build, "prepare", prepare)
    monkeypatch.setattr(trial_bench, "memory_left", lambda: left)
    making = dataclasses.replace(
        bench, apart=lambda settings: order.append(f"make {settings.engine.precision}")
    )
    making.prepare(_INT8, 0.0, 1.0)
    assert order == ["make int8"] * apart + ["find int8"]


@pytest.mark.parametrize(("left", "at_once"), [(None, 2), (10**9, 2), (300 * 10**6, 1)])
def test_where_memory_is_short_one_candidate_is_up_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, left: int | None, at_once: int
) -> None:
    up: list[int] = []
    most: list[int] = []

    @contextlib.contextmanager
    def start(order: TrialOrder, environ: Mapping[str, str]) -> Iterator[_Trial]:
        up.append(1)
        most.append(len(up))
        yield _Trial([1, 8])
        up.pop()

    monkeypatch.setattr(trial_worker, "start", start)
    monkeypatch.setattr(search, "_TURN_S", 0.0)
    monkeypatch.setattr(search, "memory_left", lambda: left)
    found = search.measure_speeds(bench, {one: _made("x") for one in (_FP32, _INT8)})
    assert found == {one: {1: 0.01, 8: 0.08} for one in (_FP32, _INT8)}
    assert max(most) == at_once


@pytest.mark.parametrize("alone_too", [False, True])
def test_what_is_killed_beside_others_is_measured_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, alone_too: bool
) -> None:
    up: list[int] = []

    @contextlib.contextmanager
    def start(order: TrialOrder, environ: Mapping[str, str]) -> Iterator[_Trial]:
        if order.settings.engine.precision is Precision.INT8 and (up or alone_too):
            raise PassingError("killed, probably out of memory: the cgroup's limit is 700 MB")
        up.append(1)
        yield _Trial([1, 8])
        up.pop()

    monkeypatch.setattr(trial_worker, "start", start)
    monkeypatch.setattr(search, "_TURN_S", 0.0)
    monkeypatch.setattr(search, "memory_left", lambda: None)
    found = search.measure_speeds(bench, {one: _made("x") for one in (_FP32, _INT8)})
    assert found[_FP32] == {1: 0.01, 8: 0.08}
    assert isinstance(found[_INT8], PassingError) is alone_too


def test_weights_count_for_the_memory_that_workers_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "memory_left", lambda: 300 * 10**6)
    made = dataclasses.replace(_made("fp32"), path=tmp_path / "model.xml")
    made.path.touch()
    assert search.memory_for([made])
    with (tmp_path / "model.bin").open("wb") as weights:
        weights.truncate(100 * 10**6)
    assert not search.memory_for([made])


def test_a_title_has_the_mode_of_torch_alone(bench: Bench) -> None:
    assert bench.title(_INT8) == "torch int8 compile"
    assert bench.title(Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)) == (
        "openvino int8"
    )
