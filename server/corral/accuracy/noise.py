"""Noise beside signal: what one arithmetic's answers differ by from FP32's, tensor by tensor. Pure.

**Signal may be what changes with the picture alone**: FP32's mean over the crops is taken from both
then, place by place. A prior before a sigmoid and an anchor's position tell nothing of a picture,
and beside them any noise would look small. The mean is of a place, for such constants differ from
place to place; one of a whole tensor would leave anchors in.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: the ratio of answers that do not differ at all, dB: JSON has no infinity
_EXACT_DB = 200.0
#: FP32's answers that change by less from picture to picture, as a share of themselves, are a
#: constant: FP32 rounds by as much
_ROUNDING = 2.0**-20


@dataclasses.dataclass(frozen=True)
class Noise:
    """What was found.

    Attributes:
        cosine: similarity, mean over crops; 0 for one that is broken.
        snr_db: signal to noise over all crops, dB.
        signals: energy of each crop's signal, [crops].
        noises: energy of each crop's noise, [crops].
        broken: crops for which either answers with what is no number, [crops].
    """

    cosine: float
    snr_db: float
    signals: NDArray[np.float64]
    noises: NDArray[np.float64]
    broken: NDArray[np.bool_]


def measure(
    reference: NDArray[Any], candidate: NDArray[Any], about: NDArray[np.float64] | None = None
) -> Noise:
    """How far answers are from FP32's; what is no number costs all of its crop.

    Args:
        reference: FP32's answers, [crops,...].
        candidate: the other's for the same crops.
        about: taken from both, [places], see ``constant``; None: nothing.

    Raises:
        ValueError: shapes differ, or there is nothing.
    """
    if reference.shape != candidate.shape or not reference.ndim or not reference.size:
        raise ValueError(f"logits {list(candidate.shape)} against {list(reference.shape)}")
    count = len(reference)
    base = 0.0 if about is None else about
    broken = np.zeros(count, np.bool_)
    cosines, signals, noises = np.zeros(count), np.zeros(count), np.zeros(count)
    rows = zip(reference.reshape(count, -1), candidate.reshape(count, -1), strict=True)
    # A picture at a time: of a segmentation, all of them in FP64 would be gigabytes.
    for index, (exact, other) in enumerate(rows):
        expected, found = exact.astype(np.float64) - base, other.astype(np.float64) - base
        broken[index] = not (np.isfinite(expected).all() and np.isfinite(found).all())
        if broken[index]:
            expected[~np.isfinite(expected)] = 0
            found[:] = 0
        else:
            cosines[index] = _cosine(expected, found)
        signals[index] = np.square(expected).sum()
        noises[index] = np.square(expected - found).sum()
    if about is not None:
        # A picture that is much like the mean of all costs as much as any.
        noises[broken] = np.maximum(noises[broken], signals.mean())
        # A mean of few takes a share of each with it.
        signals *= count / (count - 1)
    ratio = 0.0 if broken.all() else as_db(float(signals.sum()), float(noises.sum()))
    return Noise(
        cosine=float(cosines.mean()), snr_db=ratio, signals=signals, noises=noises, broken=broken
    )


def constant(reference: NDArray[Any]) -> NDArray[np.float64] | None:
    """What FP32 answers whatever the picture is: its mean over the crops, [places].

    None where that is all that it answers, and where there are too few crops to tell: its values
    themselves are the signal then.
    """
    rows = reference.reshape(len(reference), -1) if reference.ndim and reference.size else ()
    able = [row for row in rows if np.isfinite(row).all()]
    if len(able) < 2:
        return None
    mean = np.zeros(able[0].shape)
    for row in able:
        mean += row.astype(np.float64) / len(able)
    change = sum(float(np.square(row - mean).sum()) for row in able)
    if change <= _ROUNDING**2 * len(able) * float(np.square(mean).sum()):
        return None
    return mean


def without_ruled_out(
    reference: NDArray[Any], candidate: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both with zeros where both rule a class out: the logarithm of no probability is -inf.

    A crop that rules out all of its classes, and what is no list of scores, [crops,classes], stay
    as they are.
    """
    if reference.ndim != 2 or reference.shape != candidate.shape:
        return reference, candidate
    ruled_out = np.isneginf(reference) & np.isneginf(candidate)
    ruled_out &= ~ruled_out.all(axis=1, keepdims=True)
    if not ruled_out.any():
        return reference, candidate
    zero = reference.dtype.type(0)
    return np.where(ruled_out, zero, reference), np.where(ruled_out, zero, candidate)


def telling(reference: NDArray[Any], candidate: NDArray[Any]) -> Noise:
    """How far scores of classes are from FP32's, by what tells the classes apart alone.

    A softmax does not see what is added to all scores of a crop, and what FP32 adds to those of a
    class whatever the picture is tells nothing of it. Neither is signal.

    Args:
        reference: FP32's answers, [crops,classes].
        candidate: the other's.

    Raises:
        ValueError: as ``measure`` does.
    """
    exact, other = _centred(reference), _centred(candidate)
    return measure(exact, other, constant(exact))


def _centred(answers: NDArray[Any]) -> NDArray[np.float64]:
    """Each row without its mean; all of a row with what is no number is none."""
    exact = answers.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(exact - exact.mean(axis=1, keepdims=True))


def _cosine(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """1 where both are zero, 0 where one is."""
    if np.array_equal(expected, found):
        return 1.0
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(found))
    return float(expected @ found) / lengths if lengths > 0 else 0.0


def as_db(signal: float, noise: float) -> float:
    """The ratio of two energies, dB; JSON has no infinity."""
    if noise == 0 or signal == 0:
        return _EXACT_DB if noise == 0 else -_EXACT_DB
    return max(-_EXACT_DB, min(_EXACT_DB, 10 * math.log10(signal / noise)))
