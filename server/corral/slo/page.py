"""A search under a latency bound as one HTML page."""

from __future__ import annotations

from corral.pages.document import card, chip, code, document, facts, table, text
from corral.slo import chart, view
from corral.slo.report import TuneReport
from corral.slo.space import as_toml

_STYLE = """
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.6rem 0 0;color:var(--soft)}
.key i{display:inline-block;width:1.1rem;height:.25rem;border-radius:2px;margin-right:.4rem;
vertical-align:.25rem}.key i.pale{background:var(--soft);opacity:.3;height:.55rem}
.key i.dot{background:var(--ink);width:.5rem;height:.5rem;border-radius:50%;vertical-align:.1rem}
.big{font-size:1.6rem;font-weight:600;margin:0}pre{overflow-x:auto;margin:.4rem 0 0;
font:13px/1.5 ui-monospace,monospace}td:first-child{min-width:15rem}
"""


def render(report: TuneReport) -> str:
    """The page."""
    parts = [f"<p>{chip(note, 'warning')}</p>" for note in report.notes]
    parts += [_winner(report), _chart(report), _table(report), _found(report)]
    return document("corral tune", view.headline(report), "".join(parts), _STYLE)


def _winner(report: TuneReport) -> str:
    winner = report.winner
    if winner is None:
        return card("<p>No configuration is known to keep the bound.</p>")
    low, high = winner.rate_interval
    kept, why = "was measured to keep", ""
    if not winner.confirmed:
        kept = "may keep" if low else "is predicted to keep"
        why = "; not confirmed under load"
        why += "; what was measured leaves that rate" * bool(low)
    p99 = p50 = "not measured at that rate"
    if winner.p99_ms is not None and winner.p99_interval_ms is not None:
        least_ms, most_ms = winner.p99_interval_ms
        p99 = f"{winner.p99_ms:.1f} ms, with 90 % between {least_ms:.1f} and {most_ms:.1f} ms"
    if winner.p50_ms is not None:
        p50 = f"{winner.p50_ms:.1f} ms at that rate"
    p50 += f", {winner.idle_p50_ms:.1f} ms of a lone request"
    between = f"thought to be between {low:,.1f} and {high:,.1f} requests/s"
    pairs = [
        ("highest rate", between if winner.confirmed or low else "predicted, not measured"),
        ("p99", p99),
        ("p50", p50),
    ]
    if winner.joules_an_inference is not None:
        joules = f"{winner.joules_an_inference:.3g} J an inference at that rate, all processors"
        pairs.append(("energy", joules))
    if report.headroom is not None:
        pairs.append(("headroom", text(view.headroom_line(report))))
    settings = text(as_toml(winner.settings, ()))
    return card(
        f'<p class="big">{winner.rate:,.1f} requests/s</p>'
        f"<p>{text(winner.name)} {kept} p99 &le; {report.p99_ms:g} ms{why}</p>{facts(pairs)}"
        f"<details><summary>its settings, for {code('corral serve --config')}</summary>"
        f"<pre>{settings}</pre></details>"
    )


def _chart(report: TuneReport) -> str:
    drawn = chart.draw(report)
    if not drawn:
        return ""
    return f"<h2>p99 by rate, predicted and measured</h2>{card(drawn + chart.legend(report))}"


def _table(report: TuneReport) -> str:
    rows = []
    for row in view.shown(report):
        name, *numbers, reason = map(text, view.cells(row))
        rows.append((name, reason, *numbers))
    name, *numbers, _ = view.COLUMNS
    shown = table((name, "why it is not the winner", *numbers), rows, 2)
    return f"<h2>Candidates</h2>{card(shown)}"


def _found(report: TuneReport) -> str:
    lines = "".join(f"<p>{text(line)}</p>" for line in view.facts(report))
    tried = facts(
        (kind, text(", ".join(names)))
        for kind, names in report.space.items()
        if isinstance(names, list)
    )
    left_out = "".join(f"<li>{text(line)}</li>" for line in report.not_tried)
    parts = f"<h2>How it was found</h2>{card(lines + tried)}"
    if left_out:
        parts += f"<h2>Not tried</h2>{card(f'<ul>{left_out}</ul>')}"
    return parts
