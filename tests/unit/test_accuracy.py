"""The precision guard's measures and verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral import accuracy
from corral.accuracy import AccuracyReport, Fidelity, Thresholds, compare, faults

_RANDOM = np.random.default_rng(1)


def _logits(pictures: int = 32, classes: int = 10) -> np.ndarray:
    """Every picture has one class that stands out."""
    logits = _RANDOM.normal(size=(pictures, classes)).astype(np.float32)
    logits[np.arange(pictures), np.arange(pictures) % classes] += 8
    return logits


def _fidelity(**changes: float | None) -> Fidelity:
    values = {"top1": 1.0, "cosine": 1.0, "snr_db": 40.0, **changes}
    return Fidelity(top1_all=1.0, pictures=32, decided=32, **values)  # type: ignore[arg-type]


def test_equal_logits_agree_in_everything() -> None:
    logits = _logits()
    found = compare(logits, logits)
    assert (found.top1, found.top1_all, found.cosine) == (1.0, 1.0, 1.0)
    assert found.snr_db >= 100
    assert faults(found, Thresholds(), synthetic=False) == []


def test_noise_of_a_tenth_is_20_db() -> None:
    logits = _logits(64, 100)
    noise = _RANDOM.normal(size=logits.shape).astype(np.float32)
    noise *= 0.1 * np.sqrt(np.square(logits).sum() / np.square(noise).sum())
    assert compare(logits, logits + noise).snr_db == pytest.approx(20.0, abs=0.01)


def test_only_decided_pictures_count_for_agreement() -> None:
    logits = _logits(40)
    logits[20:] = 0
    logits[20:, 3] = 0.01
    other = logits.copy()
    other[20:, 4] = 0.02
    found = compare(logits, other)
    assert found.decided == 20
    assert (found.top1, found.top1_all) == (1.0, 0.5)


def test_too_few_decided_pictures_say_nothing() -> None:
    found = compare(np.zeros((32, 1000), np.float32), np.zeros((32, 1000), np.float32))
    assert found.top1 is None
    assert faults(found, Thresholds(), synthetic=False) == []


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_agrees_with_nothing(broken: float) -> None:
    logits = _logits()
    found = compare(logits, np.full_like(logits, broken))
    assert (found.top1, found.cosine, found.snr_db) == (0.0, 0.0, 0.0)
    assert len(faults(found, Thresholds(), synthetic=False)) == 3


def test_mirrored_logits_fail() -> None:
    logits = _logits()
    found = compare(logits, -logits)
    assert found.cosine == pytest.approx(-1)
    assert found.snr_db < 0


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3\] against \[2, 3\]"):
        compare(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top1": 0.89}, "top-1 agreement 89.0% < 90.0%"),
        ({"cosine": 0.91}, "cosine 0.9100 < 0.92"),
        ({"snr_db": 8.44}, "SNR 8.4 dB < 8.5 dB"),
    ],
)
def test_each_measure_can_fail_alone(changes: dict[str, float], words: str) -> None:
    assert faults(_fidelity(**changes), Thresholds(), synthetic=False) == [words]


def test_synthetic_weights_have_no_labels_to_agree_on() -> None:
    assert faults(_fidelity(top1=0.0), Thresholds(), synthetic=True) == []
    assert faults(_fidelity(top1=0.0, cosine=0.5), Thresholds(), synthetic=True)


@pytest.mark.parametrize("shape", [(16,), (16, 1), (16, 4, 3, 3)], ids=str)
def test_what_is_no_score_of_classes_has_no_labels_and_is_compared(shape: tuple[int, ...]) -> None:
    answers = _RANDOM.normal(size=shape).astype(np.float32)
    same, other = compare(answers, answers), compare(answers, -answers)
    assert (same.top1, same.top1_all, same.decided, same.pictures) == (None, None, 0, 16)
    assert faults(same, Thresholds(), synthetic=False) == []
    assert same.cosine == 1.0
    assert other.cosine == pytest.approx(-1)
    assert len(faults(other, Thresholds(), synthetic=False)) == 2


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_where_fp32_is_no_number_nothing_agrees(broken: float) -> None:
    nothing = np.full((16, 10), broken, np.float32)
    found = compare(nothing, nothing)
    assert (found.cosine, found.snr_db) == (0.0, 0.0)
    assert len(faults(found, Thresholds(), synthetic=True)) == 2


@pytest.mark.parametrize("place", [0, 1])
def test_a_broken_answer_of_either_counts_against_its_picture_alone(place: int) -> None:
    exact = _logits(32)
    pair = [exact, exact.copy()]
    pair[place][:8, 3] = np.nan
    found = compare(*pair)
    assert found.top1_all == 0.75
    assert found.cosine == 0.75
    assert np.isfinite(found.snr_db)


def test_zeros_agree_with_zeros_and_with_nothing_else() -> None:
    zeros, ones = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    assert compare(zeros, zeros).cosine == 1.0
    assert compare(zeros, ones).cosine == 0.0
    assert compare(zeros, ones).snr_db < -100


def test_verdicts_and_sentences() -> None:
    passed = AccuracyReport(candidate="openvino int8", fidelity=_fidelity(), faults=[])
    warned = AccuracyReport(candidate="openvino int8", fidelity=_fidelity(), faults=["SNR low"])
    fell = AccuracyReport(
        candidate="openvino int8", fidelity=_fidelity(), faults=["SNR low"], fell_back=True
    )
    blind = AccuracyReport(candidate="openvino bf16", fidelity=None, faults=[])
    broke = AccuracyReport(
        candidate="openvino int8", fidelity=None, faults=["no such op"], fell_back=True
    )
    assert [r.verdict for r in (passed, warned, fell)] == ["passed", "failed", "fell back"]
    assert [r.verdict for r in (blind, broke)] == ["not compared", "fell back"]
    assert [r.passed for r in (passed, warned, fell, blind, broke)] == [True, *[False] * 4]
    assert "takes no pictures" in blind.sentence()
    assert broke.sentence() == ("openvino int8 cannot serve (no such op): FP32 serves in its place")
    assert "agrees with FP32" in passed.sentence()
    assert warned.sentence().endswith("it serves because it was asked for")
    assert fell.sentence().endswith("FP32 serves in its place")


@given(st.integers(0, 2**32 - 1), st.floats(0, 10), st.integers(1, 40), st.integers(2, 20))
def test_measures_stay_in_their_ranges(seed: int, noise: float, n: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    other = (logits + noise * random.normal(size=logits.shape)).astype(np.float32)
    found = compare(logits, other)
    assert -1 - 1e-9 <= found.cosine <= 1 + 1e-9
    assert found.top1_all is not None
    assert 0 <= found.top1_all <= 1
    assert found.top1 is None or (0 <= found.top1 <= 1 and found.decided >= accuracy.MIN_DECIDED)
    assert np.isfinite(found.snr_db)
