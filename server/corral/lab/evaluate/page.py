"""An evaluation as one page of HTML that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence

from corral.lab.evaluate.results import Evaluation, EvaluationRow, Share
from corral.lab.evaluate.tables import interval, loss, summary, verdict

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #2a6fbb; --soft: #2a6fbb40;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --bar: #7ab3ef; --soft: #7ab3ef40; --bad: #f2b8b5; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0 1rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td:first-child { white-space: nowrap; } .say { min-width: 13rem; }
.n { text-align: right; white-space: nowrap; } .bad { color: var(--bad); }
svg { width: 8rem; height: 1rem; display: block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 0 2rem; }
"""


def render(found: Evaluation) -> str:
    """The page."""
    title = f"{found.model} on {found.source}"
    sections = "".join(_details(row) for row in found.rows if row.top1 is not None)
    note = (
        "<p class=bad>The weights are synthetic: they carry no knowledge, and accuracies mean "
        "nothing.</p>"
        if found.synthetic
        else ""
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{_STYLE}</style>"
        f"<h1>{_text(title)}</h1><p>{_text(summary(found))}</p>{note}"
        f"<div class=wide>{_overview(found.rows)}</div>"
        "<p>Intervals hold 95 times in 100 (Wilson). The bar is top-1, its pale part the interval. "
        "The loss is relative to FP32's accuracy; its bound is one-sided, 95 %: by bootstrap, "
        "or that of a count of so many pictures, whichever is larger.</p>"
        f"{sections}</html>\n"
    )


def _overview(rows: Sequence[EvaluationRow]) -> str:
    heads = ("candidate", "", "top-1", "top-5", "loss", "images/s", "guard, by labels")
    numbers = {"top-1", "top-5", "loss", "images/s"}
    head = "".join(f"<th{' class=n' if name in numbers else ''}>{name}</th>" for name in heads)
    return f"<table><tr>{head}</tr>{''.join(map(_row, rows))}</table>"


def _row(row: EvaluationRow) -> str:
    rate = f"{row.images_per_s:.1f}" if row.images_per_s else "-"
    mark = "say bad" if row.faults or row.reason else "say"
    numbers = (interval(row.top1), interval(row.top5), loss(row), rate)
    cells = "".join(f"<td class=n>{_text(number)}</td>" for number in numbers)
    return (
        f"<tr><td>{_text(row.candidate)}</td><td>{_bar(row.top1)}</td>{cells}"
        f"<td class='{mark}'>{_text(verdict(row))}</td></tr>"
    )


def _bar(share: Share | None) -> str:
    if share is None:
        return ""
    low, middle, high = (f"{value * 100:.2f}" for value in (share.low, share.share, share.high))
    width = f"{(share.high - share.low) * 100:.2f}"
    return (
        f"<svg viewBox='0 0 100 10' preserveAspectRatio=none role=img aria-label='{middle} %'>"
        f"<rect width={low} height=10 fill='var(--bar)'/>"
        f"<rect x={low} width={width} height=10 fill='var(--soft)'/>"
        f"<path d='M{middle} 0V10' stroke='var(--bar)' vector-effect=non-scaling-stroke "
        f"stroke-width=2 /><path d='M100 0V10M{high} 3V7' stroke='var(--line)' "
        "vector-effect=non-scaling-stroke /></svg>"
    )


def _details(row: EvaluationRow) -> str:
    if not row.worst:
        return ""
    worst = "".join(
        f"<tr><td>{_text(one.label)}</td><td class=n>{one.right} of {one.of}</td></tr>"
        for one in row.worst
    )
    pairs = "".join(
        f"<tr><td>{_text(one.label)}</td><td>{_text(one.taken_for)}</td>"
        f"<td class=n>{one.times}</td></tr>"
        for one in row.confusions
    )
    return (
        f"<h2>{_text(row.candidate)}</h2><div class=pair>"
        f"<table><tr><th>worst classes</th><th class=n>right</th></tr>{worst}</table>"
        f"<table><tr><th>class</th><th>taken for</th><th class=n>times</th></tr>{pairs}</table>"
        "</div>"
    )


def _text(value: str) -> str:
    return html.escape(value)
