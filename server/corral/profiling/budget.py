"""From the moments of requests to where their time goes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from corral.ipc.spans import MOMENTS, RequestSpan
from corral.profiling.report import Budget, span

#: the phase that ends with each moment but the first
PHASES = dict(
    zip(
        MOMENTS[1:],
        ("receive", "admit", "queue", "copy", "wake", "infer", "copy out", "answer"),
        strict=True,
    )
)


def phases_us(request: RequestSpan) -> dict[str, float]:
    """Microseconds of each phase of a request; they add up to its whole time."""
    moments = list(request.at_s.values())
    return {
        name: (after - before) * 1e6
        for name, before, after in zip(PHASES.values(), moments[:-1], moments[1:], strict=True)
    }


def make_budget(
    requests: Sequence[RequestSpan], client_us: Sequence[float], dropped: int
) -> Budget | None:
    """The budget of some requests; None where there are none.

    Args:
        requests: that were traced.
        client_us: their clients' end-to-end times, where they are known.
        dropped: requests that were not written down.
    """
    if not requests:
        return None
    by_request = [phases_us(request) for request in requests]
    return Budget(
        requests=len(requests),
        phases=[span(name, [found[name] for found in by_request]) for name in PHASES.values()],
        total=span("sum", [sum(found.values()) for found in by_request]),
        client=span("end to end", list(client_us)) if client_us else None,
        dropped=dropped,
    )
