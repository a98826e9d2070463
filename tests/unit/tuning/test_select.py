"""What a search leaves behind: a choice that is remembered, or one that is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from corral.accuracy import Fidelity
from corral.artifacts import build as optimize
from corral.artifacts.store import Artefact
from corral.errors import ConfigError, ModelError, PassingError
from corral.models import registry
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.settings import BackendName, Precision, TorchMode
from corral.system.ingredients import ingredients_key
from corral.system.other_load import OtherLoad, is_doubtful
from corral.tensors import Datatype, Signature, TensorSpec
from corral.tuning import search_cache
from corral.tuning import select as selection
from corral.tuning.accuracy import NOTHING, NothingToCompareError
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Row, Search
from corral.tuning.fallback import judges_outputs
from corral.tuning.search import search

_FP32 = Candidate(backend=BackendName.OPENVINO, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)
_TORCH_FP32 = Candidate(backend=BackendName.TORCH, precision=Precision.FP32)
_FINE = Fidelity(
    loss=0.001, loss_most=0.002, loss_shown=0.002, cosine=0.99, snr_db=20, pictures=40, crops=400
)


_ROWS = ModelSpec(
    name="rows",
    recipe=Recipe(),
    classes=3,
    find_weights=lambda *_: Weights(source="file", description="", path=None, digest="1"),
    build=lambda _: None,
    shapes=Signature({Datatype.FP32: (5,)}, (3,)),
    file=Path("rows.onnx"),
)


def _key(bench: Bench, options: list[Candidate]) -> str:
    return ingredients_key(search_cache.search_ingredients(bench, options))


def _prepare(bench: Bench, candidate: Candidate, begin: float, end: float) -> Artefact:
    return Artefact(
        path=Path("model.xml"),
        model="resnet50",
        precision=candidate.precision.value,
        synthetic=True,
        weights="none",
        key="k",
    )


def _chosen(bench: Bench) -> selection.Selected:
    found = selection.search_again(bench, [_FP32, _INT8], _FP32, None)
    return selection.by_search(bench, found)


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
    chosen = _chosen(bench)
    assert chosen.precision is Precision.FP32
    profiles = list(Path(bench.settings.model.cache_dir).glob("profiles/*.json"))
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
    best, failed = search(bench, [_FP32, _INT8], _FP32, OtherLoad())
    assert best.candidate == _FP32
    assert (failed.excluded, failed.passing) == (str(error), passing)


def test_a_search_under_others_load_is_made_again_and_the_quietest_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three times at most: a machine may always be busy."""
    times = iter([(0.6, _INT8), (0.4, _FP32), (0.9, _INT8)])

    def search_under_load(
        _bench: Bench, _options: object, _reference: object, load: OtherLoad
    ) -> list[Row]:
        load.share, best = next(times)
        return [Row(candidate=best, fidelity=_FINE)]

    monkeypatch.setattr(selection, "search", search_under_load)
    monkeypatch.setattr(Bench, "prepare", _prepare)
    options = [_FP32, _INT8]

    def start() -> Search:
        found = search_cache.remembered(bench, options, _FP32)
        if found is None or is_doubtful(found):
            found = selection.search_again(bench, options, _FP32, found)
        return found

    assert [start().winner for _ in range(5)] == [_INT8, _FP32, _FP32, _FP32, _FP32]
    assert next(times, None) is None
    assert "others took 60 % of the CPUs" in caplog.text
    assert caplog.text.count("compares them again") == 2


def test_an_engine_that_is_installed_later_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _key(bench, [_FP32])
    known = {"openvino": "2026.4", "onnxruntime": "1.31"}
    monkeypatch.setattr(search_cache, "versions", lambda names: known)
    assert _key(bench, [_FP32]) != before


def _in_mode(bench: Bench, mode: TorchMode, backend: BackendName = BackendName.AUTO) -> Bench:
    settings = bench.settings.replace(torch_mode=mode, backend=backend)
    return dataclasses.replace(bench, settings=settings)


