"""Requests as a server answers them: one of its own, or the one that runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from corral.errors import ConfigError, StartError
from corral.ipc.messages import ServedModel
from corral.ipc.spans import RequestSpan, unpack
from corral.ipc.status import ServerStatus
from corral.profiling import threads
from corral.profiling.threads import ThreadUse
from corral.supervisor import admin
from corral.supervisor.child_server import asking_ours, status_of
from corral.system.other_load import OtherLoad, watched


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """What was seen of a server.

    Attributes:
        requests: that it answered meanwhile.
        dropped: requests that were not written down.
        client_us: end-to-end times of our own clients; empty where they are others'.
        status: the server.
        worker_threads: by worker.
        other_load: the share of the workers' CPUs that others took meanwhile, 0 to 1.
    """

    requests: tuple[RequestSpan, ...]
    dropped: int
    client_us: tuple[float, ...]
    status: ServerStatus
    worker_threads: Mapping[str, ThreadUse]
    #: None where it is not known
    other_load: float | None = 0.0


def trace(socket: Path, seconds: float, *, ours: bool = False) -> Served:
    """Traces the server at an admin socket for so long.

    Args:
        socket: its admin socket.
        seconds: at most a minute.
        ours: we have started it.

    Raises:
        ConfigError: none answers, or it cannot trace.
    """
    status = status_of(socket)
    before, begun_s = _threads(status), time.monotonic()
    load, cpus = OtherLoad(), {cpu for worker in status.workers for cpu in worker.cpus}
    pids = [*(worker.pid for worker in status.workers), *(cell.pid for cell in status.cells)]
    processes = [pid for pid in pids if pid is not None]
    with watched(cpus, load, beside=[] if ours else processes):
        reply = admin.ask(socket, admin.Request(command="trace", seconds=seconds))
    if reply.trace is None:
        raise ConfigError(reply.text or "the server is of a version that cannot trace")
    after, span_s = _threads(status), time.monotonic() - begun_s
    requests = [span for cell in reply.trace for span in unpack(cell.cell, cell.records)]
    return Served(
        requests=tuple(requests),
        dropped=sum(cell.dropped for cell in reply.trace),
        client_us=(),
        status=status,
        worker_threads={
            worker: threads.use(before[worker], after[worker], span_s)
            for worker in before.keys() & after.keys()
        },
        # What the server itself took would count as others'.
        other_load=None if status.pids_hidden else load.share,
    )


def _threads(status: ServerStatus) -> dict[str, dict[int, threads.ThreadCounts]]:
    found = {}
    for worker in status.workers:
        if worker.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                found[str(worker.id)] = threads.read(worker.pid)
    return found


def under_load(socket: Path, served: ServedModel, clients: int, seconds: float) -> Served:
    """Traces a server while clients of our own ask it, one request at a time each.

    Raises:
        StartError: they could not ask.
    """
    with asking_ours():
        return _under_load(socket, served, clients, seconds)


def _under_load(socket: Path, served: ServedModel, clients: int, seconds: float) -> Served:
    port = status_of(socket).http_port
    specs = served.signature.input_specs(served.signature.native)
    inputs = [(spec.name, (1, *spec.shape), spec.datatype.name) for spec in specs]
    script = Path(__file__).with_name("load.py")
    command = [sys.executable, "-S", str(script), str(port), f"/v2/models/{served.name}/infer",
               json.dumps(inputs), str(clients)]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8", process_group=0,
    ) as load:  # fmt: skip
        try:
            _wait_for_first(load)
            begun_s = time.monotonic()
            found = trace(socket, seconds, ours=True)
            ended_s = time.monotonic()
            output, said = load.communicate()
        # Whatever happens, Ctrl-C included, it must not go on asking.
        except BaseException:
            load.kill()
            raise
    if load.returncode:
        raise StartError(f"a request was not answered: {_last_line(said)}")
    spans = [pair for pair in json.loads(output) if pair[0] >= begun_s and pair[1] <= ended_s]
    client_us = tuple((end - begin) * 1e6 for begin, end in spans)
    return dataclasses.replace(found, client_us=client_us)


def _wait_for_first(load: subprocess.Popen[str]) -> None:
    assert load.stdout
    if load.stdout.readline() != "first\n":
        _, said = load.communicate()
        raise StartError(f"no request was answered: {_last_line(said)}")


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["nobody said why"])[-1]
