"""Trials: corral's own worker, started apart to be measured, with the environment of a setting.

A trial is the process that would serve (pinned, with its allocator and its threads), so what is
measured holds for the server. Whoever starts one takes the frontend's place: batches go over the
data socket, tensors through the region. Start and end trials from the main thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from corral.backends.registry import engine
from corral.errors import ModelError, PassingError
from corral.ipc import channel
from corral.ipc.batch_channel import BatchChannel, Nonsense
from corral.ipc.messages import ModelBoot, WorkerBoot, WorkerFailed, WorkerReady, from_child_decoder
from corral.ipc.packets import ResultStatus
from corral.ipc.region import Region
from corral.launch.libraries import find_libraries
from corral.launch.spawn import Process
from corral.launch.worker import WorkerLaunch, WorkerProgram
from corral.launch.worker_runtime import worker_extras
from corral.planning.environment import compute_environment
from corral.settings import Settings
from corral.system.limits import killed_for_memory
from corral.tensors import Datatype, Signature

#: how long a worker whose sockets have ended may take to end itself
_LAST_BREATH_S = 1.0
#: environment by what it needs to know: the CPUs and the backend
Environment = Callable[[Sequence[int]], dict[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """What to start.

    Attributes:
        settings: with a concrete backend.
        model: as prepared.
        signature: the model's shapes.
        cpus: the affinity mask, one CPU a physical core.
        memory_node: NUMA node, or None.
        sizes: batch sizes to compile, ascending.
        datatype: of the batches; no other is compiled.
        find_knee: all datatypes are compiled, and costs measured, up to where batching stops
            paying: as a server's first worker does.
        environment: makes the compute environment; the server's own by default.
        threads: of the engine; one a CPU if None.
        openmp: whether engines on OpenMP get libiomp5 where it is installed.
    """

    settings: Settings
    model: ModelBoot
    signature: Signature
    cpus: Sequence[int]
    memory_node: int | None = None
    sizes: Sequence[int] = (1,)
    datatype: Datatype = Datatype.FP32
    find_knee: bool = False
    environment: Environment = compute_environment
    threads: int | None = None
    openmp: bool = True


class Trial:
    """A worker under trial. Use it as a context manager; it ends with it.

    Attributes:
        report: what the worker said when it was ready.
        start_s: seconds from spawn to ready.
    """

    def __init__(
        self, process: Process, data: socket.socket, region: Region, order: TrialOrder
    ) -> None:
        self._process = process
        self._channel = BatchChannel(data)
        self._region = region
        self._order = order
        self._started_s = time.monotonic()
        self._number = 0
        self.report: WorkerReady
        self.start_s = 0.0

    def wait_until_ready(self) -> None:
        """Waits for its report.

        Raises:
            ModelError: it failed, and would again.
            PassingError: it died, took longer than the boot timeout, or says that it may pass.
        """
        deadline_s = self._started_s + self._order.settings.lifecycle.boot_timeout_s
        while not self._readable(self._process.control.fileno(), deadline_s):
            continue
        try:
            message, _ = channel.receive(self._process.control, from_child_decoder)
        except (channel.Closed, ConnectionError):
            raise PassingError(self._death()) from None
        if isinstance(message, WorkerFailed):
            raise (PassingError if message.passing else ModelError)(message.message)
        assert isinstance(message, WorkerReady)
        self.report = message
        self.start_s = time.monotonic() - self._started_s

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that it takes: the model may limit those that were ordered."""
        return self.report.sizes

    def submit(self, datatype: Datatype, count: int) -> None:
        """Gives it the batch that lies in its region."""
        self._number += 1
        if not self._channel.send(self._number, datatype, count):
            raise PassingError(self._death())

    def collect(self, timeout_s: float = 120.0) -> float:
        """Waits for the batch that was submitted; returns the engine's seconds.

        Raises:
            ModelError: the batch failed.
            PassingError: the worker died, or answered nonsense.
        """
        deadline_s = time.monotonic() + timeout_s
        try:
            while (result := self._channel.receive()) is None:
                self._readable(self._channel.fileno(), deadline_s)
        except Nonsense as error:
            raise PassingError(f"{self._name()} answered nonsense: {error}") from None
        except EOFError:
            raise PassingError(self._death()) from None
        if result.status is not ResultStatus.OK:
            raise ModelError(f"{self._name()} failed on a batch")
        return result.engine_s

    def run(self, datatype: Datatype, count: int) -> float:
        """Runs one batch; returns the engine's seconds."""
        self.submit(datatype, count)
        return self.collect()

    def fileno(self) -> int:
        """Readable when a submitted batch is done: for select."""
        return self._channel.fileno()

    def fill(self, inputs: NDArray[np.generic], datatype: Datatype) -> None:
        """Puts a batch into its region; it stays there for all runs that follow."""
        self._region.inputs(datatype, len(inputs))[:] = inputs

    def answer(
        self, inputs: Iterable[NDArray[np.generic]], datatype: Datatype = Datatype.FP32
    ) -> NDArray[np.float32]:
        """The answers to items, [n,*item shape] to FP32 [n,*output shape], one at a time."""
        logits = []
        for item in inputs:
            self.fill(item[np.newaxis], datatype)
            self.run(datatype, 1)
            logits.append(self._region.outputs(1)[0].copy())
        return np.stack(logits)

    def answer_all(
        self, inputs: Iterable[NDArray[np.generic]], datatype: Datatype
    ) -> dict[str, NDArray[np.generic]]:
        """Every output's answers to items by its name, [n,*output shape], one at a time."""
        specs = self._order.signature.output_specs
        found: list[list[NDArray[np.generic]]] = [[] for _ in specs]
        for item in inputs:
            self.fill(item[np.newaxis], datatype)
            self.run(datatype, 1)
            for answers, output in zip(found, self._region.all_outputs(1), strict=True):
                answers.append(output[0].copy())
        return {spec.name: np.stack(answers) for spec, answers in zip(specs, found, strict=True)}

    def batch(
        self, inputs: NDArray[np.generic], datatype: Datatype
    ) -> tuple[float, NDArray[np.generic]]:
        """Runs one batch of items; returns the engine's seconds and the first output, copied."""
        self.fill(inputs, datatype)
        took_s = self.run(datatype, len(inputs))
        return took_s, self._region.all_outputs(len(inputs))[0].copy()

    def end(self) -> None:
        """Ends the process and gives everything back."""
        self._process.signal(signal.SIGKILL)
        self._process.reap()
        self._channel.close()
        self._region.close()

    def _readable(self, fd: int, deadline_s: float) -> bool:
        """True when ``fd`` has something to read; passes on what the worker writes meanwhile."""
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise PassingError(f"{self._name()} took too long")
        ready, _, _ = select.select([fd, self._process.stderr_fd], [], [], remaining_s)
        if self._process.stderr_fd in ready and not self._process.forward_stderr():
            # Its end of the pipe is closed: it is dying, and the other socket will say so.
            ready, _, _ = select.select([fd], [], [], min(remaining_s, 1.0))
        return fd in ready

    def _name(self) -> str:
        settings = self._order.settings
        return f"{settings.engine.backend.value} {self._order.model.precision}"

    def _death(self) -> str:
        while self._process.forward_stderr():
            pass
        # Nobody here kills a trial that is still asked.
        killed = self._process.killed(_LAST_BREATH_S)
        words = killed_for_memory() if killed else self._process.last_error_line()
        return f"{self._name()} died while it was measured" + (f": {words}" if words else "")


