"""The process whose engine is profiled: ``python -m corral.profiling.process ID BOOT_FD``.

It starts as a worker does: its CPUs, memory, allocator and threads are a worker's. A batch message
says what to run and for how many milliseconds; its answer comes as JSON in pieces on the data
socket, which then ends.
"""

from __future__ import annotations

import os
import socket
import sys
import time

import msgspec

from corral import logs
from corral.backends import registry
from corral.backends.operators import EngineProfile
from corral.errors import ConfigError, ModelError
from corral.ipc import channel
from corral.ipc.messages import WorkerBoot, WorkerFailed
from corral.ipc.packets import BATCH
from corral.ipc.region import Region
from corral.profiling import threads
from corral.profiling.threads import ThreadUse
from corral.tensors import Datatype
from corral.worker.warmup import compile_batch

PIECE_BYTES = 32_768


class EngineRun(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine did, first without and then with its profiler."""

    #: what it says of itself
    engine: dict[str, str]
    #: seconds of each inference without a profiler
    plain_s: list[float]
    #: the process's threads meanwhile
    threads: ThreadUse
    profile: EngineProfile


def run(
    boot: WorkerBoot, region: Region, datatype: Datatype, count: int, seconds: float
) -> EngineRun:
    """Runs batches of one size, half of the time with the engine's profiler.

    Raises:
        ModelError, ConfigError: this can never work.
    """
    backend = registry.create(boot.settings.engine.backend)
    backend.load(boot)
    compile_batch(backend, region, datatype, count)
    pid = os.getpid()
    before, begun_s = threads.read(pid), time.perf_counter()
    plain_s: list[float] = []
    while not plain_s or time.perf_counter() - begun_s < seconds / 2:
        started_s = time.perf_counter()
        backend.run(datatype, count)
        plain_s.append(time.perf_counter() - started_s)
    used = threads.use(before, threads.read(pid), time.perf_counter() - begun_s)
    described = backend.describe()
    backend.discard(datatype, count)
    del backend
    profiler = registry.create_profiler(boot.settings.engine.backend)
    profiler.load(boot)
    compile_batch(profiler, region, datatype, count)
    found = profiler.profile(datatype, count, seconds / 2)
    return EngineRun(engine=described, plain_s=plain_s, threads=used, profile=found)


def main() -> int:
    """Entry of the process; returns the exit code."""
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        boot = msgspec.json.decode(file.read(), type=WorkerBoot)
    logs.configure(boot.settings.logging, "profile")
    control = socket.socket(fileno=boot.control_fd)
    data = socket.socket(fileno=boot.data_fd)
    region = Region(boot.region_fd, boot.signature, boot.region_batch)
    message = data.recv(BATCH.size)
    if len(message) != BATCH.size:
        return 0
    milliseconds, datatype, count = BATCH.unpack(message)
    try:
        found = run(boot, region, Datatype(datatype), count, milliseconds / 1000)
    except ModuleNotFoundError as error:
        failure = WorkerFailed(worker=0, message=f"the package {error.name!r} is not installed")
        channel.send(control, failure)
        return 2
    except (ConfigError, ModelError) as error:
        channel.send(control, WorkerFailed(worker=0, message=str(error)))
        return error.exit_code
    answer = memoryview(msgspec.json.encode(found))
    for start in range(0, len(answer), PIECE_BYTES):
        data.sendall(answer[start : start + PIECE_BYTES])
    return 0


if __name__ == "__main__":
    code = main()
    # The interpreter's farewell would wait for an engine's threads.
    os._exit(code)
