"""A profile as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corral.errors import printable
from corral.planning.explain import count
from corral.profiling.compare import Comparison
from corral.profiling.report import Budget, EngineFigures, OperatorRow, ProfileReport
from corral.profiling.threads import ThreadUse
from corral.system.cpu_list import format_cpus

TOP = 10
#: columns of the table of operators: names, then numbers
COLUMNS = ("operator", "type", "kernel", "precision",
           "calls", "µs", "share", "sum", "GFLOP", "GFLOP/s", "of peak")  # fmt: skip
#: columns of a console that has room for all of them
WIDE = 120
_SPARED = {"type", "precision", "calls", "sum", "GFLOP"}


def render(report: ProfileReport, width: int = WIDE) -> Group:
    """Everything that was measured; a narrow console gets fewer columns."""
    return Group(*_parts(report, width))


def _parts(report: ProfileReport, width: int) -> Iterator[RenderableType]:
    yield Text(headline(report), style="bold")
    if report.budget is not None:
        yield _budget(report.budget)
    if report.engine is not None:
        yield _operators(report.engine, width)
        yield Text("\n".join(engine_lines(report.engine)))
    for worker, used in sorted(report.worker_threads.items()):
        yield Text(f"worker {worker} while it served: {threads_line(used)}")
    for note in report.notes:
        yield Text(f"! {note}", style="yellow")


def headline(report: ProfileReport) -> str:
    """What was profiled, in one line."""
    plural = "s" if report.workers != 1 else ""
    return (
        f"{report.model}, mode {report.mode}, {report.workers} worker{plural}, {report.cpu}; "
        f"{report.served_by}, {report.seconds:g} s"
    )


def _budget(budget: Budget) -> Table:
    table = _table(f"A request's budget ({budget.requests:,} requests)", ("phase",),
                   ("p50 µs", "p99 µs", "mean µs", "share"))  # fmt: skip
    for phase in budget.phases:
        share = 100 * phase.mean_us / budget.total.mean_us
        times = (phase.p50_us, phase.p99_us, phase.mean_us)
        table.add_row(phase.name, *(f"{us:,.0f}" for us in times), f"{share:.1f} %")
    table.add_section()
    for span in (budget.total, budget.client):
        if span is not None:
            times = (span.p50_us, span.p99_us, span.mean_us)
            name = "sum, in the server" if span is budget.total else "end to end, at the client"
            table.add_row(name, *(f"{us:,.0f}" for us in times), "")
    return table


def _operators(engine: EngineFigures, width: int) -> Table:
    rows = engine.operators[:TOP]
    shown = [name for name in COLUMNS if width >= WIDE or name not in _SPARED]
    table = _table(
        f"The slowest {len(rows)} of {len(engine.operators)} operators, batch {engine.batch}",
        [name for name in shown if name in COLUMNS[:4]],
        [name for name in shown if name in COLUMNS[4:]],
    )
    table.add_column("")
    for row in rows:
        cells = dict(zip(COLUMNS, operator_cells(row), strict=True))
        table.add_row(*(cells[name] for name in shown), Text(row.remark, style="yellow"))
    return table


def operator_cells(row: OperatorRow) -> list[str]:
    """The columns of an operator, as text; a dash for what is not known."""
    return [
        row.name,
        row.type,
        row.kernel or "-",
        row.precision or "-",
        f"{row.calls:,}",
        f"{row.us:,.0f}",
        f"{row.share_percent:.1f} %",
        f"{row.cumulated_percent:.0f} %",
        "-" if row.gflop is None else f"{row.gflop:.3g}",
        "-" if row.gflop_s is None else f"{row.gflop_s:,.1f}",
        "-" if row.peak_percent is None else f"{row.peak_percent:.0f} %",
    ]


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", min_width=8)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def engine_lines(engine: EngineFigures) -> list[str]:
    """The engine, its peaks, its threads and what is to be called out; sentences."""
    described = " ".join(
        engine.described.get(key, "") for key in ("engine", "version", "precision")
    )
    flop = sum(row.gflop or 0.0 for row in engine.operators)
    operators_us = sum(row.us for row in engine.operators)
    noise = "" if engine.profiler_percent is not None else ", less than without it, which is noise"
    first = (
        f"engine    {described}, CPUs {format_cpus(engine.cpus)}: "
        f"p50 {engine.inference.p50_us / 1000:.2f} ms, p99 {engine.inference.p99_us / 1000:.2f} ms "
        f"a batch of {engine.batch}; "
        f"under its profiler the operators add up to {operators_us / 1000:.2f} ms{noise}"
    )
    lines = [first]
    if flop:
        rate = flop / (engine.inference.p50_us / 1e6)
        lines.append(f"work      {flop:.2f} GFLOP a batch, {rate:,.1f} GFLOP/s")
    lines += [
        f"peak      {peak.gflop_s:,.0f} GFLOP/s {peak.precision} by {peak.isa}, measured"
        for peak in engine.peaks
    ]
    if engine.bandwidth_gb_s is not None:
        lines.append(f"memory    {engine.bandwidth_gb_s:.1f} GB/s of copies, measured")
    lines.append(f"threads   {threads_line(engine.threads)}")
    for remark in ("reference kernel", "reorder"):
        marked = [row for row in engine.operators if row.remark == remark]
        if marked:
            share = sum(row.share_percent for row in marked)
            lines.append(f"{remark}s: {count(len(marked), 'operator')}, {share:.1f} % of the time")
    return lines


def threads_line(used: ThreadUse) -> str:
    """What threads did, in one line."""
    if not used.computing:
        return "none computed"
    moved = (
        "migrations not shown" if used.migrations is None else count(used.migrations, "migration")
    )
    others = (
        "while the busiest worked, the others were idle "
        f"{used.idle_for_slowest_percent:.1f} % of the time; "
    )
    return (
        f"{used.computing} computing; {others if used.computing > 1 else ''}ready without a CPU "
        f"{used.waited_percent:.1f} %; {used.voluntary_per_s:,.0f} waits and "
        f"{used.involuntary_per_s:,.0f} preemptions a second, {moved}"
    )


def render_comparison(found: Comparison, names: tuple[str, str]) -> Group:
    """What else differs, what became slower, then what became faster; notes of both."""
    slower = [change.sentence() for change in found.changes if change.more_us > 0]
    faster = [change.sentence() for change in reversed(found.changes) if change.more_us <= 0]
    parts: list[RenderableType] = [Text(f"{names[1]} beside {names[0]}")]
    for title, lines, style in (
        ("measured otherwise", found.differences, "yellow"),
        ("slower", slower, "red"),
        ("faster", faster, "green"),
    ):
        if lines:
            shown = "\n".join(f"  {printable(line)}" for line in lines)
            parts += [Text(f"{title}:", style=f"bold {style}"), Text(shown)]
    if not found.changes:
        parts.append(Text(f"nothing of the {' and '.join(found.compared)} changed by 5 % or more"))
    for which, notes in zip(("first", "second"), found.notes, strict=True):
        parts += [Text(f"! {which}: {printable(note)}", style="yellow") for note in notes]
    return Group(*parts)
