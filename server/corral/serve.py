"""One server from settings to exit code: ports, counters, metrics, and the supervisor on top."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator, Mapping

import msgspec
from rich.console import Console

from corral import counters, logs, procfs, topology
from corral.config import Settings
from corral.errors import ConfigError
from corral.exposition.metrics_http import MetricsServer
from corral.messages import ModelBoot
from corral.metrics import Metrics
from corral.plan import Plan
from corral.planning.environment import OPENMP_BACKENDS
from corral.status import StatusBoard
from corral.supervision import ports
from corral.supervision.libraries import find_libraries
from corral.supervision.nursery import Nursery
from corral.supervision.provision import CurveCache, batch_sizes, worker_extras
from corral.supervision.startup_view import StartupView
from corral.supervisor import Supervisor
from corral.tensors import Signature

logger = logging.getLogger(__name__)

INGRESS_MODULE = "corral.ingress"


def run(
    settings: Settings,
    plan: Plan,
    model: ModelBoot,
    signature: Signature,
    *,
    environ: Mapping[str, str],
    console: Console | None = None,
    ingress_module: str = INGRESS_MODULE,
) -> int:
    """Serves until told to stop. Call it from the main thread: children die with it.

    Args:
        settings: port 0 picks a free one.
        plan: which CPUs everything gets.
        model: as prepared.
        signature: the model's shapes.
        environ: the process's environment; children get the harmless part.
        console: for the start-up table; standard error if there is none.
        ingress_module: what to run as an ingress.

    Returns:
        The exit code.

    Raises:
        ConfigError: a port cannot be had, or a child said that it can never start.
        StartError: no worker got ready in time.
    """
    logs.configure(settings, "supervisor")
    port = ports.claim(settings.host, settings.port, "--port")
    metrics_port = ports.claim(settings.metrics_host, settings.metrics_port, "--metrics-port")
    if port == metrics_port:
        raise ConfigError(f"--metrics-port {metrics_port}: the same as --port")
    settings = msgspec.structs.replace(settings, port=port, metrics_port=metrics_port)

    layout = counters.make_layout(max(len(cell.workers) for cell in plan.cells))
    counters_fd = counters.create_memory(layout, len(plan.cells))
    pages = counters.Pages(counters_fd, layout, len(plan.cells))
    cores = min(worker.cores for cell in plan.cells for worker in cell.workers)
    curves = CurveCache(settings, model, cores, topology.read_machine().model_name)
    extras = worker_extras(
        settings.allocator,
        find_libraries(settings.allocator, openmp=settings.backend in OPENMP_BACKENDS),
    )
    nursery = Nursery(
        settings=settings,
        plan=plan,
        model=model,
        signature=signature,
        batch=batch_sizes(settings, curves.load()),
        curves=curves,
        extras=extras,
        environ=environ,
        counters_fd=counters_fd,
        ingress_module=ingress_module,
    )

    async def supervise() -> int:
        view = StartupView(console or _console())
        supervisor = Supervisor(
            settings=settings, plan=plan, model=model, nursery=nursery, pages=pages, spectator=view
        )
        supervisor.warn(extras.warnings)
        if model.guard is not None and not model.guard.passed:
            supervisor.warn([model.guard.sentence()])
        with _metrics(settings, plan, pages, supervisor.board):
            return await supervisor.run()

    with ports.hold(settings.host, port, shared=len(plan.cells) > 1):
        # What is there now stays; a collection need not look at it again.
        gc.freeze()
        return asyncio.run(supervise())


def _console() -> Console:
    """Standard error; wide where it is no terminal, for a log file has room."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=120)


@contextlib.contextmanager
def _metrics(
    settings: Settings, plan: Plan, pages: counters.Pages, board: StatusBoard
) -> Iterator[None]:
    """The metrics endpoint: the first thing that is there, and the last that goes."""
    metrics = Metrics(board, pages, plan, procfs.throttling)
    endpoint = MetricsServer(
        settings.metrics_host,
        settings.metrics_port,
        metrics.render,
        lambda: board.current().ready,
    )
    endpoint.start()
    try:
        yield
    finally:
        endpoint.stop()
