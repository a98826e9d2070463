"""A result as one HTML page that needs no other file."""

from __future__ import annotations

import html

import msgspec

from corral_loadtest.report import plots
from corral_loadtest.report.tables import load_text, rows
from corral_loadtest.result import Ramp, Result

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#f5f7f9;margin:0}
main{max-width:900px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem} h2{font-size:1.1rem;margin:2rem 0 .6rem}
.sub{color:#5b6875;margin:0 0 1.4rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:.8rem}
.figure,.card{background:#fff;border:1px solid #e1e6ea;border-radius:8px;padding:.8rem 1rem}
.figure b{display:block;font-size:1.35rem} .figure span{color:#5b6875;font-size:.85rem}
.card{margin-top:1rem;overflow-x:auto} .card svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%} td,th{padding:.3rem .6rem;text-align:right}
td:first-child,th:first-child{text-align:left;white-space:nowrap}
table.facts td{text-align:left;vertical-align:top} table.facts td:first-child{font-weight:600}
tr+tr td{border-top:1px solid #edf0f2}
.remark{background:#fff6e5;border:1px solid #f0d49b;border-radius:8px;padding:.5rem 1rem;
margin-top:.6rem} pre{font-size:12px;white-space:pre-wrap;margin:0}
summary{cursor:pointer;font-weight:600}
"""


def _figure(value: str, name: str) -> str:
    return f'<div class="figure"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'


def _facts(pairs: list[tuple[str, str]]) -> str:
    body = "".join(
        f"<tr><td>{html.escape(what)}</td><td>{html.escape(figure)}</td></tr>"
        for what, figure in pairs
    )
    return f'<table class="facts">{body}</table>'


def _remarks(found: Result) -> str:
    return "".join(f'<div class="remark">{html.escape(r)}</div>' for r in found.remarks)


def _headline(found: Result) -> str:
    figures = [_figure(f"{found.requests_per_s:,.1f}", "requests/s answered")]
    if found.latency:
        figures += [
            _figure(f"{found.latency.p50_ms:,.2f} ms", "p50"),
            _figure(f"{found.latency.p99_ms:,.2f} ms", "p99"),
        ]
    figures.append(_figure(f"{found.error_share:.2%}", "errors"))
    if found.server.cpu_s_per_request is not None:
        cost = f"{found.server.cpu_s_per_request * 1e6:,.0f} µs"
        figures.append(_figure(cost, "server CPU a request"))
    return f'<div class="figures">{"".join(figures)}</div>'


def _context(found: Result) -> list[tuple[str, str]]:
    target, machine = found.specification.target, found.machine
    server = f"{found.server.name} {found.server.version}".strip() or "did not say its name"
    kind = found.specification.payload.kind
    return [
        ("server", f"{server} at {target.address}, model {target.model}"),
        (
            "input",
            f"{kind or 'as the metadata says'}, {found.specification.payload.batch} a request",
        ),
        ("machine", f"{machine.cpu}, {machine.cpus} CPUs, Linux {machine.kernel}"),
        ("tool", f"Python {machine.python}, grpcio {machine.grpcio}"),
        (
            "generators",
            f"{found.generator.processes}, with {found.generator.connections} connections",
        ),
    ]


def _details(found: Result | Ramp, specification: object) -> str:
    text = msgspec.json.format(msgspec.json.encode(specification), indent=1).decode()
    steps = found.steps if isinstance(found, Ramp) else (found,)
    count = f" (of the first of {len(steps)} steps)" if len(steps) > 1 else ""
    shown = html.escape(text)
    return f"<details><summary>Specification{count}</summary><pre>{shown}</pre></details>"


def _measurement(found: Result) -> str:
    parts = [_headline(found), _remarks(found)]
    if found.percentiles:
        parts.append(_card(plots.percentile_curve(found)))
    parts.append(_card(plots.timeline(found)))
    parts.append(_card(_facts(rows(found) + _context(found))))
    return "".join(parts)


def _ramp(found: Ramp) -> str:
    capacity = f"{found.capacity_per_s:,.1f}"
    parts = [f'<div class="figures">{_figure(capacity, "requests/s, capacity")}</div>']
    parts.append(_card(plots.throughput_latency(found)))
    head = "".join(f"<th>{n}</th>" for n in ("load", "requests/s", "p50 ms", "p99 ms", "errors"))
    body = ""
    for step in found.steps:
        latency = step.latency
        cells = [
            load_text(step.specification),
            f"{step.requests_per_s:,.1f}",
            f"{latency.p50_ms:,.2f}" if latency else "",
            f"{latency.p99_ms:,.2f}" if latency else "",
            f"{step.error_share:.2%}",
        ]
        body += "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>"
    parts.append(_card(f"<table><tr>{head}</tr>{body}</table>"))
    for remark in dict.fromkeys(r for step in found.steps for r in step.remarks):
        parts.append(f'<div class="remark">{html.escape(remark)}</div>')
    last = found.steps[-1]
    parts.append(_card(_facts(_context(last))))
    parts.append(f"<h2>Last step: {html.escape(load_text(last.specification))}</h2>")
    parts.append(_card(plots.timeline(last)))
    return "".join(parts)


def page(found: Result | Ramp) -> str:
    """The page's text. A ramp has one step or more."""
    first = found.steps[0] if isinstance(found, Ramp) else found
    body = _ramp(found) if isinstance(found, Ramp) else _measurement(found)
    what = "Ramp" if isinstance(found, Ramp) else load_text(found.specification)
    title = f"{first.specification.target.model}: {what}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title>"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main><h1>{html.escape(title)}</h1>"
        f'<p class="sub">corral-loadtest, {html.escape(first.started_at)}</p>{body}'
        f"{_card(_details(found, first.specification))}</main></body></html>\n"
    )
