"""Makes children: sockets, region, boot file and environment of each, then the process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping

import msgspec

from corral.artifacts.curve_cache import CurveCache
from corral.artifacts.figures import FigureCache
from corral.batching.sizes import BatchSizes
from corral.ipc import channel
from corral.ipc.messages import CellBoot, ModelBoot, WorkerBoot, WorkerReady
from corral.ipc.region import create_region
from corral.launch import worker_user as identity
from corral.launch.spawn import Child, Process, inherited, spawn
from corral.launch.worker_runtime import WorkerExtras, python_path, worker_python
from corral.planning.environment import frontend_environment
from corral.planning.plan import Plan
from corral.settings import Settings
from corral.supervisor.slots import FrontendSlot, WorkerSlot
from corral.tensors import Signature

_WORKER_MODULE = "corral.worker.process"


class ChildFactory:
    """Starts processes, and knows nothing of when.

    Args:
        settings: with the ports settled.
        plan: who gets which CPUs.
        model: what children need to know of the model.
        signature: the model's shapes, for the regions.
        batch: what to compile.
        curves: keeps what the first worker finds out.
        figures: keeps the rate that workers report, for later plans.
        extras: what the allocator adds to the workers' environment.
        environ: the supervisor's own environment; children get the harmless part.
        counters_fd: the counter memory.
        page_slots: workers that a page of it has room for.
        frontend_module: run as a frontend.

    Raises:
        ConfigError: ``settings.worker_user`` is nobody, or cannot read what workers need;
            ``settings.worker_python`` is no interpreter.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        plan: Plan,
        model: ModelBoot,
        signature: Signature,
        batch: BatchSizes,
        curves: CurveCache,
        figures: FigureCache,
        extras: WorkerExtras,
        environ: Mapping[str, str],
        counters_fd: int,
        page_slots: int,
        frontend_module: str,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._model = model
        self._signature = signature
        self._batch = batch
        self._curves = curves
        self._figures = figures
        #: the largest batch that its workers' regions hold
        self.region_batch = batch.sizes[-1]
        self._page_slots = page_slots
        self._extras = extras
        self._base_env = inherited(environ)
        self._counters_fd = counters_fd
        self._frontend_module = frontend_module
        self._python = worker_python(settings)
        self._user = identity.worker_user(settings, model.artefact, self._python)

    def learn(self, report: WorkerReady, cores: int) -> None:
        """Once a worker of so many cores has found the knee, none that follows looks for it."""
        self._figures.learn_costs(report.costs_s, cores)
        if self._batch.find_knee:
            self._curves.save(report.costs_s)
            self._batch = BatchSizes(sizes=report.sizes, find_knee=False)

    def start_frontend(self, slot: FrontendSlot) -> Process:
        """Starts a frontend.

        Raises:
            OSError: no process, memory or descriptor to be had; nothing stays open.
        """
        cells = self._plan.cells

        def boot(control_fd: int) -> CellBoot:
            return CellBoot(
                cell=slot.cell,
                cells=len(cells),
                slots=len(slot.planned.workers),
                workers=sum(len(cell.workers) for cell in cells),
                page_slots=self._page_slots,
                region_batch=self.region_batch,
                settings=self._settings,
                model=self._model,
                control_fd=control_fd,
                counters_fd=self._counters_fd,
            )

        child = Child(
            kind="frontend",
            number=slot.cell,
            module=self._frontend_module,
            cpus=slot.planned.frontend_cpus,
            memory_node=slot.planned.workers[0].memory_node,
            # gRPC's own lines about handshakes that fail would let anybody fill the log.
            env={**self._base_env, **frontend_environment(), "GRPC_VERBOSITY": "ERROR"},
        )
        return _start(child, boot, [self._counters_fd])

    def start_worker(self, slot: WorkerSlot) -> Process:
        """Starts a worker, and leaves in the slot what its frontend is to be given.

        Raises:
            OSError: no process, memory or descriptor to be had; nothing stays open.
        """
        planned = slot.planned
        with contextlib.ExitStack() as undo:
            region_fd = create_region(self._signature, self.region_batch)
            undo.callback(os.close, region_fd)
            ours, theirs = channel.pair()
            undo.callback(ours.close)
            with theirs:

                def boot(control_fd: int) -> WorkerBoot:
                    return WorkerBoot(
                        worker=planned.id,
                        cell=slot.cell,
                        cpus=planned.cpus,
                        threads=planned.cores,
                        signature=self._signature,
                        region_batch=self.region_batch,
                        sizes=self._batch.sizes,
                        find_knee=self._batch.find_knee,
                        expected_libraries=self._extras.expected_libraries,
                        settings=self._settings,
                        model=self._model,
                        control_fd=control_fd,
                        data_fd=theirs.fileno(),
                        region_fd=region_fd,
                    )

                child = Child(
                    kind="worker",
                    number=planned.id,
                    module=_WORKER_MODULE,
                    cpus=planned.cpus,
                    memory_node=planned.memory_node,
                    env={
                        **self._base_env,
                        **planned.env,
                        **self._extras.env,
                        **python_path(self._settings),
                        **identity.home(self._user),
                    },
                    python=self._python,
                    drop=True,
                    user=identity.ids(self._user),
                )
                process = _start(child, boot, [theirs.fileno(), region_fd])
            undo.pop_all()
        slot.handover = (ours, region_fd)
        return process


def _start(child: Child, boot: Callable[[int], msgspec.Struct], fds: list[int]) -> Process:
    """Spawns with a control socket; our copies of the child's ends are closed right after."""
    ours, theirs = channel.pair()
    with theirs:
        try:
            return spawn(child, boot(theirs.fileno()), ours, [theirs.fileno(), *fds])
        except OSError:
            ours.close()
            raise
