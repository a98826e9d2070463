"""Who may serve, and who wins."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from corral.accuracy import Fidelity, Thresholds
from corral.settings import BackendName, Mode, Precision, Settings
from corral.tuning.candidates import Candidate, Row, Search, candidates, guard_report, rank
from corral.tuning.report import render

_ALL = {"openvino", "nncf"}
_FP32 = Candidate(backend=BackendName.OPENVINO, precision=Precision.FP32)
_INT8 = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)
_AVX2, _AMX = frozenset({"avx2"}), frozenset({"avx2", "amx_bf16"})


def _names(precision: Precision, isa: frozenset[str], installed: set[str]) -> list[str]:
    found = candidates(BackendName.AUTO, precision, isa, installed)
    return [c.name for c in found if c.backend is BackendName.OPENVINO]


def test_bf16_needs_a_cpu_that_has_it_and_int8_needs_nncf() -> None:
    assert _names(Precision.AUTO, _AVX2, _ALL) == ["openvino fp32", "openvino int8"]
    assert "openvino bf16" in _names(Precision.AUTO, _AMX, _ALL)
    assert _names(Precision.AUTO, _AVX2, {"openvino"}) == ["openvino fp32"]
    assert _names(Precision.AUTO, _AVX2, set()) == []


def test_engines_that_take_minutes_are_measured_when_named_or_told_to() -> None:
    installed = {*_ALL, "torch", "torchao", "onnxruntime", "onnx"}

    def engines(backend: BackendName, *, every: bool = False) -> set[BackendName]:
        found = candidates(backend, Precision.AUTO, _AVX2, installed, every=every)
        return {candidate.backend for candidate in found}

    assert engines(BackendName.AUTO) == {BackendName.OPENVINO, BackendName.ONNXRUNTIME}
    assert BackendName.TORCH in engines(BackendName.AUTO, every=True)
    assert engines(BackendName.TORCH) == {BackendName.TORCH}
    assert BackendName.IPEX not in engines(BackendName.AUTO, every=True)


def test_int8_of_both_quick_engines_is_measured() -> None:
    installed = {*_ALL, "onnxruntime", "onnx"}
    found = candidates(BackendName.AUTO, Precision.INT8, _AVX2, installed)
    assert [c.name for c in found] == ["openvino int8", "onnxruntime int8"]


def test_a_named_precision_is_the_only_one() -> None:
    assert _names(Precision.INT8, _AVX2, _ALL) == ["openvino int8"]


def test_a_named_backend_that_is_missing_stays_so_that_it_can_say_so() -> None:
    found = candidates(BackendName.OPENVINO, Precision.FP32, _AVX2, set())
    assert found == [_FP32]


def test_rti_goes_by_the_batch_of_one_and_throughput_by_images() -> None:
    quick = Row(candidate=_FP32, images_per_s=20, p50_ms=10)
    broad = Row(candidate=_INT8, images_per_s=40, p50_ms=12, batch=8)
    assert rank([broad, quick], Mode.RTI)[0] is quick
    assert rank([quick, broad], Mode.THROUGHPUT)[0] is broad


def test_the_excluded_come_last_and_fp32_wins_a_tie() -> None:
    fast = Row(candidate=_INT8, images_per_s=99, p50_ms=1, excluded="the guard refuses it")
    slow = Row(candidate=_FP32, images_per_s=1, p50_ms=99)
    assert rank([fast, slow], Mode.RTI) == [slow, fast]
    tie = [Row(candidate=_FP32, p50_ms=5), Row(candidate=_INT8, p50_ms=5)]
    assert rank(tie, Mode.RTI)[0].candidate == _FP32


def test_margin_over_the_runner_up_is_said() -> None:
    rows = [
        Row(candidate=_INT8, images_per_s=40, p50_ms=25),
        Row(candidate=_FP32, images_per_s=20, p50_ms=50),
    ]
    found = Search(winner=_INT8, rows=rows)
    assert found.margin == 1.0
    assert "+100% over openvino fp32" in found.sentence()


def test_one_that_is_alone_has_no_margin_and_the_refused_is_named() -> None:
    refused = Row(candidate=_INT8, excluded="the guard refuses it (SNR 3.0 dB < 10 dB)")
    found = Search(winner=_FP32, rows=[Row(candidate=_FP32), refused])
    assert found.margin is None
    assert "only one" in found.sentence()
    assert "SNR 3.0 dB" in found.sentence()


def test_table_names_candidates_and_reasons() -> None:
    rows = [Row(candidate=_FP32, images_per_s=20, p50_ms=50), Row(candidate=_INT8, excluded="no")]
    stream = io.StringIO()
    Console(file=stream, width=120).print(render(Search(winner=_FP32, rows=rows), Settings()))
    text = stream.getvalue()
    assert "openvino int8" in text
    assert "50.0 ms" in text


_ORT_INT8 = Candidate(backend=BackendName.ONNXRUNTIME, precision=Precision.INT8)
_GOOD = Fidelity(loss=0.001, loss_most=0.002, loss_shown=0.002, cosine=0.99, snr_db=20, pictures=40)
_BAD = msgspec.structs.replace(_GOOD, loss_most=0.03, loss_shown=0.03)
_EXACT = Row(candidate=_FP32, p50_ms=50, images_per_s=20)
_FINE = Row(candidate=_INT8, p50_ms=60, images_per_s=15, fidelity=_GOOD)
_REFUSED = Row(candidate=_ORT_INT8, fidelity=_BAD, excluded="the guard refuses it")
#: it passed the guard and died afterwards
_DIED = Row(candidate=_INT8, fidelity=_GOOD, excluded="openvino int8 died", passing=True)
_FAILED = Row(candidate=_INT8, excluded="resnet50 cannot be prepared: no such op")


def _verdict(winner: Candidate, rows: list[Row], asked: Precision) -> tuple[str, str] | None:
    """The guard's report of a search: candidate and verdict."""
    found = guard_report(Search(winner=winner, rows=rows), asked, Thresholds(), synthetic=False)
    return None if found is None else (found.candidate, found.verdict)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([_EXACT], None),
        # INT8 that passes and is slower: nothing fell back, whatever became of another one.
        ([_EXACT, _FINE], None),
        ([_EXACT, _FINE, _REFUSED], None),
        ([_EXACT, _REFUSED], ("onnxruntime int8", "fell back")),
        ([_EXACT, _DIED, _REFUSED], ("onnxruntime int8", "fell back")),
        # Nobody asked for INT8, and the guard has nothing against it.
        ([_EXACT, _DIED], None),
        ([_EXACT, _FAILED], None),
    ],
)
def test_fp32_fell_back_if_the_guard_refused_all_else_that_ran(
    rows: list[Row], expected: tuple[str, str] | None
) -> None:
    assert _verdict(_FP32, rows, Precision.AUTO) == expected


@pytest.mark.parametrize("row", [_DIED, _FAILED])
def test_int8_that_was_asked_for_and_failed_fell_back_for_that_reason(row: Row) -> None:
    assert _verdict(_FP32, [row], Precision.INT8) == ("openvino int8", "fell back")
    found = Search(winner=_FP32, rows=[row])
    report = guard_report(found, Precision.INT8, Thresholds(), synthetic=False)
    assert report is not None
    assert report.sentence() == (
        f"openvino int8 cannot serve ({row.excluded}): FP32 serves in its place"
    )


def test_a_winner_below_fp32_passed() -> None:
    assert _verdict(_INT8, [_FINE, _EXACT], Precision.AUTO) == ("openvino int8", "passed")