def test_what_was_measured_of_torch_holds_for_its_mode_alone(bench: Bench) -> None:
    files = {
        mode: _key(_in_mode(bench, mode), [_FP32, _TORCH_FP32])
        for mode in (TorchMode.AUTO, TorchMode.COMPILE, TorchMode.TRACED)
    }
    assert files[TorchMode.AUTO] == files[TorchMode.COMPILE]
    assert files[TorchMode.AUTO] != files[TorchMode.TRACED]
    # Without torch among the candidates the mode changes nothing.
    traced = _in_mode(bench, TorchMode.TRACED)
    assert _key(traced, [_FP32]) == _key(bench, [_FP32])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (TorchMode.AUTO, ["torch fp32", "torch int8"]),
        (TorchMode.COMPILE, ["torch fp32", "torch int8"]),
        (TorchMode.TRACED, ["torch fp32"]),
    ],
)
def test_int8_is_no_candidate_where_torchs_mode_cannot_run_it(
    bench: Bench, mode: TorchMode, expected: list[str]
) -> None:
    torch = _in_mode(bench, mode, BackendName.TORCH)
    found = selection.options_for(torch, Precision.AUTO, {"torch", "torchao"})
    assert [option.name for option in found] == expected


def test_a_mode_that_cannot_run_what_was_named_is_told_before_it_is_prepared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(bench: Bench, candidate: Candidate, begin: float, end: float) -> Artefact:
        raise AssertionError("prepared")

    monkeypatch.setattr(Bench, "prepare", prepare)
    settings = bench.settings.replace(
        backend=BackendName.TORCH,
        torch_mode=TorchMode.TRACED,
        precision=Precision.INT8,
    )
    with pytest.raises(ConfigError, match="--torch-mode traced: INT8 on torch runs in the mode"):
        selection.select(settings, bench.pen, {}, lambda phase, share: None)


@pytest.mark.parametrize(
    ("precision", "installed", "expected"),
    [
        (Precision.AUTO, {"torch", "torchao"}, ["torch fp32", "torch int8"]),
        (Precision.INT8, {"openvino", "torch", "torchao"}, ["torch int8"]),
        (Precision.INT8, {"onnxruntime", "onnx", "torch", "torchao"}, ["onnxruntime int8"]),
        (Precision.INT8, {"openvino"}, []),
    ],
)
def test_where_nothing_quick_can_do_it_everything_is_measured(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    installed: set[str],
    expected: list[str],
) -> None:
    monkeypatch.setattr(optimize, "check_engine", lambda settings, spec, precision, **_: None)
    auto = _in_mode(bench, TorchMode.AUTO)
    found = selection.options_for(auto, precision, installed)
    assert [option.name for option in found] == expected


