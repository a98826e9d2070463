"""The precision guard's measures and verdicts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.accuracy import (
    AccuracyReport,
    Fidelity,
    Thresholds,
    compare,
    compare_outputs,
    describe,
    faults,
    why_noise,
)
from corral.accuracy.bound import most_of_a_count

_RANDOM = np.random.default_rng(1)


def _logits(pictures: int = 32, classes: int = 10) -> np.ndarray:
    """Every picture has one class that stands out."""
    logits = _RANDOM.normal(size=(pictures, classes)).astype(np.float32)
    logits[np.arange(pictures), np.arange(pictures) % classes] += 8
    return logits


def _fidelity(**changes: float | None) -> Fidelity:
    values = {"loss": 0.001, "loss_most": 0.002, "cosine": 1.0, "snr_db": 40.0, **changes}
    values.setdefault("loss_shown", values["loss_most"])
    return Fidelity(top1=1.0, pictures=40, crops=400, **values)  # type: ignore[arg-type]


def test_equal_logits_agree_in_everything() -> None:
    logits = _logits()
    found = compare(logits, logits)
    assert (found.loss, found.loss_most, found.top1, found.kl) == (0.0, 0.0, 1.0, 0.0)
    assert found.cosine == 1.0
    assert found.snr_db >= 100
    assert faults(found, Thresholds(), synthetic=False) == []


def test_noise_of_a_tenth_is_20_db() -> None:
    logits = _logits(64, 100)
    noise = _RANDOM.normal(size=logits.shape).astype(np.float32)
    noise *= 0.1 * np.sqrt(np.square(logits).sum() / np.square(noise).sum())
    assert compare(logits, logits + noise).snr_db == pytest.approx(20.0, abs=0.01)


def test_a_flip_costs_what_fp32_thinks_that_it_costs() -> None:
    reference = np.log(np.tile(np.array([[0.38, 0.36, 0.26]], np.float32), (40, 1)))
    candidate = reference.copy()
    candidate[:10, 1] = reference[:10, 0] + 0.1
    found = compare(reference, candidate)
    assert found.accuracy == pytest.approx(0.38)
    assert found.loss == pytest.approx(10 / 40 * 0.02 / 0.38, rel=1e-4)
    assert found.top1 == 0.75


def test_probabilities_count_as_they_are() -> None:
    reference = np.tile(np.array([[0.9, 0.1]], np.float32), (40, 1))
    candidate = reference.copy()
    candidate[0] = [0.1, 0.9]
    found = compare(reference, candidate)
    assert found.accuracy == pytest.approx(0.9)
    assert found.loss == pytest.approx(0.8 / 0.9 / 40, rel=1e-4)


def test_percentages_are_probabilities() -> None:
    reference = np.tile(np.array([[38, 36, 26]], np.float32), (40, 1))
    candidate = reference.copy()
    candidate[:10] = [36, 38, 26]
    found = compare(reference, candidate)
    assert found.accuracy == pytest.approx(0.38)
    assert found.loss == pytest.approx(10 / 40 * 0.02 / 0.38, rel=1e-4)


def _bf16(values: np.ndarray) -> np.ndarray:
    """Rounded as a cast to BF16 does."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def test_probabilities_that_are_rounded_to_bf16_are_probabilities() -> None:
    shares = np.random.default_rng(3).dirichlet(np.ones(30), 400).astype(np.float32)
    shares[np.arange(400), np.arange(400) % 30] += 1
    shares = _bf16(shares / 2)
    assert np.abs(shares.sum(axis=1, dtype=np.float64) - 1).max() > 1e-3
    found = compare(shares, shares)
    assert found.accuracy == pytest.approx(float(shares.max(axis=1).mean()))
    # The candidate's own sums say nothing else of what they are.
    exact = np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)
    assert compare(exact, exact * np.float32(1.02)).kl == pytest.approx(0.0, abs=0.03)


def test_of_classes_that_do_not_exclude_one_another_the_noise_counts() -> None:
    reference = (1 / (1 + np.exp(-_logits(40)))).astype(np.float32)
    candidate = np.clip(reference + 0.2 * np.sign(reference - 0.5), 0, 1).astype(np.float32)
    found = compare(reference, candidate)
    assert (found.loss, found.top1) == (None, None)
    assert found.snr_db < 20
    assert faults(found, Thresholds(), synthetic=False)
    # Labels tell what is right, whatever the scores are.
    assert compare(reference, candidate, labels=reference.argmax(axis=1)).loss is not None


