"""How large a loss may be, as far as a sample of pictures can tell. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: how sure the bound is
CONFIDENCE = 0.95
_RESAMPLES = 2000
#: pictures; it bounds the memory
_DRAWN_AT_ONCE = 1_000_000
_SEED = 19_790_101
#: how exactly the bound of a count is found
_EXACT = 1e-9


def upper_bound(
    costs: NDArray[np.float64], worths: NDArray[np.float64], pictures: NDArray[np.intp]
) -> float:
    """The one-sided 95 % upper bound of sum(costs) / sum(worths), by bootstrap over pictures.

    Args:
        costs: of each crop, [crops].
        worths: of each crop, [crops].
        pictures: which picture each crop is of, [crops], 0 to the last without a gap.
    """
    number = int(pictures.max()) + 1
    cost = np.bincount(pictures, costs, minlength=number)
    worth = np.bincount(pictures, worths, minlength=number)
    random = np.random.default_rng(_SEED)
    # A sample in which FP32 has nothing to lose loses all, so that it counts against.
    ratios = np.ones(_RESAMPLES)
    at_once = max(1, _DRAWN_AT_ONCE // number)
    for begin in range(0, _RESAMPLES, at_once):
        count = min(at_once, _RESAMPLES - begin)
        drawn = random.integers(0, number, (count, number))
        whole = worth[drawn].sum(axis=1)
        part = ratios[begin : begin + count]
        np.divide(cost[drawn].sum(axis=1), whole, out=part, where=whole > 0)
    return float(np.quantile(ratios, CONFIDENCE))


def most_of_a_count(lost: int, of: int) -> float:
    """The one-sided 95 % upper bound of a share of which so many were seen (Clopper and Pearson).

    A bootstrap knows nothing of what it has not seen: of none lost it says that none ever is. Here
    none of 20 may be 13.9 %, none of 298 is 1.0 %: about 3 in n.

    Args:
        lost: how many were seen.
        of: among how many.
    """
    if lost >= of:
        return 1.0
    number = np.arange(1, lost + 1)
    # Logarithms of the ways to choose 0 to ``lost``.
    ways = np.concatenate([[0.0], np.cumsum(np.log((of - number + 1) / number))])
    losses = np.arange(lost + 1)
    low, high = 0.0, 1.0
    while high - low > _EXACT:
        share = (low + high) / 2
        likely = ways + losses * np.log(share) + (of - losses) * np.log1p(-share)
        if np.exp(likely).sum() > 1 - CONFIDENCE:
            low = share
        else:
            high = share
    return high
