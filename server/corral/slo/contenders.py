"""Which configurations are put under load to be confirmed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from corral.batching.prediction import Prediction
from corral.slo.space import Configuration

#: configurations that are confirmed
_BEST = 3
#: predictions are not wrong by so much: what is further behind is not confirmed
_FAR = 0.75
#: what is predicted to be as near in rate and median behaves alike
_ALIKE = 0.02


def distinct(
    ranked: Sequence[Configuration], predicted: Mapping[Configuration, Prediction]
) -> list[Configuration]:
    """The best that may win and would behave in different ways, three at the most.

    What a forecast has wrong it has wrong of all workers of a shape: the best of each shape goes
    before the next ones of the same.

    Args:
        ranked: the best first.
        predicted: of each.
    """
    near = [one for one in ranked if predicted[one].rate >= predicted[ranked[0]].rate * _FAR]
    firsts = {(one.arithmetic, one.shape): one for one in reversed(near)}
    found: list[Configuration] = []
    for one in sorted(near, key=lambda one: one not in firsts.values()):
        if not any(_alike(one, other, predicted) for other in found):
            found.append(one)
        if len(found) == _BEST:
            break
    return found


def _alike(
    one: Configuration, other: Configuration, predicted: Mapping[Configuration, Prediction]
) -> bool:
    """Whether two would behave alike: the same workers, and memory or rules that change little."""
    if (one.arithmetic, one.shape) != (other.arithmetic, other.shape):
        return False
    mine, its = predicted[one], predicted[other]
    rates = math.isclose(mine.rate, its.rate, rel_tol=_ALIKE)
    return one.batching == other.batching or (
        rates and math.isclose(mine.p50_s, its.p50_s, rel_tol=_ALIKE)
    )
