"""From windows to a result: figures, and whether they may be believed."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import msgspec

from corral_loadtest.generator import histograms
from corral_loadtest.generator.windows import OK, Window, Windows
from corral_loadtest.result import Generator, Interval, Latency, Machine, Result, Server
from corral_loadtest.servers import process_tree
from corral_loadtest.specification import OpenLoop, Specification, WrongInput

BUSY_SHARE = 0.9
LAG_SHARE = 0.1
LAG_MS = 1.0
#: from here on it shows in quantiles: 1 % of all moments is what a p99 is made of
STOLEN_SHARE = 0.01


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of the clocks at one time.

    Attributes:
        at_s: CLOCK_MONOTONIC.
        server_cpu_s: of the server's tree; 0 without its pid.
        answered: requests of any status so far.
        generator_cpu_s: of each generator.
        stolen_s: see machine.stolen_s.
    """

    at_s: float = 0.0
    server_cpu_s: float = 0.0
    answered: int = 0
    generator_cpu_s: list[float] = []
    stolen_s: float = 0.0


def sum_up(
    specification: Specification,
    windows: Windows,
    span: tuple[int, int],
    *,
    started_at: str,
    machine: Machine,
    server: Server,
    division: tuple[int, int],
    usage: tuple[Usage, Usage],
    complete: bool,
    steady: bool,
) -> Result:
    """The result of the windows ``span[0]`` to ``span[1]``, the last left out.

    Args:
        specification: what was asked for.
        windows: all of them.
        span: of the measured part.
        started_at: ISO 8601.
        machine: of the generators.
        server: by name; what it used is filled in.
        division: generators and connections.
        usage: at the begin and at the end of the measured part.
        complete: it was not interrupted.
        steady: the warm-up ended because windows agreed.
    """
    whole = windows.total(*span)
    measured_s = (span[1] - span[0]) * windows.window_s
    statuses, latencies, fine = _by_status(whole)
    error_share = 1 - statuses.get(OK, 0) / whole.sent if whole.sent else 0.0
    generator = _generator(specification, whole, division, usage, latencies.get(OK))
    stolen = stolen_share(usage, os.cpu_count() or 1)
    remarks = _remarks(specification, whole, error_share, generator, steady=steady)
    answered_per_s = whole.arrived[OK] / measured_s
    return Result(
        started_at=started_at,
        specification=specification,
        machine=machine,
        server=_server(specification, server, usage),
        generator=generator,
        complete=complete,
        steady=steady,
        warm_up_s=span[0] * windows.window_s,
        measured_s=measured_s,
        offered_per_s=whole.sent / measured_s,
        requests_per_s=answered_per_s,
        items_per_s=answered_per_s * specification.payload.batch,
        sent=whole.sent,
        statuses=statuses,
        error_share=error_share,
        stolen_share=stolen,
        valid=bool(whole.sent) and error_share <= specification.max_error_share,
        remarks=(*remarks, *_disturbances(stolen, complete=complete)),
        latency=latencies.get(OK),
        latency_by_status=latencies,
        percentiles=histograms.curve(fine),
        histogram=histograms.encoded(fine),
        timeline=tuple(_interval(windows, n, span) for n in range(len(windows))),
    )


def _by_status(whole: Window) -> tuple[dict[str, int], dict[str, Latency], Any]:
    """How many answers of each status and their latencies; the histogram of the answers "OK"."""
    found = {status: histograms.merged(parts) for status, parts in whole.latencies.items()}
    counts = {status: int(one.get_total_count()) for status, one in sorted(found.items())}
    latencies = {status: said for status, h in found.items() if (said := histograms.summary(h))}
    return counts, latencies, found.get(OK, histograms.empty())


def _disturbances(stolen: float, *, complete: bool) -> list[str]:
    remarks = []
    if stolen >= STOLEN_SHARE:
        remarks.append(f"the hypervisor gave {stolen:.1%} of the CPU time to others: expect noise")
    if not complete:
        remarks.append("interrupted: the figures are of what was measured until then")
    return remarks


