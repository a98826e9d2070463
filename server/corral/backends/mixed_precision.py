"""Which layers stay in higher precision, from what each costs and what it saves. Pure.

Noise of layers adds up as energies, as long as each is small; so the noise that is left when some
layers are not quantized is predicted by a sum, and what is predicted is measured before it counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

#: of an element that is read or written, in multiplications: what memory costs beside arithmetic
ELEMENT_COST = 16


def blocks(items: Sequence[Item], most: int) -> list[list[Item]]:
    """Runs of neighbours, at most ``most`` of them and as even as can be."""
    count = min(most, len(items))
    bounds = [len(items) * number // count for number in range(count + 1)] if count else [0]
    return [list(items[begin:end]) for begin, end in itertools.pairwise(bounds)]


def ranked(noises: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Numbers of blocks, those first that take most noise for the time that they cost.

    Args:
        noises: energy that quantizing a block alone adds.
        costs: what a block costs in higher precision, in any unit of time.
    """
    return sorted(range(len(noises)), key=lambda block: -noises[block] / max(costs[block], 1e-12))


def smallest(passes: Callable[[int], bool], first: int, most: int, tries: int) -> int:
    """The smallest number that was found to pass, or ``most``, which is not tried.

    Steps triple until one passes; what lies between it and the last that did not is halved then.

    Args:
        passes: whether a number does; larger ones are likelier to.
        first: the number that is tried first.
        most: the largest.
        tries: numbers that are tried at most; of up to 16, six are always enough.
    """
    failed, passed, step = first - 1, most, 1
    for _ in range(tries):
        if passed - failed <= 1:
            break
        # While none has passed, half of the way is the largest step.
        half = (failed + passed) // 2
        number = half if passed < most else min(failed + step, half)
        step *= 3
        if passes(number):
            passed = number
        else:
            failed = number
    return passed


def fewest(noises: Sequence[float], order: Sequence[int], allowed: float) -> int:
    """How many of the first in ``order`` must stay so that the others add no more than allowed."""
    left = sum(noises)
    for count, block in enumerate(order):
        if left <= allowed:
            return count
        left -= noises[block]
    return len(order)