def test_labels_count_right_answers() -> None:
    reference = _logits(100)
    labels = reference.argmax(axis=1)
    labels[:20] = (labels[:20] + 1) % 10
    candidate = reference.copy()
    # Two answers that were right are lost, and one that was wrong is right.
    candidate[[50, 51]] = np.roll(reference[[50, 51]], 1, axis=1)
    candidate[0] = np.roll(reference[0], 1)
    found = compare(reference, candidate, labels=labels)
    assert (found.labelled, found.accuracy) == (True, 0.8)
    assert found.loss == pytest.approx(1 / 80)
    assert found.loss is not None and found.loss_most is not None
    assert found.loss_most > found.loss
    assert describe(found).startswith("loss 1.25% (at most ")


def test_crops_of_one_picture_are_no_evidence_of_their_own() -> None:
    reference = np.tile(_logits(40), (10, 1))
    pictures = np.arange(400) % 40
    one_picture, many = reference.copy(), reference.copy()
    one_picture[pictures == 7] = np.roll(one_picture[pictures == 7], 1, axis=1)
    scattered = np.arange(10) * 41
    many[scattered] = np.roll(many[scattered], 1, axis=1)
    together = compare(reference, one_picture, pictures)
    apart = compare(reference, many, pictures)
    assert together.loss == pytest.approx(apart.loss, abs=0.002)
    assert together.loss_most is not None and apart.loss_most is not None
    assert together.loss_most > 1.3 * apart.loss_most
    assert (together.pictures, together.crops) == (40, 400)


def test_the_bound_holds_19_times_in_20() -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(100):
        lost = random.random((60, 1)) < 0.2
        flips = lost & (random.random((60, 5)) < 0.5)
        reference = np.zeros((300, 2), np.float32)
        reference[:, 0] = 4
        candidate = reference.copy()
        candidate[flips.ravel()] = candidate[flips.ravel()][:, ::-1]
        found = compare(reference, candidate, np.repeat(np.arange(60), 5))
        sure = float(1 / (1 + np.exp(-4)))
        assert found.loss_most is not None
        held += found.loss_most >= 0.1 * (2 * sure - 1) / sure
    assert held >= 88


def test_with_labels_the_bound_of_a_rare_loss_holds_19_times_in_20() -> None:
    """Where a bootstrap that saw none lost, as often here, says that none ever is."""
    random = np.random.default_rng(8)
    held = shown = 0
    for _ in range(200):
        reference = _logits(40)
        lost = random.random(40) < 0.03
        candidate = reference.copy()
        candidate[lost] = np.roll(reference[lost], 1, axis=1)
        found = compare(reference, candidate, labels=reference.argmax(axis=1))
        assert found.loss_most is not None and found.loss_shown is not None
        held += found.loss_most >= 0.03
        shown += found.loss_shown >= 0.03
    assert held >= 188
    assert shown < 150


@pytest.mark.parametrize(
    ("lost", "of", "most"),
    # Clopper's and Pearson's, as statistics packages have them.
    [(0, 20, 0.13911), (0, 299, 0.00997), (1, 20, 0.21611), (5, 1000, 0.01048), (20, 20, 1.0)],
)
def test_the_bound_of_a_count(lost: int, of: int, most: float) -> None:
    assert most_of_a_count(lost, of) == pytest.approx(most, abs=1e-5)


def _labelled(pictures: int, noise: float) -> Fidelity:
    """None is lost, whatever the noise is."""
    reference = _logits(pictures)
    sizes = _RANDOM.normal(size=reference.shape) * np.sqrt(np.square(reference).mean())
    candidate = (reference + noise * sizes).astype(np.float32)
    named = reference.argmax(axis=1)
    found = compare(reference, candidate, labels=np.where(named == candidate.argmax(1), named, 0))
    assert found.loss is not None and found.loss <= 0
    return found


def test_few_labelled_pictures_that_lose_nothing_do_not_pass_alone() -> None:
    noisy, quiet = _labelled(20, 0.2), _labelled(20, 0.05)
    assert faults(quiet, Thresholds(), synthetic=False) == []
    assert describe(quiet).startswith("loss 0.00% (at most 13.91%, no less can 20 pictures tell)")
    (fault,) = faults(noisy, Thresholds(), synthetic=False)
    assert fault.endswith("< 20 dB, and 20 pictures cannot exclude a loss of 1.00%")
    # Enough of them do, and so do few for a loss that they can tell.
    assert faults(_labelled(299, 0.2), Thresholds(), synthetic=False) == []
    assert faults(noisy, Thresholds(loss=0.2), synthetic=False) == []


