"""One server from settings to exit code: ports, counters, metrics, and the supervisor on top."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from corral import logs
from corral.errors import ConfigError
from corral.launch import worker_user as identity
from corral.metrics import counters
from corral.metrics.http import MetricsServer
from corral.metrics.page import Metrics
from corral.planning import topology
from corral.planning.plan import Plan
from corral.security import credentials, sandbox, tls
from corral.settings import Settings, is_loopback
from corral.supervisor import admin, cache_permissions, ports
from corral.supervisor.cpu_watch import AllowedCpus
from corral.supervisor.deployment import DeploymentSpec
from corral.supervisor.deployments import Deployments, Source, slots_to_reserve
from corral.supervisor.supervisor import Supervisor
from corral.supervisor.views import StartupView
from corral.system import procfs
from corral.tensors import Signature

logger = logging.getLogger(__name__)

FRONTEND_MODULE = "corral.frontend.process"


def run(
    prepared: DeploymentSpec,
    plan: Plan,
    signature: Signature,
    *,
    source: Source | None = None,
    environ: Mapping[str, str],
    console: Console | None = None,
    frontend_module: str = FRONTEND_MODULE,
) -> int:
    """Serves until told to stop. Call it from the main thread: children die with it.

    Args:
        prepared: settings and model; port 0 picks a free one.
        plan: which CPUs everything gets.
        signature: the model's shapes.
        source: where a reload finds settings and model; None for a server that has none.
        environ: the process's environment; children get the harmless part.
        console: for the start-up table; standard error if there is none.
        frontend_module: what to run as a frontend.

    Returns:
        The exit code.

    Raises:
        ConfigError: a port cannot be had, or a child said that it can never start.
        StartError: no worker got ready in time.
    """
    settings = prepared.settings
    logs.configure(settings, "supervisor")
    claimed = ports.claim_all(settings)
    if settings.client_shared_memory and len(plan.cells) > 1:
        raise ConfigError(
            f"--client-shared-memory needs one cell, for a region is registered with one; "
            f"this plan has {len(plan.cells)} (--cells 1)"
        )
    if settings.unix_socket:
        if len(plan.cells) > 1:
            raise ConfigError(
                f"--unix-socket needs one cell, for a socket has one listener; "
                f"this plan has {len(plan.cells)} (--cells 1)"
            )
        ports.claim_socket(settings.unix_socket)
    prepared = prepared.replace(**claimed)
    settings = prepared.settings

    page_slots = slots_to_reserve(plan)
    layout = counters.make_layout(page_slots)
    counters_fd = counters.create_memory(layout, len(plan.cells))
    pages = counters.Pages(counters_fd, layout, len(plan.cells))
    deployments = Deployments(
        settings,
        signature,
        source,
        environ=environ,
        counters_fd=counters_fd,
        page_slots=page_slots,
        cells=len(plan.cells),
        frontend_module=frontend_module,
        read_machine=topology.read_machine,
    )
    deployment = deployments.first(prepared, plan)

    admin_socket, warnings = _admin_socket(settings, environ)
    warnings += cache_permissions.warnings(settings, prepared.model.artefact, os.geteuid())

    async def supervise() -> int:
        view = StartupView(console or _console())
        supervisor = Supervisor(
            deployment,
            deployments,
            pages=pages,
            spectator=view,
            admin_path=admin_socket.getsockname() if admin_socket else None,
            read_allowed_cpus=_read_allowed_cpus,
        )
        supervisor.warn([*warnings, *exposure(settings)])
        async with admin.listening(admin_socket, supervisor.command):
            with _metrics(settings, supervisor, pages):
                return await supervisor.run()

    with (
        ports.hold(settings.host, claimed["port"], shared=len(plan.cells) > 1),
        ports.hold(settings.host, claimed["http_port"], shared=len(plan.cells) > 1),
        ports.removed_at_end(settings.unix_socket),
    ):
        # What is there now stays; a collection need not look at it again.
        gc.freeze()
        return asyncio.run(supervise())


def _admin_socket(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[socket.socket | None, list[str]]:
    """The admin socket, bound; a server that found no place for one serves all the same.

    Raises:
        ConfigError: it cannot be where the settings want it.
    """
    if settings.admin_socket is not None:
        return admin.bind(Path(settings.admin_socket)), []
    path = admin.default_path(environ, settings.port)
    try:
        admin.make_private_folder(path.parent)
        return admin.bind(path), []
    except ConfigError as error:
        return None, [f"no admin socket, so no corral reload, mode and status: {error}"]


def _read_allowed_cpus() -> AllowedCpus:
    cpus, quota = topology.read_allowed()
    return AllowedCpus(cpus=cpus, quota=quota)


def check_security(settings: Settings) -> None:
    """Makes sure that what the settings name for security is there and can be used.

    Raises:
        ConfigError: what is not.
    """
    tls.watch(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    _access(settings)
    if settings.worker_user:
        identity.find_user(settings.worker_user)
    if settings.seccomp:
        sandbox.require_seccomp()


def _access(settings: Settings) -> credentials.Access | None:
    return credentials.make_access(
        settings.auth_token_file, settings.allow_client, client_ca=settings.tls_client_ca
    )


def exposure(settings: Settings) -> list[str]:
    """What is open to others, and perhaps was not meant to be; sentences."""
    found = []
    for host, act in ((settings.host, "use the server"), (settings.metrics_host, "read /metrics")):
        if is_loopback(host):
            continue
        if not settings.auth_token_file and not settings.tls_client_ca:
            missing = "neither --auth-token-file nor --tls-client-ca is given"
            found.append(f"everybody who can reach {host} may {act}: {missing}")
        elif not settings.tls_cert:
            found.append(f"bearer tokens travel unencrypted to {host}: no --tls-cert is given")
    return list(dict.fromkeys(found))


def _console() -> Console:
    """Standard error; wide where it is no terminal, for a log file has room."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=120)


@contextlib.contextmanager
def _metrics(settings: Settings, supervisor: Supervisor, pages: counters.Pages) -> Iterator[None]:
    """The metrics endpoint: the first thing that is there, and the last that goes."""
    board = supervisor.board
    metrics = Metrics(board, pages, lambda: supervisor.plan, procfs.throttling)
    endpoint = MetricsServer(
        settings.metrics_host,
        settings.metrics_port,
        metrics.render,
        lambda: board.current().ready,
        access=_access(settings),
        files=tls.watch(settings.tls_cert, settings.tls_key, settings.tls_client_ca),
    )
    endpoint.start()
    try:
        yield
    finally:
        endpoint.stop()
