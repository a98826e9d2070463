"""The console in a terminal: a running server as text, wide or narrow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corral.console.frame import Frame, WorkerFrame
from corral.console.view import engine_of, state_of
from corral.doctor.finding import Report, Status
from corral.doctor.view import STYLES, totals
from corral.ipc.status import CellStatus, ServerStatus, WorkerStatus
from corral.planning.machine import Core, Machine
from corral.system.cpu_list import format_cpus

#: columns beyond which there is room for all of it
WIDE = 96
_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red")
_LEVELS = "▁▂▃▄▅▆▇█"
_BAR = 12
_STATES = {"serving": "green", "ready": "green", "starting": "cyan", "waiting": "yellow"}
_MOST_SIZES, _MOST_FINDINGS = 8, 5


def render(
    status: ServerStatus,
    frame: Frame,
    report: Report | None,
    machine: Machine | None,
    *,
    width: int,
    note: str = "",
) -> Group:
    """The whole.

    Args:
        status: of the server.
        frame: its numbers; what they are taken over is told.
        report: the doctor's; None while it has not looked.
        machine: that the server runs on, to be drawn; None: it is not.
        width: columns of the terminal.
        note: what keeps this from being up to date; empty where nothing does.
    """
    parts: list[RenderableType] = [_head(status, frame, note)]
    parts.append(_numbers(frame, wide=width >= WIDE))
    parts.append(_processes(status, frame, wide=width >= WIDE))
    if frame.sizes:
        parts.append(_sizes(frame.sizes))
    if machine is not None:
        parts.append(_machine(machine, status, frame))
    parts.append(_facts(status, report))
    return Group(*parts)


def _head(status: ServerStatus, frame: Frame, note: str) -> Text:
    phase = f"{status.phase}" if status.ready or status.phase != "serving" else "not ready"
    text = Text(f"{status.model}", style="bold")
    text.append(f"  {status.mode}, {engine_of(status)}, {status.precision}", style="dim")
    text.append(f"  {phase}", style="green" if status.ready else "yellow")
    text.append(f", up {_duration(frame.at_s - status.started_at_s)}", style="dim")
    if note:
        text.append(f"\n{note}", style="bold yellow")
    return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _numbers(frame: Frame, *, wide: bool) -> Text:
    times = frame.latency_ms
    latency = " / ".join(map(number, (times.p50, times.p90, times.p99))) if times else "-"
    traffic = [
        ("answered", f"{number(frame.answered_s)}/s", ""),
        ("items", f"{number(frame.items_s)}/s", ""),
        ("queue", f"{frame.waiting}", ""),
        ("under way", f"{frame.inflight}", ""),
        ("use", f"{frame.use:.0%}", ""),
        ("batch", number(frame.batch) if frame.batch else "-", ""),
    ]
    ends = [
        ("p50 / p90 / p99", f"{latency} ms" if times else latency, ""),
        ("refused", f"{number(frame.refused_s)}/s", "red" if frame.refused_s else ""),
        ("failed", f"{number(frame.failed_s)}/s", "red" if frame.failed_s else ""),
        ("invalid or left", f"{number(frame.invalid_s)}/s", ""),
        ("over", f"{frame.span_s:.1f} s", "dim"),
    ]
    lines = [traffic, ends] if wide else [traffic[:3], traffic[3:], ends[:1], ends[1:3], ends[3:]]
    return Text("\n").join(_line(line) for line in lines)


def _line(pairs: list[tuple[str, str, str]]) -> Text:
    text = Text()
    for place, (name, value, style) in enumerate(pairs):
        text.append("   " if place else "")
        text.append(f"{name} ", style="dim")
        text.append(value, style=style or "bold")
    return text


def number(value: float) -> str:
    """A number in few digits: 0, 0.12, 12.3, 1,234."""
    if not value:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _processes(status: ServerStatus, frame: Frame, *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    headings = ["process", "CPUs", "state", "use", "items/s", "batch"]
    for heading in [*headings, *(["batch of 1", "memory", "restarts"] if wide else [])]:
        right = heading in {"items/s", "batch", "batch of 1", "memory"}
        table.add_column(
            heading,
            justify="right" if right else "left",
            no_wrap=heading not in {"CPUs", "restarts"},
        )
    by_id = {worker.id: worker for worker in frame.workers}
    for cell in status.cells:
        depth = frame.queues[cell.cell] if cell.cell < len(frame.queues) else 0
        row = [*_child(f"frontend {cell.cell}", cell), Text(f"{depth} wait", style="dim"), "", ""]
        table.add_row(*row, *(["", "", _restarts(cell)] if wide else []))
        for worker in status.workers:
            if worker.cell == cell.cell:
                more = _more(worker) if wide else []
                table.add_row(*_worker(worker, by_id.get(worker.id)), *more)
    return table


def _child(name: str, child: CellStatus | WorkerStatus) -> list[RenderableType]:
    state = state_of(child)
    return [name, format_cpus(child.cpus), Text(state, style=_STATES.get(state, "red"))]


def _worker(worker: WorkerStatus, seen: WorkerFrame | None) -> list[RenderableType]:
    head = _child(f"worker {worker.id}", worker)
    if seen is None:
        return [*head, "", "", ""]
    use = Text(_bar(seen.use), style=_colour(worker.id))
    use.append(f" {seen.use:4.0%}", style="default")
    return [*head, use, number(seen.items_s), number(seen.batch) if seen.batch else "-"]


def _more(worker: WorkerStatus) -> list[RenderableType]:
    first = [seconds for name, seconds in worker.costs_s.items() if name.endswith(":1")]
    cost = f"{number(first[0] * 1000)} ms" if first else "-"
    memory = f"{worker.memory_bytes / 2**20:.0f} MB" if worker.memory_bytes else "-"
    return [cost, memory, _restarts(worker)]


def _restarts(child: CellStatus | WorkerStatus) -> str:
    found = [f"{times} {cause}" for cause, times in child.restarts.items() if times]
    return ", ".join(found) or "-"


def _colour(worker: int) -> str:
    return _COLOURS[worker % len(_COLOURS)]


def _bar(share: float) -> str:
    filled = round(min(1.0, share) * _BAR)
    return "█" * filled + "░" * (_BAR - filled)


def _sizes(sizes: dict[int, int]) -> Text:
    total = sum(sizes.values())
    shown = sorted(sizes, key=lambda size: -sizes[size])[:_MOST_SIZES]
    text = Text("batch sizes  ", style="dim")
    for size in sorted(shown):
        text.append(f"{size}: ", style="dim")
        text.append(f"{sizes[size] / total:.0%}  ", style="default")
    return text


def _machine(machine: Machine, status: ServerStatus, frame: Frame) -> Text:
    """A mark a CPU, as high as its worker is busy; an L3 cache's are in brackets."""
    use = {worker.id: worker.use for worker in frame.workers}
    whose = {cpu: worker.id for worker in status.workers for cpu in worker.cpus}
    fronts = {cpu for cell in status.cells for cpu in cell.cpus}
    text = Text()
    for package in machine.packages:
        cores = [core for core in machine.cores if core.package == package]
        for node in sorted({core.node for core in cores}):
            text.append(f"package {package} node {node}  ", style="dim")
            here = [core for core in cores if core.node == node]
            for group in _by_cache(here):
                text.append("[", style="dim")
                for core in group:
                    for cpu in core.cpus:
                        _mark(text, whose.get(cpu), use, front=cpu in fronts)
                text.append("]", style="dim")
            text.append("\n")
    text.append("a mark a CPU; [] a shared L3; underlined: a frontend; · nobody's", style="dim")
    return text


