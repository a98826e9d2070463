"""A search under a latency bound as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corral.slo.report import CandidateRow, TuneReport, Winner

#: rows of the table beside those that were measured
_PREDICTED = 5
COLUMNS = ("configuration", "predicted /s", "kept /s", "p50 ms", "p99 ms", "90 % of p99", "")


def render(report: TuneReport) -> Group:
    """All that is known, the winner first."""
    return Group(*_parts(report))


def headline(report: TuneReport) -> str:
    """What was asked."""
    return f"{report.model}: p99 <= {report.p99_ms:g} ms, {report.arrivals} arrivals, {report.cpu}"


def _parts(report: TuneReport) -> Iterator[RenderableType]:
    yield Text(headline(report), style="bold")
    if report.winner is not None:
        yield Text(winner_line(report.winner, report.p99_ms))
        if report.headroom is not None and report.asked_rate is not None:
            yield Text(headroom_line(report))
    table = Table(title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(COLUMNS[0], overflow="fold", min_width=20)
    for name in COLUMNS[1:-1]:
        table.add_column(name, justify="right")
    table.add_column(COLUMNS[-1], overflow="fold")
    for row in shown(report):
        table.add_row(*cells(row))
    yield table
    yield Text("\n".join(facts(report)))
    for line in report.not_tried:
        yield Text(f"not tried: {line}")
    for note in report.notes:
        yield Text(f"! {note}", style="yellow")


def shown(report: TuneReport) -> list[CandidateRow]:
    """What was measured, and the best that was not."""
    rest = [row for row in report.candidates if row.measured is None]
    return [*report.measured, *rest[:_PREDICTED]]


def cells(row: CandidateRow) -> list[str]:
    """The columns of a configuration, as text."""
    told, seen = row.predicted, row.measured
    predicted = f"{told.rate:,.1f}" if told else "-"
    if seen is None:
        return [row.name, predicted, "-", "-", "-", "-", row.lost]
    low, high = seen.p99_interval_ms
    return [
        row.name,
        predicted,
        f"{seen.rate:,.1f}" if seen.rate else "none yet",
        f"{seen.p50_ms:.1f}",
        f"{seen.p99_ms:.1f}",
        f"{low:.1f} to {high:.1f}",
        row.lost or "the winner",
    ]


def winner_line(winner: Winner, bound_ms: float) -> str:
    """The result in a sentence."""
    low, high = winner.rate_interval
    if not winner.confirmed:
        how = "what was measured leaves" if low else "predicted:"
        return (
            f"not confirmed under load; {how} {winner.rate:,.1f}/s with p99 <= {bound_ms:g} ms "
            f"by {winner.name}{'; its p99 was not measured at that rate' * (winner.p99_ms is None)}"
        )
    return (
        f"{winner.rate:,.1f}/s with p99 <= {bound_ms:g} ms was measured to hold by {winner.name} "
        f"(the highest rate is thought to be between {low:,.1f} and {high:,.1f}/s); "
        f"a lone request takes {winner.idle_p50_ms:.1f} ms"
    )


def headroom_line(report: TuneReport) -> str:
    """What is left beyond the rate that was asked about."""
    assert report.headroom is not None
    if report.headroom < 0:
        return f"{report.asked_rate:g}/s is more than that: {1 + report.headroom:.0%} of it is kept"
    return f"{report.asked_rate:g}/s leaves {report.headroom:.0%} of it as headroom"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def facts(report: TuneReport) -> list[str]:
    """How it was found."""
    whole = int(report.space.get("configurations", 0))
    measured = report.measured_configurations
    share = f" ({measured / whole:.1%})" if whole else ""
    under = "was" if measured == 1 else "were"
    searched = f"{_count(whole, 'configuration')}; {measured}{share} {under} put under load"
    kinds = f"{_count(len(report.profiled), 'kind')} of workers measured"
    lines = [f"searched  {searched}, {kinds}, in {report.took_s:.0f} s"]
    if report.median_error is not None:
        lines.append(f"predicted p99 was off by {report.median_error:.0%} in the median")
    winner = report.winner
    if winner is not None and winner.joules_an_inference is not None:
        each = winner.joules_an_inference
        lines.append(f"energy    {each:.3g} J an inference at the winner's rate, all processors")
    lines.append(f"others    took {report.other_load:.1%} of the CPUs meanwhile")
    return lines
