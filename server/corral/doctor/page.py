"""The report as one HTML page: the machine drawn with its findings on it, then every finding."""

from __future__ import annotations

from collections.abc import Iterable

from corral.doctor.evidence import Evidence
from corral.doctor.finding import BY_URGENCY, Finding, Report, Status
from corral.doctor.view import headline, totals
from corral.pages.document import card, chip, code, document, facts, table, text
from corral.planning.machine import Core
from corral.system.cpu_list import format_cpus

_URGENT = (Status.ERROR, Status.WARNING, Status.INFO)
_COLOURS = ("one", "two", "three", "four", "five", "six")
_STYLE = """
.machine{display:flex;flex-wrap:wrap;gap:.8rem;margin-top:.5rem}
.package{border:2px solid var(--line);border-radius:10px;padding:.5rem .7rem;flex:1 1 320px}
.node{border:1px solid var(--line);border-radius:8px;padding:.4rem .6rem;margin-top:.5rem;
background:var(--faint)}
.l3{display:flex;flex-wrap:wrap;gap:4px;border-radius:6px;padding:4px;margin-top:4px;
border:1px dashed var(--line)}
.core{display:flex;gap:2px;border-radius:5px;padding:3px;background:var(--card);
border:2px solid var(--line)}
.cpu{min-width:1.7rem;text-align:center;font-size:.75rem;border-radius:3px;padding:1px 3px;
font-variant-numeric:tabular-nums;color:var(--soft)}
.cpu.mine{color:var(--card);font-weight:700}
.front{outline:2px dotted var(--ink);outline-offset:-1px}
.core.error,.core.warning{border-color:currentColor}
.label{color:var(--soft);font-size:.82rem}.legend{margin:.7rem 0 0}
.swatch{display:inline-block;width:.8rem;height:.8rem;border-radius:3px;margin:0 .3rem 0 .8rem;
vertical-align:-1px}
""" + "".join(f".w-{name}{{background:var(--{name})}}" for name in _COLOURS)


def render(report: Report, seen: Evidence) -> str:
    """The page.

    Args:
        report: what was found.
        seen: what it was found in: the cores to draw.
    """
    parts = [
        f"<p>{''.join(_counts(report))}</p>",
        card(_drawn(report, seen)),
    ]
    for status in BY_URGENCY:
        findings = report.of(status)
        if not findings:
            continue
        parts.append(f"<h2>{text(_HEADINGS[status])}</h2>")
        if status in _URGENT:
            parts += [card(_finding(found), found.id) for found in findings]
        else:
            rows = [(text(f.title), text(f.found), text(f.wanted)) for f in findings]
            parts.append(card(table(("check", "found", "wanted"), rows)))
    lines = headline(report).splitlines()
    title = f"corral doctor: {totals(report)}"
    return document(title, "; ".join(lines), "".join(parts), _STYLE)


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
            yield chip(f"{report.summary[status]} {status.value}", status.value)


def _finding(found: Finding) -> str:
    pairs = [("found", text(found.found)), ("wanted", text(found.wanted)), ("why", text(found.why))]
    if found.fix:
        pairs.append(("fix", code(found.fix)))
    if found.workers:
        pairs.append(("workers", text(", ".join(map(str, found.workers)))))
    pairs.append(("source", f'<span class="label">{text(found.source)}</span>'))
    mark = chip(found.status.value, found.status.value)
    return f"{mark} <b>{text(found.title)}</b> {code(found.id)}{facts(pairs)}"


def _drawn(report: Report, seen: Evidence) -> str:
    """Packages, nodes, L3 groups and cores; what holds for all workers stands above them."""
    everybody = {worker.id for worker in seen.layout.workers}
    urgent = report.of(Status.ERROR, Status.WARNING)
    general = [f for f in urgent if not f.workers or everybody <= set(f.workers)]
    worth = [f for f in report.of(Status.INFO) if f.workers]
    special = [f for f in (*urgent, *worth) if not everybody <= set(f.workers or everybody)]
    marks = "".join(chip(found.title, found.status.value, found.id) for found in general)
    packages = "".join(_package(number, seen, special) for number in seen.machine.packages)
    return f'{marks}<div class="machine">{packages}</div>{_legend(seen)}'


def _package(number: int, seen: Evidence, special: list[Finding]) -> str:
    cores = [core for core in seen.machine.cores if core.package == number]
    nodes = sorted({core.node for core in cores})
    drawn = "".join(
        _node(node, [core for core in cores if core.node == node], seen, special) for node in nodes
    )
    return f'<div class="package"><span class="label">package {number}</span>{drawn}</div>'


def _node(number: int, cores: list[Core], seen: Evidence, special: list[Finding]) -> str:
    node = next((node for node in seen.machine.nodes if node.id == number), None)
    label = f"node {number}"
    if node is not None and node.memory_bytes:
        label += f", {node.memory_bytes / 2**30:.0f} GiB"
    if seen.probed is not None and number in seen.probed.bandwidth:
        label += f", {seen.probed.bandwidth[number]:.0f} GB/s"
    cpus = {cpu for core in cores for cpu in core.cpus}
    ours = set(seen.layout.workers_on(cpus))
    marks = "".join(
        chip(found.title, found.status.value, found.id)
        for found in special
        if ours.intersection(found.workers)
    )
    groups = sorted({core.l3 for core in cores}, key=lambda l3: -1 if l3 is None else l3)
    drawn = "".join(
        f'<div class="l3">{"".join(_core(c, seen, special) for c in cores if c.l3 == l3)}</div>'
        for l3 in groups
    )
    return f'<div class="node"><span class="label">{text(label)}</span> {marks}{drawn}</div>'


def _core(core: Core, seen: Evidence, special: list[Finding]) -> str:
    mine = set(seen.layout.workers_on(core.cpus))
    worst = next(
        (
            status.value
            for status in (Status.ERROR, Status.WARNING)
            if any(f.status is status and mine.intersection(f.workers) for f in special)
        ),
        "",
    )
    drawn = "".join(_cpu(cpu, seen) for cpu in core.cpus)
    title = f"{core.kind.label} core, CPUs {format_cpus(core.cpus)}"
    return f'<div class="core {worst}" title="{text(title)}">{drawn}</div>'


def _cpu(cpu: int, seen: Evidence) -> str:
    workers = seen.layout.workers_on([cpu])
    classes = ["cpu"]
    title = "idle"
    if cpu not in seen.machine.allowed_cpus:
        title = "not ours"
    if workers:
        classes += ["mine", f"w-{_COLOURS[workers[0] % len(_COLOURS)]}"]
        title = f"worker {workers[0]}"
    if cpu in seen.layout.frontend_cpus:
        classes.append("front")
        title += ", frontend"
    shown = cpu if cpu in seen.machine.allowed_cpus else f"<s>{cpu}</s>"
    return f'<span class="{" ".join(classes)}" title="{text(title)}">{shown}</span>'


def _legend(seen: Evidence) -> str:
    workers = seen.layout.workers[: len(_COLOURS)]
    marks = "".join(
        f'<span class="swatch w-{_COLOURS[w.id % len(_COLOURS)]}"></span>worker {w.id}'
        for w in workers
    )
    more = len(seen.layout.workers) - len(workers)
    rest = f", and {more} more in the same colours" if more > 0 else ""
    return (
        f'<p class="label legend">{marks}{rest} <span class="swatch front"></span>frontend '
        "<s>7</s> not ours; a dashed box is a shared L3 cache</p>"
    )
