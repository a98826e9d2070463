"""The precision guard: how far an arithmetic's answers are from FP32's, and whether that will do.

Pure: logits in, a verdict out. Three measures, over pictures that no quantizer has seen:

- **Top-1 agreement**, of the pictures on which FP32 itself is decided (softmax of 0.3 and more):
  where FP32 has no opinion, a change of label is no loss.
- **Cosine similarity** of each picture's logits with FP32's, the mean.
- **Signal-to-noise ratio**: energy of FP32's logits over that of the difference, in dB.

Weights without knowledge, and answers that are no scores of classes, have no labels to agree on:
there, only the last two count. A picture with an answer that is no number, FP32's own included,
agrees in nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: FP32's own softmax from which its label counts
DECIDED = 0.3
#: fewer decided pictures than this say nothing about agreement
MIN_DECIDED = 8
#: the ratio of logits that do not differ at all, dB: JSON has no infinity
_EXACT_DB = 200.0


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The least that passes."""

    #: share of decided pictures that keep their label, 0 to 1
    top1: float = 0.9
    #: -1 to 1
    cosine: float = 0.92
    #: dB
    snr_db: float = 8.5


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    #: share of decided pictures that keep their label; None where too few are decided, and
    #: where answers are no scores of classes
    top1: float | None
    #: share of all pictures that keep their label; None where answers are no scores of classes
    top1_all: float | None
    #: mean over pictures
    cosine: float
    #: dB over all pictures
    snr_db: float
    pictures: int
    decided: int


class AccuracyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard found, and what became of it."""

    #: what was compared with FP32, or should have been: "openvino int8"
    candidate: str
    #: None where nothing could be compared
    fidelity: Fidelity | None
    #: one phrase for every measure that is too low, or for what kept it from being compared or
    #: measured; empty when it passed, and when there was nothing to compare on
    faults: list[str]
    #: True when FP32 serves in its place
    fell_back: bool = False

    @property
    def passed(self) -> bool:
        """Whether it was compared, and every measure that counts is high enough."""
        return self.fidelity is not None and not self.faults

    @property
    def verdict(self) -> str:
        """ "passed", "fell back"; or it serves all the same: "failed" or "not compared"."""
        if self.passed:
            return "passed"
        if self.fell_back:
            return "fell back"
        return "not compared" if self.fidelity is None else "failed"

    def sentence(self) -> str:
        """One line for a person."""
        if self.fidelity is None:
            if self.fell_back:
                reason = ", ".join(self.faults)
                return f"{self.candidate} cannot serve ({reason}): FP32 serves in its place"
            return (
                f"{self.candidate} serves without a comparison with FP32: the model takes no "
                "pictures to compare on"
            )
        if self.passed:
            return f"{self.candidate} agrees with FP32: {describe(self.fidelity)}"
        tail = (
            "FP32 serves in its place" if self.fell_back else "it serves because it was asked for"
        )
        return f"{self.candidate} is not close enough to FP32 ({', '.join(self.faults)}): {tail}"


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> Fidelity:
    """Measures one arithmetic against FP32.

    Args:
        reference: FP32's answers, [pictures,...]; labels count for logits, [pictures,classes].
        candidate: the other's for the same pictures.

    Raises:
        ValueError: shapes differ, or there is nothing.
    """
    # Here, for the settings need only the thresholds, and numpy takes 0.1 s to import.
    import numpy as np

    if reference.shape != candidate.shape or not reference.ndim or not reference.size:
        raise ValueError(f"logits {list(candidate.shape)} against {list(reference.shape)}")
    count = len(reference)
    broken = np.zeros(count, np.bool_)
    cosines = np.zeros(count)
    signal = noise = 0.0
    rows = zip(reference.reshape(count, -1), candidate.reshape(count, -1), strict=True)
    # A picture at a time: of a segmentation, all of them in FP64 would be gigabytes.
    for index, (exact, other) in enumerate(rows):
        expected, found = exact.astype(np.float64), other.astype(np.float64)
        broken[index] = not (np.isfinite(expected).all() and np.isfinite(found).all())
        if broken[index]:
            expected[~np.isfinite(expected)] = 0
            found[:] = 0
        else:
            cosines[index] = _cosine(expected, found)
        signal += float(np.square(expected).sum())
        noise += float(np.square(expected - found).sum())
    top1, top1_all, decided = _labels(reference, candidate, broken)
    return Fidelity(
        top1=top1,
        top1_all=top1_all,
        cosine=float(cosines.mean()),
        snr_db=0.0 if broken.all() else _snr_db(signal, noise),
        pictures=count,
        decided=decided,
    )


def faults(fidelity: Fidelity, thresholds: Thresholds, *, synthetic: bool) -> list[str]:
    """One phrase for every measure that is too low; none where it will do.

    Args:
        fidelity: what was measured.
        thresholds: the least that passes.
        synthetic: the weights carry no knowledge, so that labels do not count.
    """
    found = []
    if not synthetic and fidelity.top1 is not None and fidelity.top1 < thresholds.top1:
        found.append(f"top-1 agreement {fidelity.top1:.1%} < {thresholds.top1:.1%}")
    if fidelity.cosine < thresholds.cosine:
        found.append(f"cosine {fidelity.cosine:.4f} < {thresholds.cosine:g}")
    if fidelity.snr_db < thresholds.snr_db:
        found.append(f"SNR {fidelity.snr_db:.1f} dB < {thresholds.snr_db:g} dB")
    return found


def describe(fidelity: Fidelity) -> str:
    """The measures in one phrase."""
    parts = [f"cosine {fidelity.cosine:.4f}", f"SNR {fidelity.snr_db:.1f} dB"]
    if fidelity.top1 is not None:
        parts.insert(0, f"top-1 {fidelity.top1:.1%} of {fidelity.decided}")
    return ", ".join(parts)


def _labels(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], broken: NDArray[np.bool_]
) -> tuple[float | None, float | None, int]:
    """Top-1 agreement on decided pictures and on all, and how many are decided."""
    import numpy as np

    if reference.ndim != 2 or reference.shape[1] < 2:
        return None, None, 0
    expected = np.where(np.isfinite(reference), reference, 0).astype(np.float64)
    same = (expected.argmax(axis=1) == candidate.argmax(axis=1)) & ~broken
    decided = _confidence(expected) >= DECIDED
    enough = decided.sum() >= MIN_DECIDED
    top1 = float(same[decided].mean()) if enough else None
    return top1, float(same.mean()), int(decided.sum())


def _confidence(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest softmax of each row."""
    import numpy as np

    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(1 / shifted.sum(axis=1))


def _cosine(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """1 where both are zero, 0 where one is."""
    import numpy as np

    if np.array_equal(expected, found):
        return 1.0
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(found))
    return float(expected @ found) / lengths if lengths > 0 else 0.0


def _snr_db(signal: float, noise: float) -> float:
    if noise == 0:
        return _EXACT_DB
    if signal == 0:
        return -_EXACT_DB
    return max(-_EXACT_DB, min(_EXACT_DB, 10 * math.log10(signal / noise)))
