"""The frame of a page and its small parts; all text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

#: what all pages look like
STYLE = """
:root{--ink:#1c2733;--soft:#5b6875;--ground:#f5f7f9;--card:#fff;--line:#dde3e8;--faint:#eef2f5;
--error:#b3261e;--warning:#8a5a00;--info:#0b5a8f;--unknown:#5b6875;--ok:#1f7a3d;
--error-g:#fde7e5;--warning-g:#fff1d6;--info-g:#e2f1fb;--unknown-g:#e9edf0;--ok-g:#e3f4e8;
--one:#2a6fb0;--two:#c2571a;--three:#3f8f4f;--four:#8c4fa3;--five:#a88a10;--six:#3a8f95;
color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#9aa7b3;--ground:#12171c;
--card:#1b2229;--line:#313b45;--faint:#242d36;--error:#ff8a80;--warning:#f3c063;--info:#7cc4f5;
--unknown:#9aa7b3;--ok:#7fd79a;--error-g:#48201d;--warning-g:#443312;--info-g:#15364a;
--unknown-g:#2a333c;--ok-g:#173823;--one:#6aaee8;--two:#f0945a;--three:#79c98a;--four:#c893de;
--five:#dcc04c;--six:#73c7cd}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);margin:0}
main{max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .6rem}
.sub{color:var(--soft);margin:0 0 1.2rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;
margin-top:.8rem;overflow-x:auto}
.card svg{max-width:100%;height:auto;display:block}
@media(max-width:600px){.card svg[width]{max-width:none;width:44rem}}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;text-align:left;
vertical-align:top}th{color:var(--soft);font-weight:600;font-size:.85rem}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr+tr td{border-top:1px solid var(--faint)}
code{font:13px/1.5 ui-monospace,monospace;background:var(--faint);border-radius:4px;
padding:.1rem .35rem;overflow-wrap:anywhere}
.chip{display:inline-block;border-radius:.8rem;padding:.05rem .6rem;font-size:.82rem;
font-weight:600;overflow-wrap:anywhere;margin:.1rem .25rem .1rem 0;text-decoration:none}
.error{color:var(--error);background:var(--error-g)}
.warning{color:var(--warning);background:var(--warning-g)}
.info{color:var(--info);background:var(--info-g)}
.unknown{color:var(--unknown);background:var(--unknown-g)}
.ok{color:var(--ok);background:var(--ok-g)}
dl{display:grid;grid-template-columns:5.5rem 1fr;gap:.15rem .8rem;margin:.5rem 0 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}
"""


def text(value: object) -> str:
    """Any value as text of a page."""
    return html.escape(str(value))


def chip(value: str, status: str, link: str = "") -> str:
    """A few words on the colour of a status; a link where one is named."""
    if link:
        return f'<a class="chip {status}" href="#{text(link)}">{text(value)}</a>'
    return f'<span class="chip {status}">{text(value)}</span>'


def code(value: str) -> str:
    """A command or a path."""
    return f"<code>{text(value)}</code>"


def card(content: str, anchor: str = "") -> str:
    """A box around HTML."""
    named = f' id="{text(anchor)}"' if anchor else ""
    return f'<div class="card"{named}>{content}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and HTML values, one below the other."""
    rows = "".join(f"<dt>{text(name)}</dt><dd>{value}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: int | None = None
) -> str:
    """A table of HTML cells.

    Args:
        headings: text.
        rows: HTML.
        numbers: index of the first column of numbers, which are set to the right; None: none.
    """

    def style(column: int) -> str:
        return ' class="n"' if numbers is not None and column >= numbers else ""

    head = "".join(f"<th{style(i)}>{text(name)}</th>" for i, name in enumerate(headings))
    body = "".join(
        f"<tr>{''.join(f'<td{style(i)}>{cell}</td>' for i, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def document(title: str, subtitle: str, content: str, style: str = "") -> str:
    """The whole page.

    Args:
        title: text.
        subtitle: text.
        content: HTML.
        style: CSS beside the common one.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}{style}</style></head><body><main>"
        f'<h1>{text(title)}</h1><p class="sub">{text(subtitle)}</p>{content}</main></body></html>\n'
    )
