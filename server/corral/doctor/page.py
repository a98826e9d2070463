"""The report as one HTML page: the machine drawn with its findings on it, then every finding."""

from __future__ import annotations

from collections.abc import Iterable

from corral.doctor import drawing
from corral.doctor.evidence import Evidence
from corral.doctor.finding import BY_URGENCY, Finding, Report, Status
from corral.doctor.view import headline, total, totals
from corral.pages.document import card, chip, code, document, facts, table, text

_URGENT = (Status.ERROR, Status.WARNING, Status.INFO)


def render(report: Report, seen: Evidence) -> str:
    """The page.

    Args:
        report: what was found.
        seen: what it was found in: the cores to draw.
    """
    bandwidth = seen.probed.bandwidth if seen.probed is not None else {}
    parts = [
        f"<p>{''.join(_counts(report))}</p>",
        card(drawing.draw(seen.machine, seen.layout, report.checks, bandwidth)),
    ]
    for status in BY_URGENCY:
        findings = report.of(status)
        if not findings:
            continue
        parts.append(f"<h2>{text(_HEADINGS[status])}</h2>")
        if status in _URGENT:
            parts += [card(finding(found), found.id) for found in findings]
        else:
            rows = [(text(f.title), text(f.found), text(f.wanted)) for f in findings]
            parts.append(card(table(("check", "found", "wanted"), rows)))
    lines = headline(report).splitlines()
    title = f"corral doctor: {totals(report)}"
    return document(title, "; ".join(lines), "".join(parts), drawing.STYLE)


_HEADINGS = {
    Status.ERROR: "Errors: it does not work as planned",
    Status.WARNING: "Warnings: this costs speed or steadiness",
    Status.INFO: "Worth knowing",
    Status.UNKNOWN: "Not known, and why",
    Status.OK: "In order",
}


def _counts(report: Report) -> Iterable[str]:
    for status in BY_URGENCY:
        if report.summary[status]:
            yield chip(total(status.value, report.summary[status]), status.value)


def finding(found: Finding) -> str:
    """What a check found, what it wanted, why, and the remedy, as HTML."""
    pairs = [("found", text(found.found)), ("wanted", text(found.wanted)), ("why", text(found.why))]
    if found.fix:
        pairs.append(("fix", code(found.fix)))
    if found.workers:
        pairs.append(("workers", text(", ".join(map(str, found.workers)))))
    pairs.append(("source", f'<span class="label">{text(found.source)}</span>'))
    mark = chip(found.status.value, found.status.value)
    return f"{mark} <b>{text(found.title)}</b> {code(found.id)}{facts(pairs)}"
