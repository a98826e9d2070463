"""Starts a frontend: its control socket and its process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

from corral.ipc import channel
from corral.ipc.messages import CellBoot
from corral.launch.spawn import Child, Process, inherited, spawn
from corral.planning.environment import frontend_environment


def start_frontend(
    boot: CellBoot,
    *,
    module: str,
    cpus: Sequence[int],
    memory_node: int | None,
    environ: Mapping[str, str],
) -> Process:
    """Starts a frontend. Call it from the main thread: the frontend dies with the thread.

    Args:
        boot: its boot file, but for the control socket; the other descriptors stay the caller's.
        module: run as the frontend.
        cpus: its affinity mask.
        memory_node: NUMA node its memory is bound to, or None.
        environ: this process's environment; the frontend gets the harmless part.

    Raises:
        OSError: no process, memory or descriptor to be had; nothing stays open.
    """
    child = Child(
        kind="frontend",
        number=boot.cell,
        module=module,
        cpus=cpus,
        memory_node=memory_node,
        # gRPC's own lines about handshakes that fail would let anybody fill the log.
        env={**inherited(environ), **frontend_environment(), "GRPC_VERBOSITY": "ERROR"},
    )
    with contextlib.ExitStack() as undo:
        ours, theirs = channel.pair()
        undo.callback(ours.close)
        with theirs:
            filled = msgspec.structs.replace(boot, control_fd=theirs.fileno())
            shared = [fd for fd in (boot.counters_fd, boot.reports_fd) if fd >= 0]
            process = spawn(child, filled, ours, [theirs.fileno(), *shared])
        undo.pop_all()
    return process
