"""A result as a table for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from corral_loadtest.result import Ramp, Result
from corral_loadtest.specification import ClosedLoop, Specification


def load_text(specification: Specification) -> str:
    """The load in a few words: "16 clients", "poisson, 50/s"."""
    load = specification.load
    if isinstance(load, ClosedLoop):
        return f"{load.clients} client{'s' if load.clients > 1 else ''}"
    rate = f"{load.rate_per_s:g}/s" if load.rate_per_s else "at its own speed"
    return f"{load.arrivals}, {rate}"


def rows(found: Result) -> list[tuple[str, str]]:
    """(what, figure) pairs, for the terminal and the page alike."""
    out = [
        ("load", load_text(found.specification)),
        ("answered", f"{found.requests_per_s:,.1f} requests/s"),
    ]
    if found.specification.payload.batch > 1:
        out.append(("items", f"{found.items_per_s:,.1f} items/s"))
    if not isinstance(found.specification.load, ClosedLoop):
        out.append(("offered", f"{found.offered_per_s:,.1f} requests/s"))
    if found.latency:
        names = ("p50", "p90", "p99", "p999", "max")
        values = [getattr(found.latency, f"{name}_ms") for name in names]
        shown = [f"{name} {value:,.2f}" for name, value in zip(names, values, strict=True)]
        out.append(("latency, ms", "  ".join(shown)))
    for status, count in found.statuses.items():
        if status != "OK":
            p99_ms = found.latency_by_status[status].p99_ms
            out.append((status, f"{count:,} ({count / found.sent:.2%}), p99 {p99_ms:,.2f} ms"))
    out += _cost(found)
    if found.floor:
        floor = found.floor
        alone, load = f"{floor.service_ms:.2f} ms each", f"load {floor.load:.0%}"
        ratio = f", measured is {floor.ratio_p99:.2f} times that" if floor.ratio_p99 else ""
        out.append(
            (
                "queueing alone",
                f"p99 {floor.p99_ms:,.2f} ms{ratio} ({floor.workers} workers, {alone}, {load})",
            )
        )
    steady = "steady" if found.steady else "not steady"
    out.append(
        ("measured", f"{found.measured_s:g} s after {found.warm_up_s:g} s of warm-up, {steady}")
    )
    return out


def _cost(found: Result) -> list[tuple[str, str]]:
    out = []
    server, generator = found.server, found.generator
    if server.cpu_s_per_request is not None:
        memory = f", {server.memory_mib:,.0f} MiB" if server.memory_mib else ""
        cost = f"{server.cpu_s_per_request * 1e6:,.0f} µs of CPU a request"
        out.append(("server", f"{cost}, {server.cpu_cores or 0:.2f} cores{memory}"))
    lag = (
        ""
        if isinstance(found.specification.load, ClosedLoop)
        else (f", sent {generator.lag_p99_ms:.2f} ms late (p99)")
    )
    cost = f"{generator.cpu_s_per_request * 1e6:,.0f} µs of CPU a request"
    out.append(("generator", f"{cost}, busiest core {generator.cpu_share:.0%}{lag}"))
    return out


def table(found: Result) -> Group:
    """For the terminal."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for what, figure in rows(found):
        grid.add_row(what, figure)
    return Group(grid, *(Text(remark, style="yellow") for remark in found.remarks))


def ramp_table(found: Ramp) -> Group:
    """One line a step, and the capacity."""
    grid = Table(box=None, pad_edge=False)
    for name in ("load", "requests/s", "p50 ms", "p99 ms", "errors", "generator"):
        grid.add_column(name, justify="left" if name == "load" else "right")
    for step in found.steps:
        latency = step.latency
        grid.add_row(
            load_text(step.specification),
            f"{step.requests_per_s:,.1f}",
            f"{latency.p50_ms:,.2f}" if latency else "",
            f"{latency.p99_ms:,.2f}" if latency else "",
            f"{step.error_share:.2%}",
            f"{step.generator.cpu_share:.0%}{' limit' if step.generator.limit else ''}",
        )
    capacity = f"capacity: {found.capacity_per_s:,.1f} requests/s"
    if not found.reached:
        capacity += ", and more load may bring more"
    return Group(grid, Text(capacity, style="bold"))