def test_crops_of_few_labelled_pictures_are_no_more_pictures() -> None:
    reference = np.repeat(_logits(20), 50, axis=0)
    labels, pictures = reference.argmax(axis=1), np.repeat(np.arange(20), 50)
    found = compare(reference, reference, pictures, labels)
    assert found.loss_most == pytest.approx(0.13911, abs=1e-5)


def test_few_pictures_without_labels_do_not_pass_by_fp32s_word_alone() -> None:
    few = msgspec.structs.replace(_fidelity(snr_db=15.0), pictures=39)
    (fault,) = faults(few, Thresholds(), synthetic=False)
    assert fault == "SNR 15.0 dB < 20 dB, and 39 pictures cannot exclude a loss of 1.00%"
    assert faults(_fidelity(snr_db=15.0), Thresholds(), synthetic=False) == []


def _shared(logits: np.ndarray) -> np.ndarray:
    """A softmax does not see what all classes have."""
    return logits + 1000


def _by_picture(logits: np.ndarray) -> np.ndarray:
    """Nor that it is another one for each picture, as a logarithm of a softmax takes away."""
    return np.asarray(logits + 100 * np.arange(len(logits))[:, None])


def _by_class(logits: np.ndarray) -> np.ndarray:
    """Half of the classes are never named."""
    return np.concatenate([logits, np.full_like(logits, -1000)], axis=1)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("beside", [_shared, _by_picture, _by_class])
def test_few_pictures_do_not_pass_by_a_constant_beside_which_noise_looks_small(
    beside: Callable[[np.ndarray], np.ndarray], *, labelled: bool
) -> None:
    reference = _logits()
    sizes = _RANDOM.normal(size=reference.shape) * np.sqrt(np.square(reference).mean())
    labels = reference.argmax(axis=1) if labelled else None
    for noise, passes in ((0.03, True), (0.2, False)):
        candidate = reference + noise * sizes
        found = compare(beside(reference), beside(candidate), labels=labels)
        assert found.loss == 0
        assert found.snr_db > 40
        assert (faults(found, Thresholds(), synthetic=False) == []) is passes


def test_fp32_that_is_hardly_surer_than_a_guess_does_not_pass_by_its_word_alone() -> None:
    unsure, sure = _fidelity(snr_db=15.0, accuracy=0.3, blind_loss=0.65), _fidelity(snr_db=15.0)
    unsure, sure = (msgspec.structs.replace(one, pictures=40) for one in (unsure, sure))
    (fault,) = faults(unsure, Thresholds(), synthetic=False)
    assert fault == "SNR 15.0 dB < 20 dB, and FP32 is too unsure of itself to tell what is lost"
    assert faults(msgspec.structs.replace(unsure, snr_db=20.0), Thresholds(), synthetic=False) == []
    # Labels know.
    told = msgspec.structs.replace(unsure, labelled=True)
    assert faults(told, Thresholds(), synthetic=False) == []
    for accuracy in (0.34, 0.9):
        told = msgspec.structs.replace(sure, accuracy=accuracy, blind_loss=1 - 0.1 / accuracy)
        assert faults(told, Thresholds(), synthetic=False) == []


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_pictures_have_no_say_on_a_loss_and_noise_counts(count: int) -> None:
    logits = _logits(count)
    found = compare(logits, logits)
    assert (found.loss, found.loss_most) == (0.0, None)
    assert faults(found, Thresholds(), synthetic=False) == []
    assert faults(compare(logits, -logits), Thresholds(), synthetic=False)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_costs_everything(broken: float) -> None:
    logits = _logits()
    found = compare(logits, np.full_like(logits, broken))
    assert (found.loss, found.top1, found.cosine, found.snr_db) == (1.0, 0.0, 0.0, 0.0)
    assert faults(found, Thresholds(), synthetic=False) == [
        "expected loss of accuracy 100.00%, up to 100.00% > 1.00%"
    ]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_class_that_both_rule_out_costs_nothing(*, labelled: bool) -> None:
    """The logarithm of a probability of nothing, or a mask over classes that are not used."""
    reference = _logits(320)
    reference[:, 9] = -np.inf
    reference[::2, 8] = -np.inf
    labels = reference.argmax(axis=1) if labelled else None
    found = compare(reference, reference * np.float32(1.001), labels=labels)
    assert (found.loss, found.top1) == (0.0, 1.0)
    assert found.snr_db == pytest.approx(60.0, abs=0.1)
    assert found.kl is not None and found.kl < 1e-3
    assert faults(found, Thresholds(), synthetic=False) == []
    # What one of them alone rules out is no number.
    candidate = reference.copy()
    candidate[3, 0] = -np.inf
    assert compare(reference, candidate, labels=labels).top1 == pytest.approx(319 / 320)
    assert compare(np.full_like(reference, -np.inf), np.full_like(reference, -np.inf)).top1 == 0


