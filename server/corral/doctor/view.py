"""The report as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corral.doctor.finding import BY_URGENCY, Finding, Report, Status
from corral.planning.explain import count

STYLES = {
    Status.ERROR: "bold red",
    Status.WARNING: "yellow",
    Status.INFO: "cyan",
    Status.UNKNOWN: "dim",
    Status.OK: "green",
}


def render(report: Report) -> Group:
    """The machine, a table of what is not well, and the rest in fewer words."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    yield Text(headline(report))
    for status in (Status.ERROR, Status.WARNING, Status.INFO):
        for finding in report.of(status):
            yield Text("")
            yield _block(finding)
    yield Text("")
    yield _short(report)
    yield Text(f"\n{totals(report)}")


def headline(report: Report) -> str:
    """The machine and what was looked at, in one line."""
    facts = report.machine
    features = ", ".join(facts.features) or "no vector instructions that matter"
    return (
        f"{facts.cpu}: {count(facts.cores, 'core')}, {count(facts.cpus, 'CPU')}, "
        f"{count(max(1, facts.nodes), 'node')}, {features}"
        f"{', a guest of a hypervisor' if facts.virtual else ''}\n"
        f"{facts.looked_at}: {count(facts.workers, 'worker')}, mode {facts.mode}"
        + (f"; kernel {facts.kernel}" if facts.kernel else "")
        + (
            f"; others used up to {facts.busy_percent:g} % of a worker's CPUs meanwhile"
            if facts.busy_percent
            else ""
        )
    )


def totals(report: Report) -> str:
    """How many of each, the most urgent first: "2 warnings, 30 ok"."""
    return ", ".join(total(status, number) for status, number in report.summary.items() if number)


def total(status: str, number: int) -> str:
    """How many of one status: "2 warnings", "2 unknown"."""
    nouns = {Status.ERROR.value, Status.WARNING.value}
    return count(number, status) if status in nouns else f"{number} {status}"


def _block(finding: Finding) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=8)
    table.add_column(width=8)
    table.add_column(overflow="fold")
    style = STYLES[finding.status]
    title = Text(finding.title, style="bold")
    title.append(f"  {finding.id}", style="dim")
    table.add_row(Text(finding.status.value, style=style), "", title)
    rows = {
        "found": finding.found,
        "wanted": finding.wanted,
        "why": finding.why,
        "fix": finding.fix,
        "workers": ", ".join(map(str, finding.workers)),
        "source": finding.source,
    }
    for name, text in rows.items():
        if text:
            table.add_row("", Text(name, style="dim"), Text(text))
    return table


def _short(report: Report) -> Table:
    """What needs no more than a line each."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    order = {status: place for place, status in enumerate(BY_URGENCY)}
    rest = report.of(Status.OK, Status.UNKNOWN)
    for finding in sorted(rest, key=lambda finding: -order[finding.status]):
        mark = Text(finding.status.value, style=STYLES[finding.status])
        table.add_row(mark, finding.title, Text(finding.found))
    return table
