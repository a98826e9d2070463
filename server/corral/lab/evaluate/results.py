"""What an evaluation found: accuracies with intervals, worst classes, confusions. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity

#: standard deviations of a two-sided 95 % interval
_Z = 1.959964
_TOP = 5
_WORST = 10


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of pictures with its 95 % interval (Wilson's), 0 to 1."""

    right: int
    of: int
    share: float
    low: float
    high: float


class ClassResult(msgspec.Struct, frozen=True, kw_only=True):
    """How often one class was recognised."""

    label: str
    right: int
    of: int


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """How often one class was taken for another."""

    label: str
    taken_for: str
    times: int


class EvaluationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One engine with one precision."""

    #: "openvino int8"
    candidate: str
    #: why it could not be evaluated; empty when it was
    reason: str = ""
    top1: Share | None = None
    #: None where the model has fewer than six classes
    top5: Share | None = None
    #: against the FP32 that stands first, by labels; None for itself
    fidelity: Fidelity | None = None
    #: what does not pass the guard, by labels
    faults: list[str] = []
    #: why the signal-to-noise ratio decided, or decided as well; empty where labels did
    why_snr: str = ""
    #: why it is not what its name says, as an INT8 with no layer in INT8; empty where it is
    remark: str = ""
    images_per_s: float = 0.0
    worst: list[ClassResult] = []
    confusions: list[Confusion] = []


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All that was evaluated."""

    model: str
    weights: str
    synthetic: bool
    #: what was evaluated on, as it was named
    source: str
    pictures: int
    #: those that there were to evaluate: more where a signal ended it; 0: as many
    asked: int = 0
    #: files of the folder that are neither JPEG nor PNG, by their endings
    left_out: dict[str, int] = {}
    #: pictures that lie beside the folders of classes, and are left out
    strays: int = 0
    #: files that are copies of others, and are left out
    copies: int = 0
    #: files that are one picture under several labels, and are left out
    torn: int = 0
    #: classes that the pictures are of, and those that the model knows
    classes_seen: int
    classes: int
    cpu: str
    cores: int
    #: of the batches that speeds were measured with
    batch: int
    rows: list[EvaluationRow]


def share(right: int, of: int) -> Share:
    """A share with Wilson's 95 % interval, which holds near 0 and 1, too."""
    portion = right / of
    middle = (portion + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    spread = portion * (1 - portion) / of + _Z**2 / (4 * of**2)
    half = _Z * math.sqrt(spread) / (1 + _Z**2 / of)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Share(right=right, of=of, share=portion, low=min(low, portion), high=max(high, portion))


def row(
    candidate: str,
    logits: NDArray[np.float32],
    labels: NDArray[np.intp],
    names: Sequence[str],
    images_per_s: float,
) -> EvaluationRow:
    """The accuracies of one candidate.

    Args:
        candidate: its name.
        logits: [pictures,classes]; a row with what is no number is wrong, but for -inf, which
            rules a class out.
        labels: the right classes, [pictures].
        names: of the classes.
        images_per_s: as measured.
    """
    able = (np.isfinite(logits) | np.isneginf(logits)).all(axis=1, keepdims=True)
    scores = np.where(able, logits, -np.inf)
    broken = np.isneginf(scores).all(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    first = np.where(broken, -1, order[:, 0])
    right = first == labels
    among = (order[:, :_TOP] == labels[:, None]).any(axis=1) & ~broken
    count = len(labels)
    return EvaluationRow(
        candidate=candidate,
        top1=share(int(right.sum()), count),
        top5=share(int(among.sum()), count) if scores.shape[1] > _TOP else None,
        images_per_s=images_per_s,
        worst=_worst(labels, right, names),
        confusions=_confusions(labels, first, names),
    )


def _worst(
    labels: NDArray[np.intp], right: NDArray[np.bool_], names: Sequence[str]
) -> list[ClassResult]:
    seen = Counter(labels.tolist())
    hits = Counter(labels[right].tolist())
    found = [
        ClassResult(label=names[label], right=hits[label], of=count)
        for label, count in seen.items()
        if hits[label] < count
    ]
    return sorted(found, key=lambda one: (one.right / one.of, -one.of, one.label))[:_WORST]


def _confusions(
    labels: NDArray[np.intp], first: NDArray[np.intp], names: Sequence[str]
) -> list[Confusion]:
    pairs = Counter(
        (label, other)
        for label, other in zip(labels.tolist(), first.tolist(), strict=True)
        if label != other
    )
    found = [
        Confusion(
            label=names[label], taken_for="no answer" if other < 0 else names[other], times=times
        )
        for (label, other), times in pairs.items()
    ]
    return sorted(found, key=lambda one: (-one.times, one.label, one.taken_for))[:_WORST]