def test_mirrored_logits_fail() -> None:
    logits = _logits()
    found = compare(logits, -logits)
    assert found.cosine == pytest.approx(-1)
    assert found.snr_db < 0


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3\] against \[2, 3\]"):
        compare(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("changes", "synthetic", "words"),
    [
        ({}, False, []),
        ({"loss_most": 0.01}, False, []),
        (
            {"loss": 0.006, "loss_most": 0.011},
            False,
            ["expected loss of accuracy 0.60%, up to 1.10% > 1.00%"],
        ),
        # Noise is information where labels have a say, and decides where they have none.
        ({"snr_db": 3.0}, False, []),
        ({"snr_db": 20.0}, True, []),
        ({"snr_db": 19.94}, True, ["SNR 19.9 dB < 20 dB"]),
        ({"loss_most": 0.5}, True, []),
        ({"loss": None, "loss_most": None, "snr_db": 3.0}, False, ["SNR 3.0 dB < 20 dB"]),
    ],
)
def test_what_decides(changes: dict[str, float], synthetic: bool, words: list[str]) -> None:
    assert faults(_fidelity(**changes), Thresholds(), synthetic=synthetic) == words


def test_the_threshold_is_the_users() -> None:
    assert faults(_fidelity(loss_most=0.03), Thresholds(loss=0.03), synthetic=False) == []


@pytest.mark.parametrize("shape", [(16,), (16, 1), (16, 4, 3, 3)], ids=str)
def test_what_is_no_score_of_classes_has_no_labels_and_is_compared(shape: tuple[int, ...]) -> None:
    answers = _RANDOM.normal(size=shape).astype(np.float32)
    same, other = compare(answers, answers), compare(answers, -answers)
    assert (same.loss, same.loss_most, same.top1, same.pictures) == (None, None, None, 16)
    assert faults(same, Thresholds(), synthetic=False) == []
    assert same.cosine == 1.0
    assert other.cosine == pytest.approx(-1)
    assert len(faults(other, Thresholds(), synthetic=False)) == 1


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_where_fp32_is_no_number_nothing_passes(broken: float) -> None:
    nothing = np.full((16, 10), broken, np.float32)
    found = compare(nothing, nothing)
    assert (found.cosine, found.snr_db, found.loss) == (0.0, 0.0, 1.0)
    assert faults(found, Thresholds(), synthetic=True)
    assert faults(found, Thresholds(), synthetic=False)


@pytest.mark.parametrize("place", [0, 1])
def test_a_broken_answer_of_either_counts_against_its_picture_alone(place: int) -> None:
    exact = _logits(32)
    pair = [exact, exact.copy()]
    pair[place][:8, 3] = np.nan
    found = compare(*pair)
    assert (found.top1, found.cosine) == (0.75, 0.75)
    assert found.loss == pytest.approx(0.25, abs=0.01)
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
    assert found.top1 is not None and found.loss is not None and found.kl is not None
    assert 0 <= found.top1 <= 1
    assert 0 <= found.loss <= 1
    assert found.loss_most is None or 0 <= found.loss_most <= 1
    assert found.kl >= 0
    assert np.isfinite(found.snr_db)


def _outputs(**spoiled: float) -> dict[str, np.ndarray]:
    """Boxes and scores of 20 crops, with noise of these shares on the outputs named."""
    random = np.random.default_rng(3)
    found = {"boxes": random.normal(size=(20, 7, 4)), "scores": random.normal(size=(20, 9))}
    for name, share in spoiled.items():
        found[name] = found[name] + share * np.random.default_rng(4).normal(size=found[name].shape)
    return {name: values.astype(np.float32) for name, values in found.items()}


