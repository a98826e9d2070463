"""The precision guard: how far an arithmetic's answers are from FP32's, and whether that will do.

Pure: logits in, a verdict out. Three measures, over pictures that no quantizer has seen:

- **Top-1 agreement**, of the pictures on which FP32 itself is decided (softmax of 0.3 and more):
  where FP32 has no opinion, a change of label is no loss.
- **Cosine similarity** of each picture's logits with FP32's, the mean.
- **Signal-to-noise ratio**: energy of FP32's logits over that of the difference, in dB.

Weights without knowledge have no labels to agree on: there, only the last two count.
"""

from __future__ import annotations

import math

import msgspec
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

    #: share of decided pictures that keep their label; None where too few are decided
    top1: float | None
    #: share of all pictures that keep their label
    top1_all: float
    #: mean over pictures
    cosine: float
    #: dB over all pictures
    snr_db: float
    pictures: int
    decided: int


class GuardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard found, and what became of it."""

    #: what was compared with FP32: "openvino int8"
    candidate: str
    fidelity: Fidelity
    #: one phrase for every measure that is too low; empty when it passed
    faults: list[str]
    #: True when FP32 serves in its place
    fell_back: bool = False

    @property
    def passed(self) -> bool:
        """Whether every measure that counts is high enough."""
        return not self.faults

    @property
    def verdict(self) -> str:
        """ "passed", "failed" (and serves all the same) or "fell back"."""
        if self.passed:
            return "passed"
        return "fell back" if self.fell_back else "failed"

    def sentence(self) -> str:
        """One line for a person."""
        if self.passed:
            return f"{self.candidate} agrees with FP32: {describe(self.fidelity)}"
        tail = (
            "FP32 serves in its place" if self.fell_back else "it serves because it was asked for"
        )
        return f"{self.candidate} is not close enough to FP32 ({', '.join(self.faults)}): {tail}"


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> Fidelity:
    """Measures one arithmetic against FP32.

    Args:
        reference: FP32's logits, [pictures,classes].
        candidate: the other's for the same pictures.

    Raises:
        ValueError: shapes differ, or there is nothing.
    """
    if reference.shape != candidate.shape or reference.ndim != 2 or not reference.size:
        raise ValueError(f"logits {list(candidate.shape)} against {list(reference.shape)}")
    expected, found = reference.astype(np.float64), candidate.astype(np.float64)
    # What is no number agrees with nothing.
    broken = ~np.isfinite(found).all(axis=1)
    found[broken] = 0
    same = (expected.argmax(axis=1) == found.argmax(axis=1)) & ~broken
    decided = _confidence(expected) >= DECIDED
    return Fidelity(
        top1=float(same[decided].mean()) if decided.sum() >= MIN_DECIDED else None,
        top1_all=float(same.mean()),
        cosine=float(_cosine(expected, found).mean()),
        snr_db=_snr_db(expected, found),
        pictures=len(expected),
        decided=int(decided.sum()),
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


def _confidence(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest softmax of each row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(1 / shifted.sum(axis=1))


def _cosine(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row's; 1 where both are zero, 0 where one is."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    dots = (expected * found).sum(axis=1)
    equal = (expected == found).all(axis=1)
    return np.where(
        equal, 1.0, np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    )


def _snr_db(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    signal, noise = float(np.square(expected).sum()), float(np.square(expected - found).sum())
    if noise == 0:
        return _EXACT_DB
    if signal == 0:
        return -_EXACT_DB
    return max(-_EXACT_DB, min(_EXACT_DB, 10 * math.log10(signal / noise)))