def _interval(windows: Windows, index: int, span: tuple[int, int]) -> Interval:
    window = windows[index]
    found = histograms.summary(histograms.merged(window.latencies.get(OK, [])))
    return Interval(
        at_s=index * windows.window_s,
        measured=span[0] <= index < span[1],
        sent=window.sent,
        answered=window.arrived[OK],
        errors={status: n for status, n in window.arrived.items() if status != OK},
        p50_ms=found.p50_ms if found else None,
        p99_ms=found.p99_ms if found else None,
        max_ms=found.max_ms if found else None,
    )


def _generator(
    specification: Specification,
    whole: Window,
    division: tuple[int, int],
    usage: tuple[Usage, Usage],
    latency: Latency | None,
) -> Generator:
    begin, end = usage
    before = begin.generator_cpu_s or [0.0] * len(end.generator_cpu_s)
    spent = [b - a for a, b in zip(before, end.generator_cpu_s, strict=False)]
    elapsed_s = max(end.at_s - begin.at_s, 1e-9) if begin.at_s else 0.0
    share = max(spent, default=0.0) / elapsed_s if elapsed_s else 0.0
    lag_ms = 0.0
    if isinstance(specification.load, OpenLoop) and whole.lags:
        lag_ms = histograms.percentile_ms(histograms.merged(whole.lags), 99)
    return Generator(
        processes=division[0],
        connections=division[1],
        cpu_s_per_request=sum(spent) / max(1, end.answered - begin.answered),
        cpu_share=share,
        lag_p99_ms=lag_ms,
        limit=limit(share, lag_ms, latency.p50_ms if latency else 0.0),
    )


def stolen_share(usage: tuple[Usage, Usage], cpus: int) -> float:
    """Of the time of all CPUs, what the hypervisor gave to others; 0 to 1."""
    begin, end = usage
    elapsed_s = end.at_s - begin.at_s
    return (end.stolen_s - begin.stolen_s) / (elapsed_s * cpus) if begin.at_s and elapsed_s else 0.0


def limit(cpu_share: float, lag_p99_ms: float, p50_ms: float) -> str | None:
    """Why the tool itself may have set the figures; None if it did not.

    Args:
        cpu_share: the busiest generator's, of one core.
        lag_p99_ms: how late requests were sent.
        p50_ms: of the answers, which a lag must be small against.
    """
    if cpu_share >= BUSY_SHARE:
        return f"a generator kept its core {cpu_share:.0%} busy: use more --processes"
    if lag_p99_ms > max(LAG_MS, LAG_SHARE * p50_ms):
        return f"requests were sent {lag_p99_ms:.1f} ms late (p99): use more --processes or cores"
    return None


def _remarks(
    specification: Specification,
    whole: Window,
    error_share: float,
    generator: Generator,
    *,
    steady: bool,
) -> list[str]:
    remarks = []
    if not whole.sent:
        remarks.append("no request was answered in the measured part")
    if error_share > specification.max_error_share:
        allowed = specification.max_error_share
        remarks.append(f"not valid: {error_share:.2%} errors, {allowed:.2%} are allowed")
    if generator.limit:
        remarks.append(f"the load generator was the limit: {generator.limit}")
    if not steady:
        remarks.append("not steady: windows still differed when the measured part began")
    return remarks


def _server(specification: Specification, server: Server, usage: tuple[Usage, Usage]) -> Server:
    pid = specification.server_pid
    begin, end = usage
    if pid is None or not begin.at_s:
        return server
    spent_s = end.server_cpu_s - begin.server_cpu_s
    memory = None
    with contextlib.suppress(WrongInput):
        memory = process_tree.memory_mib(pid)
    return msgspec.structs.replace(
        server,
        cpu_s_per_request=spent_s / max(1, end.answered - begin.answered),
        cpu_cores=spent_s / (end.at_s - begin.at_s),
        memory_mib=memory,
    )