@pytest.mark.parametrize("bad", ["boxes", "scores"])
def test_of_several_outputs_the_worst_decides(bad: str) -> None:
    found = compare_outputs(_outputs(), _outputs(**{"boxes": 0.01, "scores": 0.01, bad: 0.5}))
    assert found.output == bad
    assert found.snr_db == pytest.approx(6.0, abs=1.0)
    # Scores of several are no classes that somebody names.
    assert (found.loss, found.top1) == (None, None)
    (fault,) = faults(found, Thresholds(), synthetic=False)
    assert fault.startswith(f"SNR of output {bad} ")
    assert describe(found).startswith(f"SNR of output {bad}, the worst, ")


def test_a_large_output_does_not_hide_a_small_one() -> None:
    reference, candidate = _outputs(), _outputs(scores=0.5)
    for outputs in (reference, candidate):
        outputs["boxes"] *= 1000
    assert compare_outputs(reference, candidate).output == "scores"


def test_several_outputs_that_agree_pass() -> None:
    assert faults(compare_outputs(_outputs(), _outputs()), Thresholds(), synthetic=False) == []
    little = compare_outputs(_outputs(), _outputs(boxes=0.01, scores=0.01))
    assert faults(little, Thresholds(), synthetic=False) == []


def test_an_output_that_is_no_number_is_the_worst() -> None:
    candidate = _outputs(scores=0.05)
    candidate["boxes"][:, 0, 0] = np.nan
    found = compare_outputs(_outputs(), candidate)
    assert (found.output, found.snr_db) == ("boxes", 0.0)
    assert faults(found, Thresholds(), synthetic=False) != []


def test_outputs_that_differ_in_name_or_shape_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="outputs"):
        compare_outputs(_outputs(), {"boxes": _outputs()["boxes"]})
    with pytest.raises(ValueError, match="logits"):
        compare_outputs(_outputs(), {**_outputs(), "boxes": _outputs()["scores"]})
    with pytest.raises(ValueError, match="outputs"):
        compare_outputs({}, {})


def _about(constant: float, change: float, crops: int = 20) -> np.ndarray:
    """Answers that change by so much about a constant of each place."""
    places = constant * np.random.default_rng(5).uniform(0.5, 1.5, 50)
    return (places + change * np.random.default_rng(6).normal(size=(crops, 50))).astype(np.float32)


def _noise(share: float, crops: int = 20) -> np.ndarray:
    noise = share * np.random.default_rng(7).normal(size=(crops, 50))
    return np.asarray(noise, np.float32)


def _snr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    return compare_outputs({"y": reference}, {"y": candidate}).snr_db


@pytest.mark.parametrize("constant", [0.0, -4.6, 100.0])
@pytest.mark.parametrize("crops", [2, 5, 20, 400])
def test_only_what_changes_with_the_picture_is_signal(constant: float, crops: int) -> None:
    exact = _about(constant, 1.0, crops)
    # However few the crops are, their mean takes nothing of what changes.
    assert _snr_db(exact, exact + _noise(0.3, crops)) == pytest.approx(10.5, abs=2.0)
    assert _snr_db(exact, exact) >= 100


def test_a_bias_is_noise() -> None:
    exact = _about(100.0, 1.0)
    assert _snr_db(exact, exact + 1) == pytest.approx(0.0, abs=0.5)


def test_noise_counts_at_places_that_never_change() -> None:
    exact = _about(10.0, 1.0)
    exact[:, :25] = exact[0, :25]
    noise = _noise(1.0)
    noise[:, 25:] = 0
    assert _snr_db(exact, exact + noise) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_a_constant_is_compared_by_itself(rounding: float) -> None:
    # A plain constant among the outputs, rounded anew for each picture.
    exact = _about(10.0, 0.0) * (1 + _noise(rounding))
    assert _snr_db(exact, exact) >= 100
    assert _snr_db(exact, exact * (1 + _noise(1e-7))) > 100
    assert _snr_db(exact, exact * (1 + _noise(0.3))) == pytest.approx(10.5, abs=0.5)


def test_of_one_crop_nothing_tells_what_changes() -> None:
    exact = _about(10.0, 1.0, 1)
    found = compare_outputs({"y": exact}, {"y": exact + _noise(1.0, 1)})
    assert found.snr_db == compare(exact[:, None], (exact + _noise(1.0, 1))[:, None]).snr_db


