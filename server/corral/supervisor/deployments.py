"""Makes deployments: reads the settings again, plans, finds curves and libraries."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence

from corral.artifacts.curve_cache import CurveCache
from corral.artifacts.figures import FigureCache
from corral.backends.registry import engine
from corral.batching.sizes import batch_sizes
from corral.errors import ConfigError
from corral.ipc.messages import ServedModel
from corral.ipc.region import region_bytes
from corral.launch import spinning
from corral.launch.factory import ChildFactory
from corral.launch.libraries import find_libraries
from corral.launch.region_memory import check_regions, that_fit
from corral.launch.spinning import SpinnerBoot
from corral.launch.worker_runtime import worker_extras
from corral.metrics import counters
from corral.planning.machine import Machine
from corral.planning.plan import Plan, PlannedWorker
from corral.planning.request import plan_for
from corral.settings import Mode, Settings
from corral.supervisor.deployment import Deployment, DeploymentSpec
from corral.system.limits import check_file_size

#: workers that a cell can grow to, at the least, while the server runs
_MIN_SLOTS = 16


def _is_searched(asked: Settings) -> bool:
    """Whether measurements decide on engine or precision."""
    return engine(asked.engine.backend).computes and asked.engine.is_searched


def slots_to_reserve(plan: Plan) -> int:
    """Workers that a cell's counter page has room for: more than there are now, and a spare."""
    largest = max(len(cell.workers) for cell in plan.cells)
    return max(_MIN_SLOTS, 2 * largest, len(plan.allowed_cpus)) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where another deployment's settings and model come from.

    Attributes:
        read: builds the settings anew.
        prepare: settles engine and precision and makes the artefact, in a process of its own;
            candidates are tried where the worker that it is given would be.
    """

    read: Callable[[], Settings]
    prepare: Callable[[Settings, PlannedWorker], Awaitable[DeploymentSpec]]


class Deployments:
    """See deployment.DeploymentBuilder.

    Args:
        settings: of the first deployment, with the ports settled.
        served: the model as frontends serve it.
        source: where to read again; None for a server that cannot be reloaded.
        environ: the supervisor's own environment; children get the harmless part.
        counters_fd: the counter memory.
        page_slots: workers that a page of it has room for.
        reports_fd: where frontends tell of requests that have ended; -1: nobody wants to know.
        cells: number of its pages.
        frontend_module: run as a frontend.
        read_machine: reads the machine, with what of it is allowed now.
    """

    def __init__(
        self,
        settings: Settings,
        served: ServedModel,
        source: Source | None,
        *,
        environ: Mapping[str, str],
        counters_fd: int,
        page_slots: int,
        reports_fd: int = -1,
        cells: int,
        frontend_module: str,
        read_machine: Callable[[], Machine],
    ) -> None:
        self._ports = {name: settings.value(name) for name in ("port", "http_port", "metrics_port")}
        self._served = served
        self._source = source
        self._environ = environ
        self._counters_fd = counters_fd
        self._page_slots = page_slots
        self._reports_fd = reports_fd
        self._cells = cells
        self._frontend_module = frontend_module
        self._read_machine = read_machine
        #: NUMA nodes of the latest plan
        self._nodes: set[int] = set()

    def read_again(self) -> Settings:
        """The settings as they are written now; port 0 means the one there is."""
        settings = self._reloadable().read()
        free = {name: port for name, port in self._ports.items() if not settings.value(name)}
        return settings.replace(**free)

    async def in_mode(self, now: DeploymentSpec, mode: Mode) -> DeploymentSpec:
        """The same in another mode; see DeploymentBuilder."""
        self._reloadable()
        other = now.replace(mode=mode)
        # What is fastest depends on the mode.
        return await self.prepare(other.asked) if _is_searched(other.asked) else other

    async def prepare(self, asked: Settings) -> DeploymentSpec:
        """Settles engine and precision, and makes the artefact; see DeploymentBuilder."""
        source = self._reloadable()
        machine = self._read_machine()
        self._fits(self._plan(asked, asked, machine))
        # Candidates are tried where a worker of the default width would be, as at the start.
        return await source.prepare(asked, plan_for(asked, machine).first_worker)

    def _reloadable(self) -> Source:
        if self._source is None:
            raise ConfigError("this server was started without settings that can be read again")
        return self._source

    def make(self, prepared: DeploymentSpec, *, lenient: bool = False) -> Deployment:
        """Plans for the CPUs that are allowed now; see DeploymentBuilder.

        Raises:
            ConfigError: there is no such plan, or the server cannot change to it while it runs.
        """
        machine = self._read_machine()
        settings = prepared.settings
        warnings = []
        try:
            plan = self._plan(settings, prepared.asked, machine)
            self._fits(plan)
        except ConfigError as error:
            if not lenient:
                raise
            free = settings.replace(workers=None, cores_per_worker=None, cells=self._cells)
            plan = self._plan(free, prepared.asked, machine)
            self._fits(plan)
            warnings.append(f"planned without the wished number and width of workers: {error}")
        return self.first(prepared, plan, machine, warnings)

    def _plan(self, settings: Settings, asked: Settings, machine: Machine) -> Plan:
        """By what is known now; with as many cells as there are, if it is up to the frontends.

        Raises:
            ConfigError: there is no such plan.
        """
        figures = FigureCache(asked, machine.model_name).load()
        plan = plan_for(settings, machine, figures)
        same_nodes = {cell.node for cell in plan.cells} == self._nodes
        if settings.placement.cells is None and same_nodes and len(plan.cells) != self._cells:
            return plan_for(settings.replace(cells=self._cells), machine, figures)
        return plan

    def first(
        self,
        prepared: DeploymentSpec,
        plan: Plan,
        machine: Machine,
        warnings: Sequence[str] = (),
    ) -> Deployment:
        """A deployment by a plan that is there already, for the machine as it was read for it."""
        settings, model = prepared.settings, prepared.model
        self._nodes = {cell.node for cell in plan.cells}
        cores = min(worker.cores for cell in plan.cells for worker in cell.workers)
        workers = sum(len(cell.workers) for cell in plan.cells)
        signature = self._served.signature
        check_regions(settings.model.name, signature, workers, settings.queue.max_batch)
        curves = CurveCache(settings, model, cores, machine.model_name, machine.isa)
        extras = worker_extras(
            settings.placement,
            find_libraries(
                settings.placement.allocator, openmp=engine(settings.engine.backend).obeys_openmp
            ),
        )
        found = [model.guard.sentence()] if model.guard and not model.guard.passed else []
        if model.remark:
            found.append(f"{settings.engine.backend} {model.precision}: {model.remark}")
        if not_spun := spinning.refusal(settings, machine):
            found.append(not_spun)
        factory = ChildFactory(
            settings=settings,
            plan=plan,
            model=model,
            served=self._served,
            batch=that_fit(batch_sizes(settings, curves.load()), signature, workers),
            curves=curves,
            figures=FigureCache(prepared.asked, machine.model_name),
            extras=extras,
            environ=self._environ,
            counters_fd=self._counters_fd,
            page_slots=self._page_slots,
            reports_fd=self._reports_fd,
            frontend_module=self._frontend_module,
        )
        region = region_bytes(signature, factory.region_batch)
        check_file_size(region, f"--max-batch {factory.region_batch}: a worker")
        return Deployment(
            prepared=prepared,
            plan=plan,
            factory=factory,
            warnings=(*plan.warnings, *warnings, *extras.warnings, *found),
            spinner=self._spinner(settings, plan, machine),
        )

    def _spinner(self, settings: Settings, plan: Plan, machine: Machine) -> SpinnerBoot | None:
        wanted = spinning.wants_spinning(settings)
        if not wanted or spinning.refusal(settings, machine):
            return None
        layout = counters.make_layout(self._page_slots)
        return spinning.spinner_boot(settings, plan, layout, self._counters_fd)

    def _fits(self, plan: Plan) -> None:
        if len(plan.cells) != self._cells:
            raise ConfigError(
                f"that would make {len(plan.cells)} cells of {self._cells}, which needs a restart"
            )
        largest = max(len(cell.workers) for cell in plan.cells)
        if largest >= self._page_slots:
            raise ConfigError(
                f"--workers: a cell of this server can grow to {self._page_slots - 1} workers, not "
                f"{largest}; more needs a restart"
            )
