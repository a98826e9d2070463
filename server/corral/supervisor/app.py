"""One server from settings to exit code: ports, counters, metrics, and the supervisor on top."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from corral import logs
from corral.artifacts.figures import FigureCache
from corral.doctor import summary as doctor
from corral.errors import ConfigError, CorralError
from corral.ipc.messages import ServedModel
from corral.launch.region_memory import check_regions
from corral.metrics import counters
from corral.planning import topology
from corral.planning.machine import Machine
from corral.planning.plan import Plan, PlannedWorker
from corral.planning.request import plan_for
from corral.settings import ListenSettings, Settings
from corral.supervisor import admin, admin_folder, cache_permissions, dry_run, ports
from corral.supervisor.cpu_watch import read_allowed_cpus
from corral.supervisor.deployment import DeploymentSpec
from corral.supervisor.deployments import Deployments, Source, slots_to_reserve
from corral.supervisor.exposure import check_security, doubts, exposure
from corral.supervisor.front_meter import FrontMeter
from corral.supervisor.observation import Observation, observing
from corral.supervisor.service_manager import ServiceManager
from corral.supervisor.spinners import spinning_while
from corral.supervisor.supervisor import Supervisor
from corral.supervisor.terminal import ignore_until_served
from corral.supervisor.views import StartupView
from corral.system import openmp_files, procfs
from corral.system.limits import check_descriptors, check_file_size
from corral.system.terminal import standard_error
from corral.telemetry import collector

logger = logging.getLogger(__name__)

#: the loop's and the metrics', and what is open for a moment while a child starts
_OWN_DESCRIPTORS = 8
#: of each child, for good: its control socket, what it writes, and its process
_CHILD_DESCRIPTORS = 3

FRONTEND_MODULE = "corral.frontend.process"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Server:
    """What a server is made of; see ``run`` for what they are."""

    prepared: DeploymentSpec
    plan: Plan
    machine: Machine
    served: ServedModel
    source: Source | None
    environ: Mapping[str, str]
    service: ServiceManager
    frontend_module: str = FRONTEND_MODULE
    is_dry_run: bool = False


def serve(
    asked: Settings,
    served: ServedModel,
    prepare: Callable[[Settings, PlannedWorker], DeploymentSpec],
    source: Source,
    *,
    environ: Mapping[str, str],
    is_dry_run: bool = False,
) -> int:
    """Prepares the model and serves until told to stop. Call it from the main thread.

    Args:
        asked: the settings; port 0 picks a free one.
        served: the model as frontends serve it.
        prepare: settles engine and precision and makes the artefact, where the worker that it is
            given would be.
        source: where a reload finds settings and model.
        environ: the process's environment; children get the harmless part.
        is_dry_run: serve one request of its own, on free ports, and end.

    Returns:
        The exit code.

    Raises:
        ConfigError: a port cannot be had, or a child said that it can never start.
        ModelError: the model cannot be prepared.
        StartError: no worker got ready in time, or the dry run's request failed.
    """
    service = ServiceManager({} if is_dry_run else environ, os.getpid())
    try:
        return _serve(
            asked,
            served,
            prepare,
            source,
            environ=environ,
            service=service,
            is_dry_run=is_dry_run,
        )
    except CorralError as error:
        service.failed(str(error))
        raise


def _serve(
    asked: Settings,
    served: ServedModel,
    prepare: Callable[[Settings, PlannedWorker], DeploymentSpec],
    source: Source,
    *,
    environ: Mapping[str, str],
    service: ServiceManager,
    is_dry_run: bool,
) -> int:
    logs.configure(asked.logging, "supervisor")
    ignore_until_served()
    openmp_files.sweep()
    check_security(asked)
    collector.check(asked.telemetry)
    if is_dry_run:
        dry_run.check_places(asked)
        asked = dry_run.on_the_side(asked)
    machine = topology.read_machine()
    plan = plan_for(asked, machine)
    # Before the model is prepared: nobody should wait minutes to hear that a port is in use.
    claimed = _claim(asked)
    _check_cells(asked.listen, plan)
    _check_memory(asked, plan, served)
    with (
        _held(asked.replace(**claimed).listen, shared=False),
        service.preparing(served.name),
    ):
        prepared = prepare(asked, plan.first_worker)
    # The environment of the workers depends on the engine, and a search has measured more.
    measured = FigureCache(asked, machine.model_name).load()
    return _run(
        _Server(
            prepared=prepared.replace(**claimed),
            plan=plan_for(prepared.settings, machine, measured),
            machine=machine,
            served=served,
            source=source,
            environ=environ,
            service=service,
            is_dry_run=is_dry_run,
        )
    )


def run(
    prepared: DeploymentSpec,
    plan: Plan,
    served: ServedModel,
    *,
    environ: Mapping[str, str],
    frontend_module: str = FRONTEND_MODULE,
) -> int:
    """Serves what is prepared by a plan that is made, with nothing to reload from.

    Args:
        prepared: settings and model; port 0 picks a free one.
        plan: which CPUs everything gets.
        served: the model as frontends serve it.
        environ: the process's environment; children get the harmless part.
        frontend_module: what to run as a frontend.

    Returns:
        The exit code.

    Raises:
        ConfigError, StartError: see ``serve``.
    """
    logs.configure(prepared.settings.logging, "supervisor")
    return _run(
        _Server(
            prepared=prepared.replace(**_claim(prepared.settings)),
            plan=plan,
            machine=topology.read_machine(),
            served=served,
            source=None,
            environ=environ,
            service=ServiceManager({}, os.getpid()),
            frontend_module=frontend_module,
        )
    )


def _claim(settings: Settings) -> dict[str, int]:
    """Makes sure that what the server is to listen on can be had; returns the ports, settled.

    Raises:
        ConfigError: it cannot.
    """
    claimed = ports.claim_all(settings)
    if settings.listen.unix_socket:
        ports.claim_socket(settings.listen.unix_socket)
    return claimed


def _check_cells(listen: ListenSettings, plan: Plan) -> None:
    """Raises ConfigError when what is asked for needs one cell, and the plan has more."""
    cells = len(plan.cells)
    if listen.client_shared_memory and cells > 1:
        raise ConfigError(
            f"--client-shared-memory needs one cell, for a region is registered with one; "
            f"this plan has {cells} (--cells 1)"
        )
    if listen.unix_socket and cells > 1:
        raise ConfigError(
            f"--unix-socket needs one cell, for a socket has one listener; "
            f"this plan has {cells} (--cells 1)"
        )


def _check_memory(settings: Settings, plan: Plan, served: ServedModel) -> None:
    workers = sum(len(cell.workers) for cell in plan.cells)
    check_regions(settings.model.name, served.signature, workers, settings.queue.max_batch)


@contextlib.contextmanager
def _held(listen: ListenSettings, *, shared: bool) -> Iterator[None]:
    """Keeps claimed ports from others; see ports.hold."""
    assert listen.http_port is not None, "claimed ports are settled"
    with (
        ports.hold(listen.host, listen.port, shared=shared),
        ports.hold(listen.host, listen.http_port, shared=shared),
        ports.hold(listen.metrics_host, listen.metrics_port, shared=False),
    ):
        yield


def _run(server: _Server) -> int:
    """Makes what tells of requests, and runs the rest within."""
    with observing(server.prepared.settings.telemetry) as observation:
        return _run_observed(server, observation)


def _run_observed(server: _Server, observation: Observation) -> int:
    """Makes counters, the first deployment and the supervisor, and runs it."""
    settings, cells = server.prepared.settings, len(server.plan.cells)
    _check_cells(settings.listen, server.plan)
    page_slots = slots_to_reserve(server.plan)
    counters_fd, pages = _make_pages(page_slots, cells)
    deployments = Deployments(
        settings,
        server.served,
        server.source,
        environ=server.environ,
        counters_fd=counters_fd,
        page_slots=page_slots,
        reports_fd=observation.fd,
        cells=cells,
        frontend_module=server.frontend_module,
        read_machine=topology.read_machine,
    )
    deployment = deployments.first(server.prepared, server.plan, server.machine)
    admin_socket, warnings = _admin_socket(settings.listen, server.environ)
    artefact = server.prepared.model.artefact
    warnings += cache_permissions.warnings(settings, artefact, os.geteuid())
    warnings += exposure(settings) + doubts(settings.security)
    spectator = _spectator(server, settings)

    async def supervise() -> int:
        supervisor = Supervisor(
            deployment,
            deployments,
            pages=pages,
            spectator=spectator,
            admin_path=admin_socket.getsockname() if admin_socket else None,
            read_allowed_cpus=read_allowed_cpus,
        )
        supervisor.warn(warnings, lasting=True)
        if isinstance(spectator, dry_run.DryRun):
            spectator.supervisor = supervisor
        watching = server.service.watching(
            supervisor.board, supervisor.frontends, lambda: supervisor.settings
        )
        async with admin.listening(admin_socket, supervisor.command):
            with observation.metrics(settings, supervisor, pages), watching:
                meter = FrontMeter(supervisor.board, pages)
                with spinning_while(supervisor, server.environ):
                    code = await supervisor.run()
        if isinstance(spectator, dry_run.DryRun) and spectator.said:
            print(spectator.said)
        if (found := meter.stop()) is not None:
            FigureCache(server.prepared.asked, procfs.cpu_model()).learn_front(*found)
        return code

    with (
        _held(settings.listen, shared=cells > 1),
        ports.removed_at_end(settings.listen.unix_socket),
    ):
        workers = sum(len(cell.workers) for cell in server.plan.cells)
        check_descriptors(_OWN_DESCRIPTORS + _CHILD_DESCRIPTORS * (workers + cells))
        # Freezes what is there: a collection need not look at it again.
        gc.freeze()
        return asyncio.run(supervise())


def _make_pages(slots: int, cells: int) -> tuple[int, counters.Pages]:
    """A page of counters for each cell, and the memory's descriptor, which children get."""
    layout = counters.make_layout(slots)
    check_file_size(layout.page_bytes * cells, "a page of counters for each cell")
    fd = counters.create_memory(layout, cells)
    return fd, counters.Pages(fd, layout, cells)


def _spectator(server: _Server, settings: Settings) -> StartupView | dry_run.DryRun:
    """Who is told when the workers are ready: a person, or the one request of a dry run."""
    examine = partial(doctor.summary, server.machine, settings.placement)
    view = StartupView(standard_error(120), examine)
    return dry_run.DryRun(view, server.served, settings.security) if server.is_dry_run else view


def _admin_socket(
    listen: ListenSettings, environ: Mapping[str, str]
) -> tuple[socket.socket | None, list[str]]:
    """The admin socket, bound; a server that found no place for one serves all the same.

    Raises:
        ConfigError: it cannot be where the settings want it.
    """
    if listen.admin_socket is not None:
        return admin.bind(Path(listen.admin_socket)), []
    refusals = []
    for path in admin_folder.default_paths(environ, listen.port):
        try:
            admin_folder.make_private_folder(path.parent)
            admin_folder.sweep(path.parent)
            return admin.bind(path), []
        # What a socket's path cannot hold is a ValueError.
        except (ConfigError, ValueError) as error:
            refusals.append(str(error))
    return None, [f"no admin socket, so no corral reload, mode and status: {refusals[0]}"]
