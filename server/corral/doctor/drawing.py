"""The machine as HTML: packages, nodes, caches, cores, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corral.doctor.finding import Finding, Status
from corral.doctor.layout import Layout
from corral.pages.document import chip, text
from corral.planning.machine import Core, Machine
from corral.system.cpu_list import format_cpus

_COLOURS = ("one", "two", "three", "four", "five", "six")
STYLE = """
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


def draw(
    machine: Machine,
    layout: Layout,
    findings: Sequence[Finding],
    bandwidth: Mapping[int, float] | None = None,
) -> str:
    """Packages, nodes, L3 groups and cores; what holds for all workers stands above them.

    Args:
        machine: its cores, and what is ours of them.
        layout: which process runs where.
        findings: the doctor's; those that cost something are marked where they do.
        bandwidth: GB/s by node, where it was measured.
    """
    everybody = {worker.id for worker in layout.workers}
    urgent = [f for f in findings if f.status in {Status.ERROR, Status.WARNING}]
    general = [f for f in urgent if not f.workers or everybody <= set(f.workers)]
    worth = [f for f in findings if f.status is Status.INFO and f.workers]
    special = [f for f in (*urgent, *worth) if not everybody <= set(f.workers or everybody)]
    marks = "".join(chip(found.title, found.status.value, found.id) for found in general)
    drawn = _Drawing(machine, layout, special, bandwidth or {})
    packages = "".join(drawn.package(number) for number in machine.packages)
    return f'{marks}<div class="machine">{packages}</div>{_legend(layout)}'


class _Drawing:
    """What the parts of one drawing have in common."""

    def __init__(
        self,
        machine: Machine,
        layout: Layout,
        special: Sequence[Finding],
        bandwidth: Mapping[int, float],
    ) -> None:
        self._machine = machine
        self._layout = layout
        self._allowed = frozenset(machine.allowed_cpus)
        self._fronts = frozenset(layout.frontend_cpus)
        self._special = special
        self._bandwidth = bandwidth

    def package(self, number: int) -> str:
        """One package."""
        cores = [core for core in self._machine.cores if core.package == number]
        nodes = sorted({core.node for core in cores})
        drawn = "".join(
            self._node(node, [core for core in cores if core.node == node]) for node in nodes
        )
        return f'<div class="package"><span class="label">package {number}</span>{drawn}</div>'

    def _node(self, number: int, cores: list[Core]) -> str:
        node = next((node for node in self._machine.nodes if node.id == number), None)
        label = f"node {number}"
        if node is not None and node.memory_bytes:
            label += f", {node.memory_bytes / 2**30:.0f} GiB"
            if len({core.package for core in self._machine.cores if core.node == number}) > 1:
                label += " for several packages"
        if number in self._bandwidth:
            label += f", {self._bandwidth[number]:.0f} GB/s"
        cpus = {cpu for core in cores for cpu in core.cpus}
        ours = set(self._layout.workers_on(cpus))
        marks = "".join(
            chip(found.title, found.status.value, found.id)
            for found in self._special
            if ours.intersection(found.workers)
        )
        groups = sorted({core.l3 for core in cores}, key=lambda l3: -1 if l3 is None else l3)
        drawn = "".join(
            f'<div class="l3">{"".join(self._core(c) for c in cores if c.l3 == l3)}</div>'
            for l3 in groups
        )
        return f'<div class="node"><span class="label">{text(label)}</span> {marks}{drawn}</div>'

    def _core(self, core: Core) -> str:
        mine = set(self._layout.workers_on(core.cpus))
        worst = next(
            (
                status.value
                for status in (Status.ERROR, Status.WARNING)
                if any(f.status is status and mine.intersection(f.workers) for f in self._special)
            ),
            "",
        )
        drawn = "".join(self._cpu(cpu) for cpu in core.cpus)
        title = f"{core.kind.label} core, CPUs {format_cpus(core.cpus)}"
        return f'<div class="core {worst}" title="{text(title)}">{drawn}</div>'

    def _cpu(self, cpu: int) -> str:
        workers = self._layout.workers_on([cpu])
        allowed = cpu in self._allowed
        classes, whose = ["cpu"], ""
        title = "idle" if allowed else "not ours"
        if workers:
            classes += ["mine", f"w-{_COLOURS[workers[0] % len(_COLOURS)]}"]
            title = f"worker {workers[0]}"
            whose = f' data-worker="{workers[0]}"'
        if cpu in self._fronts:
            classes.append("front")
            title += ", frontend"
        shown = cpu if allowed else f"<s>{cpu}</s>"
        return f'<span class="{" ".join(classes)}"{whose} title="{text(title)}">{shown}</span>'


def _legend(layout: Layout) -> str:
    workers = layout.workers[: len(_COLOURS)]
    marks = "".join(
        f'<span class="swatch w-{_COLOURS[w.id % len(_COLOURS)]}"></span>worker {w.id}'
        for w in workers
    )
    more = len(layout.workers) - len(workers)
    rest = f", and {more} more in the same colours" if more > 0 else ""
    return (
        f'<p class="label legend">{marks}{rest} <span class="swatch front"></span>'
        "frontend; <s>7</s> is not ours; a dashed box is a shared L3 cache</p>"
    )