@contextlib.contextmanager
def start(order: TrialOrder, environ: Mapping[str, str]) -> Iterator[Trial]:
    """Starts a worker and waits until it is ready; it ends with the context.

    Args:
        order: what to start.
        environ: this process's environment; the worker gets the harmless part.

    Raises:
        ModelError: the worker failed or died, or there is no process to be had.
    """
    trial = _started(order, environ)
    try:
        trial.wait_until_ready()
        yield trial
    finally:
        trial.end()


@contextlib.contextmanager
def start_all(orders: Sequence[TrialOrder], environ: Mapping[str, str]) -> Iterator[list[Trial]]:
    """Starts workers at the same time, and waits until all are ready; see ``start``."""
    with contextlib.ExitStack() as stack:
        trials = []
        for order in orders:
            trials.append(_started(order, environ))
            stack.callback(trials[-1].end)
        for trial in trials:
            trial.wait_until_ready()
        yield trials


def _started(order: TrialOrder, environ: Mapping[str, str]) -> Trial:
    launch = _launch(order, environ)
    try:
        worker = launch.start()
        try:
            region = Region(worker.region_fd, order.signature, launch.boot.region_batch)
        except OSError:
            worker.abandon()
            raise
    except OSError as error:
        raise PassingError(f"no process for a measurement: {error.strerror}") from None
    os.close(worker.region_fd)
    return Trial(worker.process, worker.data, region, order)


def _launch(order: TrialOrder, environ: Mapping[str, str]) -> WorkerLaunch:
    settings = order.settings
    openmp = order.openmp and engine(settings.engine.backend).obeys_openmp
    extras = worker_extras(
        settings.placement, find_libraries(settings.placement.allocator, openmp=openmp)
    )
    boot = WorkerBoot(
        worker=0,
        cell=0,
        cpus=list(order.cpus),
        threads=order.threads or len(order.cpus),
        signature=order.signature,
        region_batch=max(order.sizes),
        sizes=list(order.sizes),
        find_knee=order.find_knee,
        expected_libraries=extras.expected_libraries,
        settings=settings,
        model=order.model,
        only=None if order.find_knee else order.datatype,
    )
    program = WorkerProgram.find(settings, order.model, extras, environ)
    compute = order.environment(order.cpus)
    return program.launch(boot, compute, order.memory_node)