def test_a_broken_crop_costs_as_much_as_any_though_it_is_much_like_the_mean() -> None:
    exact = _about(10.0, 0.0)
    # One picture in twenty tells something; what is lost is one of the others.
    exact[0] += _noise(5.0)[0]
    candidate = exact.copy()
    candidate[3, 7] = np.nan
    assert 10 < _snr_db(exact, candidate) < 20
    exact[3, 7] = np.inf
    assert 10 < _snr_db(exact, exact) < 20
    assert compare_outputs({"y": exact * np.nan}, {"y": exact}).snr_db == 0.0


def _embeddings() -> np.ndarray:
    """Of length one, as a search by likeness wants them: a softmax of them is nearly flat."""
    found = np.repeat(_RANDOM.normal(size=(40, 512)), 10, axis=0)
    found += 0.5 * _RANDOM.normal(size=found.shape)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def _of_one_class() -> np.ndarray:
    """A detector of faults that sees none in any photograph."""
    return np.asarray([6, -6] + 0.5 * _RANDOM.normal(size=(400, 2)), np.float32)


def test_where_fp32_is_never_right_a_constant_hides_no_noise() -> None:
    reference = _logits(40)
    labels = (reference.argmax(axis=1) + 1) % 10
    noisy = reference + _RANDOM.normal(size=reference.shape)
    found = compare(reference + 1000, np.asarray(noisy + 1000, np.float32), labels=labels)
    assert found.loss is None
    (fault,) = faults(found, Thresholds(), synthetic=False)
    assert fault.startswith("SNR of what tells classes apart ")


@pytest.mark.parametrize("make", [_embeddings, _of_one_class])
def test_labels_have_no_say_where_one_answer_to_all_pictures_loses_little(
    make: Callable[[], np.ndarray],
) -> None:
    reference = make()
    changes = reference - reference.mean(axis=0)
    noise = (_RANDOM.normal(size=reference.shape) * changes.std()).astype(np.float32)
    pictures = np.repeat(np.arange(40), 10)
    good, bad, blind = reference + 0.05 * noise, reference + 0.3 * noise, reference - changes
    for candidate, passes in ((reference, True), (good, True), (bad, False), (blind, False)):
        found = compare(reference, candidate, pictures)
        assert (faults(found, Thresholds(), synthetic=False) == []) is passes


def test_labels_of_one_class_alone_have_no_say_either() -> None:
    reference = _of_one_class()
    blind = np.tile(reference.mean(axis=0), (400, 1)).astype(np.float32)
    labels = np.zeros(400, np.intp)
    found = compare(reference, blind, labels=labels)
    assert found.loss == 0
    assert faults(found, Thresholds(), synthetic=False)
    # Few pictures of another class are enough: what is blind to them loses more than is allowed.
    reference[:40] = reference[:40, ::-1]
    labels[:40] = 1
    found = compare(reference, np.asarray(reference + 0.5, np.float32), labels=labels)
    assert faults(found, Thresholds(), synthetic=False) == []


def test_what_labels_of_one_class_show_lost_is_lost() -> None:
    """Noise is far below 20 dB: the ratio alone would let it pass."""
    reference = (3 * _RANDOM.normal(size=(1000, 10))).astype(np.float32)
    reference[:, 0] = reference[:, 1:].max(axis=1) + np.where(np.arange(1000) < 960, 5, 0.5)
    candidate = reference.copy()
    candidate[960:, 0] -= 1
    found = compare(reference, candidate, labels=np.zeros(1000, np.intp))
    assert found.loss == pytest.approx(0.04)
    assert found.snr_telling_db is not None and found.snr_telling_db > 20
    (fault,) = faults(found, Thresholds(), synthetic=False)
    assert fault.startswith("loss of accuracy ")
    assert why_noise(found, Thresholds(), synthetic=False) == ""


def test_of_a_single_value_only_what_changes_with_the_picture_is_signal() -> None:
    ages = (35 + 3 * _RANDOM.normal(size=(400, 1))).astype(np.float32)
    assert faults(compare(ages, ages + 0.1), Thresholds(), synthetic=False) == []
    for bad in (np.full_like(ages, ages.mean()), ages + 3):
        assert faults(compare(ages, bad), Thresholds(), synthetic=False)
