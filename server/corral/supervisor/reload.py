"""Replacing the workers of a running server: new settings, new weights, another mode, other CPUs.

Everything that can go wrong is tried before the first worker is touched: the settings are read,
the artefact is made, the plan fits. If the new workers do not start all the same, the old
deployment comes back, one worker at a time like the new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from corral.errors import ConfigError, StartError
from corral.ipc.messages import Reconfigure
from corral.ipc.status import State
from corral.launch.factory import ChildFactory
from corral.planning.plan import PlannedWorker
from corral.settings import Mode, Settings, field_names, live_names
from corral.supervisor import frontend_link
from corral.supervisor.children import Fleet
from corral.supervisor.deployment import Deployment, DeploymentBuilder, DeploymentSpec
from corral.supervisor.lifecycle import Backoff, Life
from corral.supervisor.rollout import Done, Member, Renew, Retire, Spare, next_step
from corral.supervisor.slots import WorkerSlot
from corral.system import procfs

logger = logging.getLogger(__name__)

#: flat names of what may differ between two deployments; anything else needs a restart
LIVE = live_names()
#: for frontends to go by new settings
_TAKEN_S = 3.0
#: processes of a new deployment that may die before they are ready, a slot
_MAX_EARLY_DEATHS = 3


def refuse_fixed(now: Settings, wanted: Settings) -> None:
    """Looks whether a server can go from one set of settings to another while it runs.

    Raises:
        ConfigError: it cannot; the sentence names every setting in the way.
    """
    names = field_names()
    fixed = [
        f"--{names[field]}"
        for field in names
        if field not in LIVE and now.value(field) != wanted.value(field)
    ]
    if fixed:
        raise ConfigError(
            f"{', '.join(fixed)} cannot change while the server runs: restart it for that; "
            "nothing was changed"
        )


class _NotStarting(Exception):
    """Workers of the new deployment do not get ready."""


class Reloader:
    """Takes a server from one deployment to the next; one at a time.

    Args:
        fleet: the children.
        builder: makes deployments.
        deployment: the first.
        on_change: called when another deployment holds.
    """

    def __init__(
        self,
        fleet: Fleet,
        builder: DeploymentBuilder,
        deployment: Deployment,
        on_change: Callable[[Deployment], None],
    ) -> None:
        self._fleet = fleet
        self._builder = builder
        self._on_change = on_change
        self._news = asyncio.Event()
        self._failure: str | None = None
        #: of the Reconfigure that was sent last
        self._number = 0
        #: workers replaced or started, of the reload under way
        self._replaced = 0
        self._target: ChildFactory | None = None
        self.deployment = deployment

    # --- what is asked for ---

    async def reload(self) -> str:
        """Reads the settings, prepares the model and replaces all workers.

        Returns:
            a sentence for whoever asked.

        Raises:
            CorralError: why not; the server runs on as before.
        """
        asked = self._builder.read_again()
        refuse_fixed(self.deployment.prepared.asked, asked)
        return await self._change(await self._builder.prepare(asked))

    async def switch(self, mode: Mode) -> str:
        """Switches the mode; see ``reload``."""
        return await self._change(await self._builder.in_mode(self.deployment.prepared, mode))

    async def replan(self) -> str:
        """Plans anew for the CPUs that are allowed now; see ``reload``."""
        now = self.deployment
        new = self._builder.make(now.prepared, lenient=True)
        if new.plan.cells == now.plan.cells:
            return "the plan stays as it is"
        return await self._apply(new)

    async def _change(self, new: DeploymentSpec) -> str:
        changed = _differences(self.deployment.prepared, new)
        done = await self._apply(self._builder.make(new))
        return f"{done}; changed: {', '.join(changed)}" if changed else done

    # --- what the supervisor tells ---

    def news(self) -> None:
        """A worker's state may have changed."""
        self._news.set()

    def worker_failed(self, slot: WorkerSlot, message: str) -> None:
        """A worker said that it cannot start."""
        if slot.factory is self._target:
            self._failure = message

    # --- the roll ---

    async def _apply(self, new: Deployment) -> str:
        old = self.deployment
        began_s = asyncio.get_running_loop().time()
        try:
            await self._roll(new, patient=False)
        except _NotStarting as error:
            logger.error("the new workers do not start, the old ones come back: %s", error)  # noqa: TRY400
            await self._roll(old, patient=True)
            raise StartError(
                f"the new workers do not start, nothing was changed: {error}"
            ) from None
        self.deployment = new
        self._fleet.use(new.factory, new.settings.lifecycle.boot_timeout_s)
        await self._reconfigure(new)
        self._on_change(new)
        took_s = asyncio.get_running_loop().time() - began_s
        count = "1 worker" if self._replaced == 1 else f"{self._replaced} workers"
        return f"{count} replaced in {took_s:.1f} s"

    async def _reconfigure(self, new: Deployment) -> None:
        """Tells the frontends, and returns when all that live go by it.

        Who is told that the settings hold asks at once for what the old ones would refuse.
        """
        self._number += 1
        for frontend in self._fleet.frontends:
            planned = new.plan.cells[frontend.cell]
            if planned.frontend_cpus != frontend.planned.frontend_cpus and frontend.process:
                procfs.move(frontend.process.pid, planned.frontend_cpus)
            frontend.planned = planned
            frontend_link.tell(
                frontend,
                Reconfigure(
                    number=self._number,
                    settings=new.settings,
                    model=new.model,
                    slots=len(planned.workers),
                    workers=sum(len(cell.workers) for cell in new.plan.cells),
                    region_batch=new.factory.region_batch,
                ),
            )
        told = [(frontend, frontend.process) for frontend in self._fleet.frontends]
        try:
            async with asyncio.timeout(_TAKEN_S):
                # One that comes back in between starts with them.
                while any(
                    process is not None
                    and frontend.process is process
                    and frontend.reconfigured != self._number
                    for frontend, process in told
                ):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            logger.warning("a frontend has not taken the new settings after %g s", _TAKEN_S)

    async def _roll(self, target: Deployment, *, patient: bool) -> None:
        """Makes ``target`` what all workers are.

        Args:
            target: the deployment.
            patient: go on whatever happens, because there is nothing to go back to.

        Raises:
            _NotStarting: its workers do not get ready.
        """
        self._target, self._failure, self._replaced = target.factory, None, 0
        wanted = self._match(target)
        try:
            while True:
                if not patient and (reason := self._why_not()):
                    raise _NotStarting(reason)
                self._news.clear()
                match next_step(self._members(wanted)):
                    case Renew(key):
                        self._replaced += 1
                        self._fleet.replace(self._fleet.worker(key), target.factory, wanted[key])
                    case Retire(key):
                        self._fleet.retire(self._fleet.worker(key))
                    case Spare(cell):
                        self._add(target, cell, self._free_id(wanted), None)
                    case Done():
                        return
                    case _:
                        await self._news.wait()
        finally:
            self._target = None

    def _match(self, target: Deployment) -> dict[int, PlannedWorker]:
        """Every worker that shall be there, by id; starts those whose slot does not exist yet.

        A slot keeps its id and its place in the cell, and with them its counters.
        """
        wanted: dict[int, PlannedWorker] = {}
        missing: list[tuple[int, PlannedWorker]] = []
        for cell, planned in enumerate(target.plan.cells):
            slots = sorted(
                (w for w in self._fleet.workers if w.cell == cell), key=lambda w: w.planned.id
            )
            for slot, worker in zip(slots, planned.workers, strict=False):
                wanted[slot.planned.id] = msgspec.structs.replace(worker, id=slot.planned.id)
            missing += [(cell, worker) for worker in planned.workers[len(slots) :]]
        for cell, worker in missing:
            key = self._free_id(wanted)
            wanted[key] = msgspec.structs.replace(worker, id=key)
            self._replaced += 1
            self._add(target, cell, key, wanted[key])
        return wanted

    def _add(self, target: Deployment, cell: int, key: int, planned: PlannedWorker | None) -> None:
        """Starts a worker in a slot of its own; a spare lives in the pen of the first."""
        backoff = Backoff(
            target.settings.lifecycle.restart_backoff_s,
            target.settings.lifecycle.restart_backoff_max_s,
        )
        if planned is None:
            planned = msgspec.structs.replace(target.plan.cells[cell].workers[0], id=key)
        taken = {worker.index for worker in self._fleet.workers if worker.cell == cell}
        index = _first_free(taken)
        self._fleet.add(WorkerSlot(Life(backoff), cell, index, planned, target.factory))

    def _free_id(self, wanted: Iterable[int]) -> int:
        return _first_free({*wanted, *(worker.planned.id for worker in self._fleet.workers)})

    def _members(self, wanted: dict[int, PlannedWorker]) -> list[Member]:
        return [
            Member(
                key=worker.planned.id,
                cell=worker.cell,
                wanted=worker.planned.id in wanted,
                current=worker.factory is self._target,
                serving=worker.life.state is State.VERIFIED,
                leaving=worker.leaving,
            )
            for worker in self._fleet.workers
        ]

    def _why_not(self) -> str | None:
        """Why the new deployment will never be ready, if that is so."""
        if self._failure:
            return self._failure
        for worker in self._fleet.workers:
            if worker.factory is self._target and worker.life.early_deaths >= _MAX_EARLY_DEATHS:
                return worker.end_reason
        return None


def _first_free(taken: set[int]) -> int:
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _differences(old: DeploymentSpec, new: DeploymentSpec) -> list[str]:
    """What is new, in a person's words: "mode rti → throughput"."""
    was, now = old.settings, new.settings
    found = [
        f"{name} {_text(was.value(field))} → {_text(now.value(field))}"
        for field, name in field_names().items()
        if was.value(field) != now.value(field)
    ]
    if (old.model.artefact, old.model.weights) != (new.model.artefact, new.model.weights):
        found.append("model artefact")
    return found


def _text(value: object) -> str:
    return "default" if value is None else str(value)
