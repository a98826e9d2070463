"""Rising load, to find where more of it brings no more answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from corral_loadtest.measure.running import Listener, run
from corral_loadtest.result import Ramp, Result
from corral_loadtest.specification import ClosedLoop, OpenLoop, Specification, with_load

GAIN = 0.03
KEPT_UP = 0.97
_BISECTIONS = 4


def client_steps(most: int) -> Iterator[int]:
    """1, 2, 4 … and at last ``most``."""
    clients = 1
    while clients < most:
        yield clients
        clients *= 2
    yield most


def levelled(rates_per_s: list[float]) -> bool:
    """Whether the last two steps both gained less than 3 % over the best before them."""
    if len(rates_per_s) < 3:
        return False
    best = max(rates_per_s[:-2])
    return all(rate < best * (1 + GAIN) for rate in rates_per_s[-2:])


def kept_up(found: Result) -> bool:
    """Whether a server answered what was offered: 97 % of it, and errors within bounds."""
    return found.valid and found.requests_per_s >= KEPT_UP * found.offered_per_s


def _sum(steps: list[Result], *, reached: bool) -> Ramp:
    rates = [step.requests_per_s for step in steps if step.valid]
    return Ramp(steps=tuple(steps), capacity_per_s=max(rates, default=0.0), reached=reached)


def ramp_clients(
    specification: Specification,
    most: int,
    listener: Listener | None = None,
    done: Callable[[Result], None] | None = None,
) -> Ramp:
    """Closed loops of 1, 2, 4 … ``most`` clients, until two steps in a row bring no more.

    Args:
        specification: of every step; its load is replaced.
        most: clients of the last step.
        listener: as for ``run``.
        done: told every step's result.
    """
    steps: list[Result] = []
    for clients in client_steps(most):
        found = run(with_load(specification, ClosedLoop(clients=clients)), listener)
        steps.append(found)
        if done:
            done(found)
        if not found.complete:
            break
        if levelled([step.requests_per_s for step in steps]):
            return _sum(steps, reached=True)
    return _sum(steps, reached=False)


def ramp_rates(
    specification: Specification,
    load: OpenLoop,
    most_per_s: float,
    listener: Listener | None = None,
    done: Callable[[Result], None] | None = None,
) -> Ramp:
    """Open loops of doubled rates from ``most_per_s`` / 16 on, then halved between the last two.

    Args:
        specification: of every step; its load is replaced.
        load: the arrivals; their rate is replaced.
        most_per_s: the highest rate tried.
        listener: as for ``run``.
        done: told every step's result.
    """
    steps: list[Result] = []
    good, bad = 0.0, None
    rate_per_s = most_per_s / 16
    for _ in range(5 + _BISECTIONS):
        wanted = OpenLoop(
            rate_per_s=rate_per_s,
            arrivals=load.arrivals,
            burst=load.burst,
            trace=load.trace,
            seed=load.seed,
            max_in_flight=load.max_in_flight,
        )
        found = run(with_load(specification, wanted), listener)
        steps.append(found)
        if done:
            done(found)
        if not found.complete:
            break
        if kept_up(found):
            good = rate_per_s
        else:
            bad = rate_per_s
        if bad is None and good >= most_per_s:
            break
        if bad is not None and bad - good < GAIN * bad:
            break
        rate_per_s = min(2 * good, most_per_s) if bad is None else (good + bad) / 2
    held = [step for step in steps if kept_up(step)]
    capacity = max((step.requests_per_s for step in held), default=0.0)
    return Ramp(steps=tuple(steps), capacity_per_s=capacity, reached=bad is not None)
