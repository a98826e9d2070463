"""A profile as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from corral.pages.document import card, chip, document, table, text
from corral.profiling.report import Budget, EngineFigures, ProfileReport, Span
from corral.profiling.roofline import draw
from corral.profiling.view import COLUMNS, engine_lines, headline, operator_cells, threads_line

_COLOURS = ("one", "two", "three", "four", "five", "six", "soft", "line")
_STYLE = """
main{max-width:1280px}
.bar{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:.2rem 0 .5rem}
.bar span{display:block;min-width:1px}.sw{display:inline-block;width:.8rem;height:.8rem;
border-radius:3px;margin-right:.4rem;vertical-align:-1px}.share{background:linear-gradient(to right,
var(--info-g) var(--p),transparent var(--p))}
""" + "".join(f".c-{name}{{background:var(--{name})}}" for name in _COLOURS)


def render(report: ProfileReport) -> str:
    """The page."""
    parts = [f"<p>{chip(note, 'warning')}</p>" for note in report.notes]
    if report.budget is not None:
        parts.append(_budget(report.budget))
    if report.engine is not None:
        parts.append(_engine(report.engine))
    if report.worker_threads:
        rows = [
            (text(f"worker {worker}"), text(threads_line(used)))
            for worker, used in sorted(report.worker_threads.items())
        ]
        parts.append("<h2>Workers' threads while they served</h2>")
        parts.append(card(table(("worker", "threads"), rows)))
    return document("corral profile", headline(report), "".join(parts), _STYLE)


def _budget(budget: Budget) -> str:
    whole = budget.total.mean_us
    bar = "".join(
        f'<span class="c-{colour}" style="flex:{max(phase.mean_us, 0):.3f}" '
        f'title="{text(phase.name)}: {phase.mean_us:,.0f} µs"></span>'
        for phase, colour in zip(budget.phases, _COLOURS, strict=True)
    )
    rows = [
        (f'<span class="sw c-{colour}"></span>{text(phase.name)}', *_times(phase),
         f"{100 * phase.mean_us / whole:.1f} %")
        for phase, colour in zip(budget.phases, _COLOURS, strict=True)
    ]  # fmt: skip
    rows.append(("<b>sum, in the server</b>", *_times(budget.total), ""))
    if budget.client is not None:
        rows.append(("<b>end to end, at the client</b>", *_times(budget.client), ""))
    shown = table(("phase", "p50 µs", "p99 µs", "mean µs", "share"), rows, 1)
    return f"<h2>A request's budget, {budget.requests:,} requests</h2>" + card(
        f'<div class="bar">{bar}</div>{shown}'
    )


def _times(span: Span) -> tuple[str, str, str]:
    return f"{span.p50_us:,.0f}", f"{span.p99_us:,.0f}", f"{span.mean_us:,.0f}"


def _engine(engine: EngineFigures) -> str:
    headings = (*COLUMNS, "")
    rows = [_row(operator_cells(row), row.remark, row.share_percent) for row in engine.operators]
    lines = "".join(f"<p>{text(line)}</p>" for line in engine_lines(engine))
    top, rest = rows[:10], rows[10:]
    shown = card(table(headings, top, 4))
    if rest:
        shown += card(
            f"<details><summary>{len(rest)} more</summary>{table(headings, rest, 4)}</details>"
        )
    roofline = ""
    if engine.bandwidth_gb_s is not None:
        roofline = draw(engine.operators, engine.peaks, engine.bandwidth_gb_s)
    return f"<h2>Operators, batch {engine.batch}</h2>{shown}{card(lines)}" + (
        f"<h2>Roofline</h2>{card(roofline)}" if roofline else ""
    )


def _row(cells: Sequence[str], remark: str, share: float) -> list[str]:
    marked = [text(cell) for cell in cells]
    marked[0] = f'<span class="share" style="--p:{share:.1f}%">{marked[0]}</span>'
    return [*marked, chip(remark, "warning") if remark else ""]