@pytest.fixture
def rows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose model is a file that takes no pictures."""
    monkeypatch.setattr(registry, "get", lambda *_: _ROWS)
    monkeypatch.setattr(Bench, "prepare", _prepare)
    return bench


def test_bf16_that_cannot_be_compared_says_so(rows: Bench) -> None:
    report = selection.without_pictures(rows, Precision.BF16, {"openvino"}).model.guard
    assert report is not None
    assert (report.verdict, report.candidate) == ("not compared", "openvino bf16")
    assert selection.without_pictures(rows, Precision.FP32, {"openvino"}).model.guard is None


def _heads(monkeypatch: pytest.MonkeyPatch, datatype: Datatype, snr_db: float) -> None:
    """Makes the model one that takes pictures and has two outputs of a datatype."""
    outputs = tuple(TensorSpec(name, datatype, (4,)) for name in ("boxes", "scores"))
    shapes = {Datatype.FP32: (3, 8, 8), Datatype.UINT8: (8, 8, 3)}
    spec = dataclasses.replace(_ROWS, shapes=Signature(shapes, (4,), outputs=outputs))
    fidelity = Fidelity(cosine=0.5, snr_db=snr_db, pictures=40, crops=400, output="scores")
    monkeypatch.setattr(registry, "get", lambda *_: spec)
    monkeypatch.setattr(Bench, "prepare", _prepare)
    monkeypatch.setattr(selection, "measure_fidelity", lambda *_: fidelity)
    monkeypatch.setattr(optimize, "check_engine", lambda settings, spec, precision, **_: None)


@pytest.mark.parametrize(
    ("named", "snr_db", "outcome"),
    [
        (BackendName.AUTO, 30.0, (Precision.INT8, "passed")),
        (BackendName.AUTO, 10.0, (Precision.FP32, "fell back")),
        (BackendName.OPENVINO, 10.0, (Precision.INT8, "failed")),
    ],
)
def test_int8_of_several_outputs_is_judged(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    named: BackendName,
    snr_db: float,
    outcome: tuple[Precision, str],
) -> None:
    _heads(monkeypatch, Datatype.FP32, snr_db)
    asked = bench.settings.replace(backend=named, precision=Precision.INT8)
    bench = dataclasses.replace(bench, settings=asked)
    found = selection.several_outputs(bench, Precision.INT8, {"openvino", "nncf"})
    served, verdict = outcome
    assert found.precision is served
    report = found.model.guard
    assert report is not None
    assert (report.verdict, report.candidate) == (verdict, "openvino int8")
    assert "output scores" in report.sentence()


def test_outputs_without_floats_cannot_be_judged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _heads(monkeypatch, Datatype.FP32, 30.0)
    assert judges_outputs(bench)
    # Only the graph tells what integers are made of.
    _heads(monkeypatch, Datatype.INT64, 30.0)
    assert judges_outputs(bench)

    def nothing(*_: object) -> Fidelity:
        raise NothingToCompareError(NOTHING)

    monkeypatch.setattr(selection, "measure_fidelity", nothing)
    asked = bench.settings.replace(precision=Precision.INT8)
    bench = dataclasses.replace(bench, settings=asked)
    found = selection.several_outputs(bench, Precision.INT8, {"openvino", "nncf"})
    report = found.model.guard
    assert report is not None
    assert (found.precision, report.verdict) == (Precision.INT8, "not compared")
    assert report.sentence() == (
        "openvino int8 serves without a comparison with FP32: none of its outputs is a float, and "
        "no float that they are made of can be compared picture by picture"
    )


def test_a_file_without_pictures_runs_on_what_is_installed(
    rows: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize, "check_engine", lambda settings, spec, precision, **_: None)
    chosen = selection.without_pictures(rows, Precision.FP32, {"onnxruntime", "onnx"})
    assert chosen.backend is BackendName.ONNXRUNTIME
    assert selection.without_pictures(rows, Precision.FP32, set()).backend is BackendName.OPENVINO


def _remember(bench: Bench, content: object) -> None:
    ingredients = search_cache.search_ingredients(bench, [_FP32, _INT8])
    file = search_cache.searches(bench).file("resnet50-rti", ingredients)
    file.parent.mkdir(parents=True)
    entry = {"format": search_cache.SEARCH_FORMAT, "ingredients": ingredients, "content": content}
    file.write_bytes(msgspec.json.encode(entry))


def test_a_profile_from_before_is_read(bench: Bench) -> None:
    _remember(bench, {"winner": _FP32, "rows": [], "took_s": 1.0})
    found = search_cache.remembered(bench, [_FP32, _INT8], _FP32)
    assert found is not None
    assert found.winner == _FP32


@pytest.mark.parametrize(
    "content",
    [
        {"winner": _INT8, "rows": [Row(candidate=_INT8)]},
        {"winner": _INT8, "rows": []},
        {"winner": _INT8, "rows": [Row(candidate=_INT8, fidelity=_FINE, excluded="refused")]},
        {"winner": _TORCH_FP32, "rows": []},
        {"winner": "openvino"},
    ],
    ids=["not compared", "no rows", "refused", "a stranger", "no candidate"],
)
def test_a_profile_that_cannot_be_gone_by_is_made_again(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: dict[str, object],
) -> None:
    _remember(bench, content)
    assert search_cache.remembered(bench, [_FP32, _INT8], _FP32) is None
    assert "profiles" in caplog.text
    monkeypatch.setattr(selection, "search", lambda *_: [Row(candidate=_FP32)])
    monkeypatch.setattr(Bench, "prepare", _prepare)
    assert _chosen(bench).precision is Precision.FP32
    assert search_cache.remembered(bench, [_FP32, _INT8], _FP32) is not None
