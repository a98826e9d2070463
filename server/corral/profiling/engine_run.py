"""Starts the process whose engine is profiled, and waits for what it found."""

from __future__ import annotations

import dataclasses
import select
import socket
import time
from collections.abc import Mapping

import msgspec
import numpy as np

from corral.backends.registry import engine
from corral.errors import ConfigError, ModelError
from corral.ipc import channel
from corral.ipc.messages import ModelBoot, WorkerBoot, WorkerFailed, from_child_decoder
from corral.ipc.packets import BATCH
from corral.ipc.region import Region
from corral.launch.libraries import find_libraries
from corral.launch.worker import StartedWorker, WorkerProgram
from corral.launch.worker_runtime import worker_extras
from corral.planning.plan import PlannedWorker
from corral.profiling.process import PIECE_BYTES, EngineRun
from corral.settings import Settings
from corral.tensors import Datatype, Signature

_MODULE = "corral.profiling.process"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOrder:
    """What to run.

    Attributes:
        settings: with a concrete backend.
        model: as prepared.
        signature: the model's shapes.
        pen: a worker's CPUs and memory.
        batch: items of each batch.
        seconds: in all, half of it under the profiler.
    """

    settings: Settings
    model: ModelBoot
    signature: Signature
    pen: PlannedWorker
    batch: int
    seconds: float


def run(order: EngineOrder, environ: Mapping[str, str]) -> EngineRun:
    """Runs it in a process of its own, as a worker would run; nothing of it stays.

    Raises:
        ConfigError: the engine has no profiler, or is not there.
        ModelError: it failed or died.
    """
    worker = _start(order, environ)
    try:
        return _wait(worker, order)
    # Ctrl-C, too, must not leave the process behind.
    finally:
        worker.abandon()


def _start(order: EngineOrder, environ: Mapping[str, str]) -> StartedWorker:
    settings = order.settings
    row = engine(settings.engine.backend)
    if row.profiler is None:
        raise ConfigError(f"--backend {row.name.value} has no profiler: it computes nothing")
    extras = worker_extras(
        settings.placement,
        find_libraries(settings.placement.allocator, openmp=row.obeys_openmp),
    )
    boot = WorkerBoot(
        worker=0,
        cell=0,
        cpus=order.pen.cpus,
        threads=order.pen.cores,
        signature=order.signature,
        region_batch=order.batch,
        sizes=[order.batch],
        find_knee=False,
        expected_libraries=extras.expected_libraries,
        settings=settings,
        model=order.model,
    )
    program = WorkerProgram.find(settings, order.model, extras, environ)
    launch = program.launch(boot, order.pen.env, order.pen.memory_node)
    return dataclasses.replace(launch, module=_MODULE).start()


def _wait(worker: StartedWorker, order: EngineOrder) -> EngineRun:
    datatype = order.signature.native
    _fill(worker, order, datatype)
    milliseconds = round(order.seconds * 1000)
    worker.data.send(BATCH.pack(milliseconds, datatype, order.batch))
    deadline_s = time.monotonic() + order.settings.lifecycle.boot_timeout_s + order.seconds
    pieces: list[bytes] = []
    control, stderr_fd = worker.process.control, worker.process.stderr_fd
    waited: list[socket.socket | int] = [worker.data, control, stderr_fd]
    while time.monotonic() < deadline_s:
        ready, _, _ = select.select(waited, [], [], 1.0)
        if stderr_fd in ready and not worker.process.forward_stderr():
            waited.remove(stderr_fd)
        if control in ready:
            _hear(worker, waited)
        if worker.data in ready:
            piece = worker.data.recv(PIECE_BYTES)
            if piece:
                pieces.append(piece)
                continue
            if not pieces:
                break
            return msgspec.json.decode(b"".join(pieces), type=EngineRun)
    words = worker.process.last_error_line()
    raise ModelError(f"the engine died while it was profiled{f': {words}' if words else ''}")


def _hear(worker: StartedWorker, waited: list[socket.socket | int]) -> None:
    try:
        message, _ = channel.receive(worker.process.control, from_child_decoder)
    except channel.Closed:
        waited.remove(worker.process.control)
        return
    if isinstance(message, WorkerFailed):
        raise ModelError(message.message)


def _fill(worker: StartedWorker, order: EngineOrder, datatype: Datatype) -> None:
    """Noise for a picture or a tensor; ones elsewhere, which every integer input takes."""
    region = Region(worker.region_fd, order.signature, order.batch)
    try:
        if not region.plain:
            for several in region.all_inputs(datatype, order.batch):
                several.fill(1)
            return
        inputs = region.inputs(datatype, order.batch)
        noise = np.random.default_rng(0)
        if inputs.dtype == np.uint8:
            inputs[:] = noise.integers(0, 256, inputs.shape, np.uint8)
        else:
            inputs[:] = noise.standard_normal(inputs.shape, np.float32)
        del inputs
    finally:
        region.close()
