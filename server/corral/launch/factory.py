"""Starts the children of one deployment: what they have in common, filled in for each."""

from __future__ import annotations

from collections.abc import Mapping

from corral.artifacts.curve_cache import CurveCache
from corral.artifacts.figures import FigureCache
from corral.batching.sizes import BatchSizes
from corral.ipc.messages import CellBoot, ModelBoot, ServedModel, WorkerBoot, WorkerReady
from corral.launch.frontend import start_frontend
from corral.launch.spawn import Process
from corral.launch.worker import StartedWorker, WorkerProgram
from corral.launch.worker_runtime import WorkerExtras
from corral.planning.plan import Plan, PlannedCell, PlannedWorker
from corral.settings import Settings


class ChildFactory:
    """Starts processes, and knows nothing of when.

    Args:
        settings: with the ports settled.
        plan: who gets which CPUs.
        model: what children need to know of the model.
        served: the model as frontends serve it; its shapes make the regions.
        batch: what to compile.
        curves: keeps what the first worker finds out.
        figures: keeps the rate that workers report, for later plans.
        extras: what the allocator adds to the workers' environment.
        environ: the supervisor's own environment; children get the harmless part.
        counters_fd: the counter memory.
        page_slots: workers that a page of it has room for.
        reports_fd: where frontends tell of requests that have ended; -1: nobody wants to know.
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
        served: ServedModel,
        batch: BatchSizes,
        curves: CurveCache,
        figures: FigureCache,
        extras: WorkerExtras,
        environ: Mapping[str, str],
        counters_fd: int,
        page_slots: int,
        reports_fd: int = -1,
        frontend_module: str,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._model = model
        self._served = served
        self._batch = batch
        self._curves = curves
        self._figures = figures
        #: the largest batch that its workers' regions hold
        self.region_batch = batch.sizes[-1]
        #: the weights that its workers answer by; their artefact's name holds a digest of them
        self.generation = model.artefact or ""
        self._page_slots = page_slots
        self._reports_fd = reports_fd
        self._extras = extras
        self._environ = environ
        self._counters_fd = counters_fd
        self._frontend_module = frontend_module
        self._program = WorkerProgram.find(settings, model, extras, environ)

    def learn(self, report: WorkerReady, cores: int) -> None:
        """Once a worker of so many cores has found the knee, none that follows looks for it.

        Where the model itself limits its batches, each worker finds that out, and says so.
        """
        self._figures.learn_costs(report.costs_s, cores)
        if self._batch.find_knee and not report.findings.batch_limit:
            self._curves.save(report.costs_s, report.other_load)
            self._batch = BatchSizes(sizes=report.sizes, find_knee=False)

    def start_frontend(self, cell: int, planned: PlannedCell) -> Process:
        """Starts a cell's frontend.

        Raises:
            OSError: no process, memory or descriptor to be had; nothing stays open.
        """
        cells = self._plan.cells
        boot = CellBoot(
            cell=cell,
            cells=len(cells),
            slots=len(planned.workers),
            workers=sum(len(cell.workers) for cell in cells),
            page_slots=self._page_slots,
            region_batch=self.region_batch,
            settings=self._settings,
            model=self._model,
            served=self._served,
            counters_fd=self._counters_fd,
            reports_fd=self._reports_fd,
        )
        return start_frontend(
            boot,
            module=self._frontend_module,
            cpus=planned.frontend_cpus,
            memory_node=planned.workers[0].memory_node,
            environ=self._environ,
        )

    def start_worker(self, cell: int, planned: PlannedWorker) -> StartedWorker:
        """Starts a worker of a cell.

        Raises:
            OSError: no process, memory or descriptor to be had; nothing stays open.
        """
        boot = WorkerBoot(
            worker=planned.id,
            cell=cell,
            cpus=planned.cpus,
            threads=planned.cores,
            signature=self._served.signature,
            region_batch=self.region_batch,
            sizes=self._batch.sizes,
            find_knee=self._batch.find_knee,
            known_s=self._batch.known_s,
            expected_libraries=self._extras.expected_libraries,
            settings=self._settings,
            model=self._model,
        )
        return self._program.launch(boot, planned.env, planned.memory_node).start()
