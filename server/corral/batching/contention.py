"""What frontends and clients take of the workers, on whose cores they compute. Pure."""

from __future__ import annotations

#: a larger share of a worker's time is not taken: whoever takes it would wait for the CPU, too
_MOST_TAKEN = 0.9


def slowdown(rate: float, taken_s: float) -> float:
    """How many times as long a batch is, where each request takes so much from its worker.

    Args:
        rate: requests a second of the cell.
        taken_s: seconds that each of them takes from every worker, beside its batch.
    """
    return 1 / (1 - min(_MOST_TAKEN, rate * taken_s))


def taken_of(beside_s: float, rate: float, workers: int, spare_cores: int) -> float:
    """What a request takes from every worker, where its CPU time is all taken from workers.

    Args:
        beside_s: CPU seconds of a request's frontend, and of its client where that is known.
        rate: requests a second of the whole server, at which they were seen.
        workers: of the whole server.
        spare_cores: that no worker has; what fits there is taken from nobody.
    """
    spare_s = spare_cores / rate if rate else 0.0
    return max(0.0, beside_s - spare_s) / workers
