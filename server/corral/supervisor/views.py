"""A server as tables: while it starts, and what ``corral status`` prints."""

from __future__ import annotations

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from corral.batching.cost_curve import CostCurve
from corral.ipc.status import (
    BoundStatus,
    CellStatus,
    ServerStatus,
    SpinStatus,
    StatusBoard,
    WorkerStatus,
)
from corral.settings import BackendName, ListenSettings
from corral.system.addresses import format_address
from corral.system.cpu_list import format_cpus
from corral.system.pid_namespace import HIDDEN

#: images/s beyond which an engine computes nothing
_COUNTABLE = 100_000


class StartupView:
    """Prints to a console, standard error's as a rule.

    Args:
        console: where to.
        examine: looks at the machine and the server's processes; returns a line. None: no line.
    """

    def __init__(
        self, console: Console, examine: Callable[[ServerStatus], str] | None = None
    ) -> None:
        self._console = console
        self._examine = examine

    def ready(self, board: StatusBoard) -> None:
        """Nothing yet: the table waits for the workers that are still warming up."""

    def complete(self, board: StatusBoard) -> None:
        """Prints the table."""
        status = board.current()
        examined = self._examine(status) if self._examine else ""
        self._console.print(render_startup(status, examined))


def render_startup(status: ServerStatus, examined: str = "") -> Group:
    """The table of workers, and everything below it; ``examined``: what the doctor says."""
    parts: list[RenderableType] = [_table(status), _startup_facts(status, examined)]
    if status.warnings:
        lines = Text("\n").join(Text(f"! {warning}") for warning in status.warnings)
        lines.stylize("yellow")
        parts.append(lines)
    if status.synthetic and status.backend != BackendName.NULL:
        parts.append(_synthetic_panel(status))
    return Group(*parts)


