"""A detector's boxes and scores against FP32's, before they are sorted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.accuracy import Thresholds, compare, compare_outputs, faults
from corral.backends.boxes import compare_tensors

_PICTURES, _PLACES, _CLASSES, _FOUND = 20, 400, 12, 6
_SIDE = 320.0

Floats = NDArray[np.float64]


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))


@dataclasses.dataclass(frozen=True)
class _Detector:
    """What comes out of a network that finds a few things in a picture, and nothing elsewhere."""

    logits: Floats
    centres: Floats
    sizes: Floats

    def answer(self) -> dict[str, NDArray[np.float32]]:
        """Before the sort."""
        corners = [self.centres - self.sizes / 2, self.centres + self.sizes / 2]
        return {
            "scores": _sigmoid(self.logits).astype(np.float32),
            "boxes": np.concatenate(corners, axis=2).astype(np.float32),
        }

    def served(self) -> dict[str, NDArray[np.float32]]:
        """After it: the best hundred."""
        found = self.answer()
        best = found["scores"].max(axis=2)
        order = np.argsort(-best, axis=1, kind="stable")[:, :100]
        return {
            "scores": np.take_along_axis(best, order, 1),
            "boxes": np.take_along_axis(found["boxes"], order[:, :, None], 1),
        }


def _detector() -> _Detector:
    random = np.random.default_rng(1)
    logits = random.normal(-7, 0.7, (_PICTURES, _PLACES, _CLASSES))
    for picture in logits:
        for place in random.choice(_PLACES, _FOUND, replace=False):
            picture[place, random.integers(_CLASSES)] = random.uniform(0, 4)
    centres = random.uniform(30, _SIDE - 30, (_PICTURES, _PLACES, 2))
    return _Detector(logits, centres, random.uniform(15, 80, (_PICTURES, _PLACES, 2)))


_EXACT = _detector()


def _noisy(share: float) -> _Detector:
    """As a good INT8 is: everything is off by a little."""
    random = np.random.default_rng(2)
    return _Detector(
        _EXACT.logits + share * random.normal(size=_EXACT.logits.shape),
        _EXACT.centres + share * _EXACT.sizes * random.normal(size=_EXACT.centres.shape),
        _EXACT.sizes * (1 + share * random.normal(size=_EXACT.sizes.shape)),
    )


def _spoiled(how: str) -> _Detector:
    """A bad INT8, by the name of what is wrong."""
    logits, sizes = _EXACT.logits, _EXACT.sizes
    match how:
        case "scores crushed":
            return dataclasses.replace(_EXACT, logits=np.rint(logits / 6) * 6)
        case "scores clipped":
            return dataclasses.replace(_EXACT, logits=np.minimum(logits, 0.0))
        case "scores scaled":
            return dataclasses.replace(_EXACT, logits=logits * 0.5)
        case "classes permuted":
            return dataclasses.replace(_EXACT, logits=np.roll(logits, 1, axis=2))
        case "boxes moved":
            return dataclasses.replace(_EXACT, centres=_EXACT.centres + 10)
        case "boxes crushed":
            return dataclasses.replace(_EXACT, centres=np.rint(_EXACT.centres / 32) * 32)
        case "boxes shrunk":
            return dataclasses.replace(_EXACT, sizes=sizes * 0.6)
    raise ValueError(how)


def _faults(candidate: _Detector) -> list[str]:
    found = compare_tensors(_EXACT.answer(), candidate.answer())
    return faults(found, Thresholds(), synthetic=False)


def test_fp32_against_itself_passes() -> None:
    assert _faults(_EXACT) == []
    assert compare_tensors(_EXACT.answer(), _EXACT.answer()).snr_db >= 100


def test_a_little_noise_passes_that_makes_boxes_change_places() -> None:
    assert _faults(_noisy(0.03)) == []
    # Place by place what is served differs in nearly all.
    served = compare_outputs(_EXACT.served(), _noisy(0.03).served())
    assert served.output == "boxes"
    assert served.snr_db < 10


@pytest.mark.parametrize(
    ("how", "output"),
    [
        ("scores crushed", "scores"),
        ("scores clipped", "scores"),
        ("scores scaled", "scores"),
        ("classes permuted", "scores"),
        ("boxes moved", "boxes"),
        ("boxes crushed", "boxes"),
        ("boxes shrunk", "boxes"),
    ],
)
def test_a_bad_quantization_is_refused(how: str, output: str) -> None:
    (fault,) = _faults(_spoiled(how))
    assert fault.startswith(f"SNR of output {output} ")


def test_where_a_box_lies_hides_no_noise() -> None:
    # 10 pixels are little beside a place in the picture, and much beside a box.
    pair = (_EXACT.answer(), _spoiled("boxes moved").answer())
    assert compare_outputs(*pair, whole=("boxes",)).snr_db > 20
    assert compare_tensors(*pair).snr_db < 20


def test_boxes_of_one_size_everywhere_count_by_that_size() -> None:
    # No size changes with the picture, and still a tenth of it is 20 dB.
    exact = {
        **_EXACT.answer(),
        "boxes": np.tile(np.asarray([10, 10, 50, 50], np.float32), (20, 400, 1)),
    }
    moved = {**exact, "boxes": exact["boxes"] + np.float32(4)}
    assert compare_tensors(exact, moved).snr_db == pytest.approx(20, abs=0.01)


def _keypoints(noise: float) -> dict[str, NDArray[np.float32]]:
    """Points a few pixels from where their anchors lie, beside scores behind a prior of -4.6."""
    random = np.random.default_rng(5)
    anchors = np.random.default_rng(6).uniform(0, _SIDE, (1, _PLACES, 6))
    found = {
        "points": anchors + random.normal(0, 3, (_PICTURES, _PLACES, 6)),
        "logits": -4.6 + random.normal(0, 0.3, (_PICTURES, _PLACES)),
    }
    spoiling = np.random.default_rng(7)
    return {
        name: (values + noise * values.std(axis=0).mean() * spoiling.normal(size=values.shape))
        .astype(np.float32)
        for name, values in found.items()
    }  # fmt: skip


def test_where_an_anchor_lies_and_a_prior_hide_no_noise() -> None:
    found = compare_tensors(_keypoints(0), _keypoints(0.3))
    assert found.snr_db == pytest.approx(10.5, abs=0.3)
    # Beside the constants the same noise would be nothing.
    for name in ("points", "logits"):
        plain = compare(_keypoints(0)[name][:, None], _keypoints(0.3)[name][:, None])
        assert plain.snr_db > 30
    assert compare_tensors(_keypoints(0), _keypoints(0.03)).snr_db > 30


@pytest.mark.parametrize("turned", [(), ("scores",), ("scores", "boxes")], ids=str)
def test_boxes_count_where_something_was_found(turned: tuple[str, ...]) -> None:
    exact = _EXACT.answer()
    candidate = {name: values.copy() for name, values in exact.items()}
    best = exact["scores"].max(axis=2)
    worst = np.argsort(best, axis=1)[:, :200]
    for picture, places in enumerate(worst):
        candidate["boxes"][picture, places] += 100
    for answers in (exact, candidate):
        for name in turned:
            # Each picture's places last, as ultralytics has them.
            answers[name] = answers[name].swapaxes(1, 2)
    assert compare_tensors(exact, candidate).snr_db >= 100
    candidate["boxes"] = exact["boxes"].copy()
    if "boxes" in turned:
        candidate["boxes"] = candidate["boxes"].swapaxes(1, 2)
    for picture, place in enumerate(np.argmax(best, axis=1)):
        candidate["boxes"][picture, place] += 100
    if "boxes" in turned:
        candidate["boxes"] = candidate["boxes"].swapaxes(1, 2)
    assert compare_tensors(exact, candidate).snr_db < 40


def test_centres_with_sizes_are_no_corners() -> None:
    def centred(detector: _Detector) -> dict[str, NDArray[np.float32]]:
        boxes = np.concatenate([detector.centres, detector.sizes], axis=2)
        return {**detector.answer(), "boxes": boxes.astype(np.float32)}

    found = compare_tensors(centred(_EXACT), centred(_spoiled("boxes moved")))
    assert found.output == "boxes"
    assert found.snr_db < 20


def test_boxes_without_scores_are_compared_as_they_are() -> None:
    boxes = {"boxes": _EXACT.answer()["boxes"]}
    moved = {"boxes": _spoiled("boxes moved").answer()["boxes"]}
    assert compare_tensors(boxes, moved).snr_db == compare_outputs(boxes, moved).snr_db


def test_an_answer_that_is_no_number_is_the_worst() -> None:
    candidate = _EXACT.answer()
    candidate["scores"][:, 0, 0] = np.nan
    found = compare_tensors(_EXACT.answer(), candidate)
    assert (found.output, found.snr_db) == ("scores", 0.0)


def test_other_names_or_shapes_are_no_comparison() -> None:
    exact = _EXACT.answer()
    with pytest.raises(ValueError, match="outputs"):
        compare_tensors(exact, {"boxes": exact["boxes"]})
    with pytest.raises(ValueError, match="logits"):
        compare_tensors(exact, {**exact, "boxes": exact["boxes"][:, :5]})
