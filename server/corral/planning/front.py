"""How much of a node its frontends need: what a request costs them, what workers make. Pure."""

from __future__ import annotations

import math

import msgspec

#: Server CPU of a request with an FP32 tensor of 602 KB, in microseconds, null backend, 17
#: clients, 2-core Intel Xeon with AMX, 2026-11-26: what a plan assumes until it is measured.
ASSUMED_FRONT_US = 746.0
#: a frontend that is busier than this share of its cores makes requests wait
MOST_BUSY = 0.7
#: on smaller nodes no core is kept free: it would take too much from the workers
RESERVING_CORES = 8
#: nodes whose workers' rate is unknown keep one core in so many free
_CORES_A_RESERVED_ONE = 16


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the frontend's cost and of the workers' rate.

    Attributes:
        front_us: microseconds of CPU that a request costs the frontend.
        front_source: where that is from, in words.
        images_per_core_s: images/s that one core of the workers makes; None where not known.
        images_source: where that is from, in words.
        one_core_gain: by which share workers of one core make more images/s than wider ones on
            the same cores; None where not measured.
    """

    front_us: float = ASSUMED_FRONT_US
    front_source: str = "assumed until it is measured"
    images_per_core_s: float | None = None
    images_source: str = "not measured yet"
    one_core_gain: float | None = None

    def busy_cores(self, worker_cores: int) -> float | None:
        """Cores that frontends need at the full rate of so many cores of workers; None: unknown."""
        if self.images_per_core_s is None:
            return None
        return worker_cores * self.images_per_core_s * self.front_us / 1e6


def cores_to_reserve(cores: int, width: int, figures: Figures) -> int:
    """Cores of a node that are kept free for frontends.

    As few as keep the frontends at most 70 % busy while all workers are. None where a frontend on
    the workers' own CPUs takes less from them than the kept cores would: a worker's threads wait
    for one another, so each slice of a CPU that the frontend takes stops all of one worker.

    Args:
        cores: of the node, 1 or more.
        width: cores of its widest worker.
        figures: what is known.
    """
    if cores < RESERVING_CORES:
        return 0
    needed = figures.busy_cores(cores)
    if needed is None:
        return max(1, cores // _CORES_A_RESERVED_ONE)
    # With r cores kept, cores - r work: needed * (cores - r) / cores <= 0.7 * r.
    kept = math.ceil(needed / (MOST_BUSY + needed / cores) - 1e-9)
    kept = min(max(1, kept), cores - 1)
    if needed <= MOST_BUSY and needed * width < kept:
        return 0
    return kept


def fronts(reserved: int, workers: int, figures: Figures) -> int:
    """Frontends of a node: one a reserved core where that is measured, at most one a worker.

    A frontend is one event loop, which keeps about one core busy.
    """
    if figures.images_per_core_s is None:
        return 1
    return max(1, min(reserved, workers))
