"""What another arithmetic loses of FP32's accuracy: by labels, else by FP32's softmax. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from corral.accuracy.bound import most_of_a_count, upper_bound

#: rows whose sum is within this share of one, or of 100, and nowhere negative, are probabilities
#: already: as much can BF16 round
_SUM_SLACK = 2.0**-8
#: the largest KL divergence that a picture counts with, nats: JSON has no infinity
_MOST_NATS = 100.0
#: a sum of crops' shares is within this of the number of pictures that it stands for
_ROUNDING = 1e-6


def measure(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    broken: NDArray[np.bool_],
    groups: NDArray[np.intp],
    labels: NDArray[np.intp] | None,
    *,
    bounded: bool,
) -> dict[str, float]:
    """The fields of a Fidelity that are known where answers are scores of classes.

    Args:
        reference: FP32's answers, logits, probabilities or percentages, [crops,classes].
        candidate: the other's for the same crops.
        broken: crops on which an answer of either is no number, [crops].
        groups: which photograph each crop is of, [crops], 0 to the last without a gap.
        labels: the right class of each crop, [crops].
        bounded: whether there are photographs enough for a bound.
    """
    whole = None if broken.all() else _whole(reference[~broken])
    expected, found = (_probable(answers, broken, whole) for answers in (reference, candidate))
    number = np.arange(len(expected))
    named, other = expected.argmax(axis=1), found.argmax(axis=1)
    if labels is None:
        worths = np.where(broken, 1.0, expected[number, named])
        blind = float(expected.sum(axis=0).max())
        kept = np.where(broken, 0.0, expected[number, other])
    else:
        worths = np.where(broken, 1.0, named == labels)
        blind = float(np.bincount(labels).max())
        kept = np.where(broken, 0.0, other == labels)
    measures = {
        "accuracy": float(worths.mean()),
        "top1": float(((named == other) & ~broken).mean()),
        "kl": float(np.where(broken, _MOST_NATS, _divergence(expected, found)).mean()),
    }
    if measures["accuracy"] > 0:
        costs = worths - kept
        measures["loss"] = float(costs.sum() / worths.sum())
        measures["blind_loss"] = float(1 - blind / worths.sum())
        if bounded:
            shown = most = upper_bound(costs, worths, groups)
            if labels is not None:
                most = max(shown, _counted(costs, worths, groups))
            measures.update(loss_shown=shown, loss_most=most)
    return measures


def _whole(answers: NDArray[np.float32]) -> int | None:
    """What all rows add up to, if they are probabilities (1) or percentages (100); else None."""
    if answers.min() < 0:
        return None
    sums = answers.sum(axis=1, dtype=np.float64)
    wholes = (1, 100)
    return next((one for one in wholes if (np.abs(sums / one - 1) <= _SUM_SLACK).all()), None)


def _probabilities(answers: NDArray[np.float32], whole: int | None) -> NDArray[np.float64]:
    """Softmax of logits, [n,classes]; what FP32 answers as shares of a whole is those."""
    exact = np.asarray(answers, np.float64)
    if whole is not None:
        return exact / whole
    shifted = np.exp(exact - exact.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def are_independent(answers: NDArray[np.float32], enough: int) -> bool:
    """Whether so many rows lie between 0 and 1, as a sigmoid's do, and do not add up to 1."""
    between = len(answers) >= enough and answers.min() >= 0 and answers.max() <= 1
    sums = answers.sum(axis=1, dtype=np.float64) if between else np.ones(1)
    return bool((abs(sums - 1) > _SUM_SLACK).any())


def _counted(
    costs: NDArray[np.float64], worths: NDArray[np.float64], groups: NDArray[np.intp]
) -> float:
    """The bound of as many right pictures lost: crops of one say little more than one of them."""
    crops = np.bincount(groups)
    lost = (np.bincount(groups, costs) / crops).sum()
    right = (np.bincount(groups, worths) / crops).sum()
    return most_of_a_count(math.ceil(max(0.0, lost - _ROUNDING)), math.floor(right + _ROUNDING))


def _probable(
    answers: NDArray[np.float32], broken: NDArray[np.bool_], whole: int | None
) -> NDArray[np.float64]:
    """Probabilities of each row; zeros where an answer is no number."""
    found = np.zeros(answers.shape)
    if not broken.all():
        found[~broken] = _probabilities(answers[~broken], whole)
    return found


def _divergence(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL of each row, nats, at most ``_MOST_NATS``."""
    least = np.finfo(np.float64).tiny
    ratios = np.log(np.maximum(expected, least)) - np.log(np.maximum(found, least))
    return np.asarray(np.clip((expected * ratios).sum(axis=1), 0, _MOST_NATS))
