"""What a rung answers, to be held against the baseline's answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity
from corral.tensors import Signature
from corral.tuning import trial_worker
from corral.tuning.accuracy import fidelity_of, float_answers
from corral.tuning.before_sorts import arranged, cut_before_sorts, pairs
from corral.tuning.trial_worker import Trial, TrialOrder


@dataclasses.dataclass(frozen=True)
class Answers:
    """A rung's answers to the same pictures as all others'.

    Attributes:
        outputs: of each float output, [pictures,...]; empty where there is none.
        signature: of the model.
        cut: the same of what its sorts take; None where there is nothing sorted or decided, or the
            engine cannot say.
        cut_signature: of that.
    """

    outputs: dict[str, NDArray[Any]]
    signature: Signature
    cut: dict[str, NDArray[Any]] | None = None
    cut_signature: Signature | None = None

    def fidelity(self, other: Answers) -> Fidelity | None:
        """How close another's answers are to these: before their sorts where both can say.

        None where there is no float to compare.
        """
        if self.cut and other.cut and self.cut_signature and other.cut_signature:
            names = pairs(self.cut_signature, other.cut_signature)
            if names is not None:
                found = arranged(self.cut, other.cut, names)
                return fidelity_of(self.cut_signature, self.cut, found)
        if not self.outputs:
            return None
        return fidelity_of(self.signature, self.outputs, other.outputs)


def ask(
    trial: Trial, order: TrialOrder, inputs: NDArray[np.generic], environ: Mapping[str, str]
) -> Answers:
    """A rung's answers; what its sorts take is answered by a worker of its own, which ends."""
    outputs = float_answers(trial, order.signature, inputs)
    with cut_before_sorts(dataclasses.replace(order, sizes=(1,))) as cut:
        if cut is None:
            return Answers(outputs, order.signature)
        with trial_worker.start(cut, environ) as apart:
            found = float_answers(apart, cut.signature, inputs)
        return Answers(outputs, order.signature, found, cut.signature)
