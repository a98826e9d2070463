"""A start where less is installed than where the model was prepared, as in an image."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from corral.accuracy import Fidelity
from corral.artifacts import build
from corral.artifacts.order import ABSENT
from corral.artifacts.store import Artefact
from corral.settings import BackendName, Precision
from corral.tuning import accuracy as measuring
from corral.tuning import installed, search_cache
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Row, Search
from corral.tuning.curves import widths
from corral.tuning.select import options_for

_FP32 = Candidate(backend=BackendName.OPENVINO, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)
_ORT = Candidate(backend=BackendName.ONNXRUNTIME, precision=Precision.FP32)
_FINE = Fidelity(
    loss=0.001, loss_most=0.002, loss_shown=0.002, cosine=0.99, snr_db=20, pictures=40, crops=400
)
_MAKER = {"openvino": "2026.4", "torch": "2.13", "nncf": "3.0"}
_IMAGE = {"openvino": "2026.4", "torch": ABSENT, "nncf": ABSENT}

Change = Callable[[Bench], Bench]


def _made(precision: str) -> Artefact:
    return Artefact(
        path=Path("model.xml"), model="resnet50", precision=precision,
        synthetic=True, weights="none", key=precision,
    )  # fmt: skip


def _has(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    for module in (measuring, search_cache):
        monkeypatch.setattr(module, "versions", lambda _names: versions)


def _wider(bench: Bench) -> Bench:
    return dataclasses.replace(bench, pen=msgspec.structs.replace(bench.pen, cores=2))


_OTHER_CPUS: list[Change] = [
    lambda bench: dataclasses.replace(bench, cpu_model="another CPU"),
    lambda bench: dataclasses.replace(bench, isa=bench.isa | {"avx512f"}),
]


def _verdict(bench: Bench, monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> Fidelity | None:
    """measure_fidelity's; None where it wanted to measure, and ``answers`` lets it not."""

    class Measured(Exception):
        pass

    def measure(*_: object, **__: object) -> None:
        raise Measured

    monkeypatch.setattr(measuring, "_held_out", measure)
    if answers:
        made, exact = _made("int8"), _made("fp32")
        wanted = measuring.fidelity_ingredients(bench, _INT8, made, _FP32, exact)
        measuring._fidelities(bench).write("resnet50", wanted, _FINE)
    try:
        return measuring.measure_fidelity(bench, _INT8, _made("int8"), _FP32, _made("fp32"))
    except Measured:
        return None


@pytest.mark.parametrize("change", [lambda bench: bench, _wider], ids=["the same", "wider"])
def test_a_verdict_of_the_build_stage_counts_in_the_image(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    _has(monkeypatch, _MAKER)
    assert _verdict(bench, monkeypatch, answers=True) == _FINE
    _has(monkeypatch, _IMAGE)
    assert _verdict(change(bench), monkeypatch, answers=False) == _FINE


@pytest.mark.parametrize("change", _OTHER_CPUS, ids=["CPU", "flags"])
def test_on_another_cpu_a_verdict_is_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    _has(monkeypatch, _MAKER)
    assert _verdict(bench, monkeypatch, answers=True) == _FINE
    _has(monkeypatch, _IMAGE)
    assert _verdict(change(bench), monkeypatch, answers=False) is None
    _has(monkeypatch, {**_IMAGE, "openvino": "2026.5"})
    assert _verdict(bench, monkeypatch, answers=False) is None


def _remember(bench: Bench) -> None:
    """What a build stage finds out: another engine is the fastest there."""
    rows = [Row(candidate=_ORT), Row(candidate=_INT8, fidelity=_FINE), Row(candidate=_FP32)]
    search_cache.remember(bench, [_FP32, _INT8, _ORT], Search(winner=_ORT, rows=rows))


@pytest.mark.parametrize("change", [lambda bench: bench, _wider], ids=["the same", "wider"])
def test_a_search_of_the_build_stage_counts_in_the_image(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    _has(monkeypatch, _MAKER)
    _remember(bench)
    _has(monkeypatch, _IMAGE)
    found = search_cache.remembered(change(bench), [_FP32, _INT8], _FP32)
    assert found is not None
    assert found.winner == _INT8
    assert [row.candidate for row in found.rows] == [_INT8, _FP32]
    # What was not compared there is not known here.
    torch = Candidate(backend=BackendName.TORCH, precision=Precision.FP32)
    assert search_cache.remembered(bench, [_FP32, torch], _FP32) is None


@pytest.mark.parametrize("change", _OTHER_CPUS, ids=["CPU", "flags"])
def test_on_another_cpu_engines_are_compared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    _has(monkeypatch, _MAKER)
    _remember(bench)
    _has(monkeypatch, _IMAGE)
    assert search_cache.remembered(change(bench), [_FP32, _INT8], _FP32) is None


def test_where_nothing_is_absent_a_search_is_of_what_there_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _has(monkeypatch, _MAKER)
    _remember(bench)
    assert search_cache.remembered(bench, [_FP32, _INT8], _FP32) is None
    assert search_cache.remembered(_wider(bench), [_FP32, _INT8, _ORT], _FP32) is None


def test_a_search_of_which_nothing_runs_here_says_nothing() -> None:
    failed = Row(candidate=_FP32, excluded="no such op")
    found = Search(winner=_ORT, rows=[Row(candidate=_ORT), failed])
    assert search_cache.narrowed(found, [_FP32]) is None


@pytest.mark.parametrize("made", [True, False])
def test_what_is_made_needs_no_maker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, made: bool
) -> None:
    """INT8 on OpenVINO is made by nncf, and runs without."""
    find_spec = importlib.util.find_spec
    here = {"openvino"}
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: find_spec("sys") if name in here else None,
    )
    monkeypatch.setattr(build, "is_made", lambda *_: made)
    found = installed.what_is_installed(bench)
    assert found == {"openvino", *(["nncf"] if made else [])}
    names = [option.name for option in options_for(bench, Precision.AUTO, found)]
    assert names == ["openvino fp32", *(["openvino int8"] if made else [])]


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_a_curve_for_every_width_that_a_container_may_have(cores: int, expected: list[int]) -> None:
    assert widths(cores) == expected