def _table(status: ServerStatus) -> Table:
    table = Table(
        title=f"corral: {status.model}, {status.mode}, {_engine(status)}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    several = len(status.cells) > 1
    for heading in (*(["cell"] if several else []), "worker", "pid", "node", "CPUs", "threads"):
        table.add_column(heading)
    table.add_column("malloc")
    for heading in ("batch 1", "best", "memory"):
        table.add_column(heading, justify="right")
    for worker in status.workers:
        table.add_row(*([str(worker.cell)] if several else []), *_row(worker))
    return table


def _row(worker: WorkerStatus) -> list[str]:
    """``threads`` is where they were really found, ``malloc`` what was really mapped."""
    head = [
        str(worker.id),
        str(worker.pid or "-"),
        "-" if worker.memory_node is None else str(worker.memory_node),
        format_cpus(worker.cpus),
    ]
    if not worker.costs_s:
        return [*head, worker.state.value, *[""] * 4]
    return [
        *head,
        worker.checks.get("affinity", "?"),
        _short(worker.checks.get("allocator", "?")),
        *_costs(worker.costs_s),
        f"{worker.memory_bytes / 2**20:.0f} MB",
    ]


def _short(library: str) -> str:
    """libtcmalloc_minimal.so.4 as "tcmalloc"."""
    return library.removeprefix("lib").partition(".so")[0].partition("_")[0]


def _engine(status: ServerStatus) -> str:
    """What the first worker that reported says of its engine."""
    engine = next((worker.engine for worker in status.workers if worker.engine), {})
    keys = ("engine", "version", "precision")
    return " ".join(engine[key] for key in keys if key in engine) or status.backend


def _costs(costs_s: dict[str, float]) -> tuple[str, str]:
    """Milliseconds of a batch of one, and the best images/s with the batch that gives them."""
    curve = CostCurve.from_names(costs_s)
    datatype = next(iter(curve.costs_s))[0]
    by_size = curve.of(datatype)
    best = max(by_size, key=lambda size: size / max(by_size[size], 1e-9))
    rate = best / max(by_size[best], 1e-9)
    if rate > _COUNTABLE:
        return "0 ms", "-"
    return f"{by_size[1] * 1000:.1f} ms", f"{rate:,.0f}/s" + (f" at {best}" if best > 1 else "")


def _startup_facts(status: ServerStatus, examined: str) -> Text:
    lines = [
        f"gRPC      {format_address(status.host, status.port)}",
        f"HTTP      {format_address(status.host, status.http_port)}",
        f"metrics   http://{format_address(status.metrics_host, status.metrics_port)}/metrics",
        f"weights   {status.weights}",
    ]
    if status.search:
        lines.append(f"chosen    {status.search}")
    # What did not pass is among the warnings.
    if status.guard is not None and status.guard.passed:
        lines.append(f"guard     {status.guard.sentence()}")
    runtimes = [worker.checks["openmp"] for worker in status.workers if "openmp" in worker.checks]
    if runtimes:
        mapped = f"mapped by {len(runtimes)} of {len(status.workers)} workers"
        lines.append(f"OpenMP    {', '.join(sorted(set(runtimes)))}, {mapped}")
    if examined:
        lines.append(f"doctor    {examined}")
    if status.spin is not None:
        lines.append(f"spin      {_spin(status.spin)}")
    if status.admin_socket:
        lines.append(f"admin     {status.admin_socket}")
    if status.ready_after_s is not None:
        lines.append(f"ready     after {status.ready_after_s:.1f} s")
    return Text("\n".join(lines))


def _synthetic_panel(status: ServerStatus) -> Panel:
    return Panel(
        f"The weights of {status.model} are SYNTHETIC: its answers mean nothing.\n"
        "Speed is real, labels are not. Give it real ones with --weights FILE, or let it "
        "download them with --weights imagenet.",
        title="WARNING",
        border_style="bold red",
        expand=False,
    )


def render_status(status: ServerStatus, now_s: float) -> Group:
    """The table of processes, and the server's state below it.

    Args:
        status: as the server told it.
        now_s: unix time.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("process", "pid", "state", "CPUs", "boot"):
        table.add_column(heading)
    table.add_column("restarts", overflow="fold")
    for cell in status.cells:
        name = f"frontend {cell.cell}"
        table.add_row(name, *_process(cell), "", _restarts(cell))
        for worker in status.workers:
            if worker.cell == cell.cell:
                boot = "" if worker.boot_s is None else f"{worker.boot_s:.1f} s"
                row = _process(worker)
                table.add_row(f"worker {worker.id}", *row, boot, _restarts(worker))
    return Group(table, _status_facts(status, now_s))


def _process(child: CellStatus | WorkerStatus) -> tuple[str, str, str]:
    state = "serving" if child.state == "verified" else str(child.state)
    return str(child.pid or "-"), state, format_cpus(child.cpus)


def _restarts(child: CellStatus | WorkerStatus) -> str:
    """How often by cause: "2 crash, 1 reload"; a dash for never."""
    found = [f"{times} {cause}" for cause, times in child.restarts.items() if times]
    return ", ".join(found) or "-"


def _status_facts(status: ServerStatus, now_s: float) -> Text:
    ready = "ready" if status.ready else "not ready"
    lines = [
        f"server    {status.phase}, {ready}, up {_duration(now_s - status.started_at_s)}",
        f"mode      {status.mode}",
        f"model     {status.model}, {status.backend} {status.precision}, {status.weights}",
        f"gRPC      {format_address(status.host, status.port)}",
        f"HTTP      {format_address(status.host, status.http_port)}",
        f"metrics   {format_address(status.metrics_host, status.metrics_port)}",
    ]
    if status.bound is not None:
        lines.append(f"latency   {_bound(status.bound)}")
    if (warm := status.warm) is not None:
        often = f"a request to itself every {warm.every_s:.2g} s for each idle worker"
        lines.append(f"warm      {often}, {warm.share:.1%} of its time")
    if status.spin is not None:
        over = status.spin.pid is None and not status.pids_hidden
        now = ", but not now" if over else ""
        lines.append(f"spin      {_spin(status.spin)}; {status.spin.cpu_s:.1f} CPU s so far{now}")
    if status.pids_hidden:
        lines.append(f"! {HIDDEN}")
    return Text("\n".join([*lines, *(f"! {warning}" for warning in status.warnings)]))


def _spin(spin: SpinStatus) -> str:
    """What keeps CPUs from halting, and its cost."""
    cpus, many = format_cpus(spin.cpus), len(spin.cpus)
    who, time = (
        (f"CPU {cpus} is", "1 CPU's") if many == 1 else (f"CPUs {cpus} are", f"{many} CPUs'")
    )
    return f"{who} kept busy for {spin.while_s:g} s after a request: {time} time"


def _bound(bound: BoundStatus) -> str:
    """How a latency bound is kept, in a sentence."""
    now = f"now {bound.now_per_s:,.1f}/s"
    cap = "" if bound.batch_cap is None else f", in batches of at most {bound.batch_cap}"
    if bound.keeps_per_s is None:
        return f"p99 <= {bound.p99_ms:g} ms is asked for; up to which rate is not known yet; {now}"
    if not bound.keeps_per_s:
        return f"keeps p99 <= {bound.p99_ms:g} ms at no rate; {now}"
    return f"keeps p99 <= {bound.p99_ms:g} ms up to {bound.keeps_per_s:,.1f}/s; {now}{cap}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def addresses(listen: ListenSettings) -> str:
    """Where a server listens, for a log line."""
    grpc = format_address(listen.host, listen.port)
    http = format_address(listen.host, listen.http_port or 0)
    metrics = format_address(listen.metrics_host, listen.metrics_port)
    return f"gRPC on {grpc}, HTTP on {http}, metrics on http://{metrics}/metrics"
