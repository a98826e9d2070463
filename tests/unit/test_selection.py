"""What a search leaves behind: a choice that is remembered, or one that is not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from corral import selection
from corral.artefact import Artefact
from corral.choice import Candidate, Row
from corral.config import BackendName, Precision, Settings
from corral.errors import ModelError, PassingError
from corral.plan import PlannedWorker
from corral.search import Bench, search

_FP32 = Candidate(backend=BackendName.OPENVINO, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        settings=Settings(weights="synthetic", cache_dir=str(tmp_path), offline=True),
        pen=PlannedWorker(id=0, cpus=[0], cores=1, memory_node=None, env={}),
        environ={},
        isa=frozenset({"avx2"}),
        cpu_model="a CPU",
        progress=lambda phase, share: None,
    )


def _prepare(bench: Bench, candidate: Candidate, begin: float, end: float) -> Artefact:
    return Artefact(
        path=Path("model.xml"),
        model="resnet50",
        precision=candidate.precision.value,
        synthetic=True,
        weights="none",
        key="k",
    )


@pytest.mark.parametrize("passing", [False, True])
def test_a_failure_that_may_pass_is_not_remembered(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    passing: bool,
) -> None:
    rows = [Row(candidate=_FP32), Row(candidate=_INT8, excluded="it was killed", passing=passing)]
    monkeypatch.setattr(selection, "search", lambda *_: rows)
    monkeypatch.setattr(Bench, "prepare", _prepare)
    chosen = selection._searched(bench, [_FP32, _INT8], _FP32, again=False)
    assert chosen.precision is Precision.FP32
    profiles = list(Path(bench.settings.cache_dir).glob("profiles/*.json"))
    assert len(profiles) == (0 if passing else 1)
    assert ("the next start tries again: it was killed" in caplog.text) is passing


@pytest.mark.parametrize(
    ("error", "passing"), [(PassingError("out of memory"), True), (ModelError("no such op"), False)]
)
def test_a_search_tells_what_may_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: ModelError, passing: bool
) -> None:
    def prepare(bench: Bench, candidate: Candidate, begin: float, end: float) -> Artefact:
        if candidate == _INT8:
            raise error
        return _prepare(bench, candidate, begin, end)

    monkeypatch.setattr(Bench, "prepare", prepare)
    best, failed = search(bench, [_FP32, _INT8], _FP32)
    assert best.candidate == _FP32
    assert (failed.excluded, failed.passing) == (str(error), passing)


def test_an_engine_that_is_installed_later_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = selection._profile_file(bench, [_FP32])
    known = {"openvino": "2026.4", "onnxruntime": "1.31"}
    monkeypatch.setattr(selection, "versions", lambda names: known)
    assert selection._profile_file(bench, [_FP32]) != before


def test_a_profile_from_before_is_read(bench: Bench, tmp_path: Path) -> None:
    old = {"winner": msgspec.to_builtins(_FP32), "rows": [], "took_s": 1.0}
    file = tmp_path / "old.json"
    file.write_bytes(msgspec.json.encode(old))
    found = selection._load(file)
    assert found is not None
    assert found.winner == _FP32
