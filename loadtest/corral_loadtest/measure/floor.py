"""The simulated queue beside a measurement: the same arrivals, the same service, no overhead."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from corral_loadtest.generator import arrivals
from corral_loadtest.measure.running import Listener, run
from corral_loadtest.result import QueueFloor, Result
from corral_loadtest.simulate import queueing as queue_simulation
from corral_loadtest.specification import (
    ArrivalKind,
    ClosedLoop,
    Floor,
    OpenLoop,
    Specification,
    WrongInput,
)

_CALIBRATION_S = 5.0
_POISSON_COUNT = 200_000
_DISCARD = 0.05


def check(specification: Specification) -> None:
    """Raises WrongInput if a floor is asked for where there are no intended arrivals."""
    if specification.floor and isinstance(specification.load, ClosedLoop):
        raise WrongInput("a queueing floor needs an open loop: give a rate or a trace")


def service_ms(specification: Specification, listener: Listener | None = None) -> float:
    """What one request takes with one client: the median, sent one after another.

    Raises:
        WrongInput: as ``run`` does, or nothing was answered.
    """
    alone = msgspec.structs.replace(
        specification,
        load=ClosedLoop(clients=1),
        duration_s=min(_CALIBRATION_S, specification.duration_s),
        processes=1,
        connections=1,
        floor=None,
    )
    found = run(alone, listener)
    if not found.complete:
        raise KeyboardInterrupt
    if found.latency is None:
        raise WrongInput("the calibration with one client got no answer")
    return found.latency.p50_ms


def simulated(
    load: OpenLoop, floor: Floor, service_s: float, span_s: tuple[float, float]
) -> queue_simulation.Sojourns:
    """Sojourns in seconds of a load's arrivals.

    Poisson arrivals are simulated long enough for a 99th percentile to be sure; other schedules
    are played as they were sent, between the two times of ``span_s``.
    """
    if load.arrivals is ArrivalKind.POISSON and load.rate_per_s:
        offsets = queue_simulation.poisson_arrivals(load.rate_per_s, _POISSON_COUNT, load.seed)
        found = queue_simulation.sojourns(offsets, workers=floor.workers, service=service_s)
        return queue_simulation.percentiles(found, _DISCARD)
    offsets = arrivals.schedule(load, span_s[1])
    found = queue_simulation.sojourns(offsets, workers=floor.workers, service=service_s)
    inside = (offsets >= span_s[0]) & (offsets < span_s[1])
    return queue_simulation.percentiles(found[inside] if np.any(inside) else found)


def beside(found: Result, service_alone_ms: float) -> Result:
    """The same result with its floor."""
    wanted = found.specification
    load, floor = wanted.load, wanted.floor
    if floor is None or not isinstance(load, OpenLoop):
        return found
    span_s = (found.warm_up_s, found.warm_up_s + found.measured_s)
    best = simulated(load, floor, service_alone_ms / 1000, span_s)
    rate_per_s = load.rate_per_s or found.offered_per_s
    p99_ms = best.p99 * 1000
    return msgspec.structs.replace(
        found,
        floor=QueueFloor(
            workers=floor.workers,
            service_ms=service_alone_ms,
            load=rate_per_s * service_alone_ms / 1000 / floor.workers,
            p50_ms=best.p50 * 1000,
            p99_ms=p99_ms,
            ratio_p99=found.latency.p99_ms / p99_ms if found.latency else None,
        ),
    )


def run_with_floor(
    specification: Specification,
    listener: Listener | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """``run``, with the floor if one is asked for; its service time is measured first if not given.

    Args:
        specification: what to measure.
        listener: as for ``run``.
        say: told what is being done.

    Raises:
        WrongInput: as ``run`` does.
    """
    check(specification)
    floor = specification.floor
    if floor is None:
        return run(specification, listener)
    alone_ms = floor.service_ms
    if alone_ms is None:
        if say:
            say("calibrating with one client")
        alone_ms = service_ms(specification, listener)
    return beside(run(specification, listener), alone_ms)