def _mark(text: Text, worker: int | None, use: dict[int, float], *, front: bool) -> None:
    under = " underline" if front else ""
    if worker is None:
        text.append("f" if front else "·", style=f"default{under}" if front else "dim")
        return
    level = min(len(_LEVELS) - 1, int(use.get(worker, 0.0) * len(_LEVELS)))
    text.append(_LEVELS[level], style=f"{_colour(worker)}{under}")


def _by_cache(cores: Sequence[Core]) -> Iterable[list[Core]]:
    groups: dict[int | None, list[Core]] = {}
    for core in cores:
        groups.setdefault(core.l3, []).append(core)
    return groups.values()


def _facts(status: ServerStatus, report: Report | None) -> Text:
    text = Text()

    def line(name: str, value: str, style: str = "") -> None:
        text.append(f"{name:10}", style="dim")
        text.append(f"{value}\n", style=style)

    if status.guard is not None:
        passed = status.guard.passed
        line("guard", status.guard.sentence(), "" if passed else "yellow")
    if status.synthetic:
        line("weights", "synthetic: speed is real, labels are not", "yellow")
    line("doctor", totals(report) if report else "has not looked yet")
    urgent = report.of(Status.ERROR, Status.WARNING) if report else []
    for found in urgent[:_MOST_FINDINGS]:
        line("", f"{found.title}: {found.found}", STYLES[found.status])
    if len(urgent) > _MOST_FINDINGS:
        line("", f"and {len(urgent) - _MOST_FINDINGS} more; corral doctor")
    for warning in status.warnings:
        line("!", warning, "yellow")
    text.rstrip()
    return text
