"""From a machine and a request to a plan: who gets which CPUs. Pure and deterministic.

Promises: workers' CPUs are disjoint (unless oversubscribed), one logical CPU a physical core,
inside one NUMA node, of one kind, and within what is allowed and the CPU budget.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from corral.errors import ConfigError
from corral.planning import explain as plan_reasons
from corral.planning.allotment import PlannedNode, Wish, allot
from corral.planning.division import group_by_l3
from corral.planning.environment import compute_environment
from corral.planning.front import Figures, cores_to_reserve, fronts
from corral.planning.machine import Core, Machine
from corral.planning.plan import MachineSummary, Plan, PlannedCell, PlannedWorker
from corral.settings import Mode
from corral.system.cpu_list import format_cpus

#: cores of the widest worker by default
_WIDEST = {Mode.RTI: 4, Mode.THROUGHPUT: 2}
#: a gain in images/s that is smaller than this is not worth twice as many workers
_WORTHWHILE = 0.03


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; None leaves it to the mode and the machine. See settings.Settings.

    With ``one_front`` a node has one frontend, whatever it needs.
    """

    mode: Mode = Mode.RTI
    workers: int | None = None
    cores_per_worker: int | Literal["node"] | None = None
    cells: int | None = None
    oversubscribe: bool = False
    siblings_as_cores: bool = False
    figures: Figures = Figures()
    one_front: bool = False

    @property
    def one_core(self) -> bool:
        """Whether workers have one core each, because that was measured to be faster."""
        gain = self.figures.one_core_gain
        return self.mode is Mode.THROUGHPUT and gain is not None and gain >= _WORTHWHILE

    def width(self, cores: int) -> int:
        """Cores of the widest worker on a node of ``cores``, as far as one can tell before."""
        if self.cores_per_worker == "node":
            return cores
        if self.cores_per_worker is not None:
            return self.cores_per_worker
        if self.workers is not None:
            return max(1, cores // self.workers)
        return 1 if self.one_core else min(cores, _WIDEST[self.mode])


def make_plan(machine: Machine, request: PlanRequest) -> Plan:
    """Plans cells, workers and CPUs.

    Raises:
        ConfigError: what is asked for does not fit, in one line that says what would.
    """
    machine = machine.with_siblings_as_cores() if request.siblings_as_cores else machine
    allowed = _allowed_cores(machine)
    cores = _within_budget(allowed, machine.cpu_budget)
    nodes = [
        PlannedNode(
            id=node,
            cores=mine,
            reserve=cores_to_reserve(len(mine), request.width(len(mine)), request.figures),
        )
        for node, mine in _by_node(cores).items()
    ]
    widest = request.mode is Mode.RTI
    wish = Wish(
        workers=request.workers,
        cores_per_worker=request.cores_per_worker,
        widest=widest,
        oversubscribe=request.oversubscribe,
        one_core=request.one_core,
    )
    divided, shared = allot(nodes, wish)
    used = [node for node in divided if node.workers]
    cells = _make_cells(machine, request, used, shared)
    idle = sorted(set(machine.allowed_cpus) - _busy_cpus(cells))
    return Plan(
        mode=str(request.mode),
        machine=MachineSummary(
            packages=len(machine.packages),
            nodes=max(1, len(machine.nodes)),
            cores=len(machine.cores),
            cpus=len(machine.online_cpus),
        ),
        allowed_cpus=list(machine.allowed_cpus),
        cpu_budget=machine.cpu_budget,
        cells=cells,
        idle_cpus=idle,
        reasons=plan_reasons.explain(
            machine,
            figures=request.figures,
            widest=widest,
            one_core=request.one_core,
            by_default=request.workers is None and request.cores_per_worker is None,
            shared=shared,
            allowed=allowed,
            nodes=divided,
            cells=cells,
            idle=idle,
        ),
        warnings=list(plan_reasons.warnings(machine)),
    )


def _busy_cpus(cells: Iterable[PlannedCell]) -> set[int]:
    return {
        cpu
        for cell in cells
        for cpus in (cell.frontend_cpus, *(worker.cpus for worker in cell.workers))
        for cpu in cpus
    }


def _allowed_cores(machine: Machine) -> list[Core]:
    """Cores with their allowed CPUs only.

    Raises:
        ConfigError: nothing is allowed.
    """
    allowed = set(machine.allowed_cpus)
    cores = [
        dataclasses.replace(core, cpus=tuple(cpu for cpu in core.cpus if cpu in allowed))
        for core in machine.cores
        if allowed.intersection(core.cpus)
    ]
    if not cores:
        raise ConfigError(
            "no CPU of the affinity mask and the cpuset is online: "
            f"online are {format_cpus(machine.online_cpus)}"
        )
    return cores


def _within_budget(cores: Sequence[Core], budget: int) -> list[Core]:
    """As many cores as the budget allows, packed onto few nodes, and there onto few L3s."""
    if budget >= len(cores):
        return list(cores)
    kept: list[Core] = []
    for node in _pack(list(_by_node(cores).values()), budget):
        groups = group_by_l3(node)
        for kind in sorted({core.kind for core in node}):
            alike = [group for group in groups if group[0].kind == kind]
            for group in _pack(alike, budget - len(kept)):
                kept.extend(group[: budget - len(kept)])
    return sorted(kept, key=lambda core: core.cpus)


def _pack(bins: Sequence[list[Core]], wanted: int) -> list[list[Core]]:
    """The fewest bins that hold that many cores: the largest, and a last one as tight as can be."""
    left = list(bins)
    chosen: list[list[Core]] = []
    while left and wanted > 0:
        fitting = [cores for cores in left if len(cores) >= wanted]
        best = min(fitting, key=len) if fitting else max(left, key=len)
        left.remove(best)
        chosen.append(best)
        wanted -= len(best)
    return chosen


def _by_node(cores: Iterable[Core]) -> dict[int, list[Core]]:
    nodes: dict[int, list[Core]] = {}
    for core in sorted(cores, key=lambda core: (core.node, core.cpus)):
        nodes.setdefault(core.node, []).append(core)
    return nodes


def _pen(worker: Sequence[Core], node: PlannedNode, shared: bool) -> list[int]:
    """A worker's CPUs: its own cores', or all of their kind that the node's workers share.

    Bound to one core each, workers that share would fall behind wherever the frontend or another
    program keeps a core busy; the scheduler spreads them better.
    """
    cores = {*worker}
    if shared:
        cores = {core for mate in node.workers for core in mate if core.kind == worker[0].kind}
    return sorted(core.cpus[0] for core in cores)


def _make_cells(
    machine: Machine, request: PlanRequest, nodes: Sequence[PlannedNode], shared: bool
) -> list[PlannedCell]:
    """Cells inside nodes, the workers numbered through."""
    cells: list[PlannedCell] = []
    first_id = 0
    for node, number in zip(nodes, _cells_by_node(nodes, request), strict=True):
        memory_node = _memory_node(machine, node.id)
        for i, part in enumerate(_split(node.workers, number)):
            workers = [
                PlannedWorker(
                    id=first_id + j,
                    cpus=(cpus := _pen(worker, node, shared)),
                    cores=len(worker),
                    memory_node=memory_node,
                    env=compute_environment(cpus[: len(worker)]),
                )
                for j, worker in enumerate(part)
            ]
            first_id += len(workers)
            cells.append(
                PlannedCell(
                    node=node.id,
                    frontend_cpus=_frontend_cpus(machine, node.reserved, i, number)
                    or sorted({cpu for worker in workers for cpu in worker.cpus}),
                    workers=workers,
                )
            )
    return cells


def _cells_by_node(nodes: Sequence[PlannedNode], request: PlanRequest) -> list[int]:
    """How many cells each node gets: as many as its frontends need, or as were asked for.

    Cells that were asked for go where the most workers share one.

    Raises:
        ConfigError: too few cells for the nodes, or too many for the workers.
    """
    cells = request.cells
    if cells is None and not request.one_front:
        return [fronts(len(n.reserved), len(n.workers), request.figures) for n in nodes]
    counts = [1] * len(nodes)
    if cells is None:
        return counts
    total = sum(len(node.workers) for node in nodes)
    if cells > total:
        raise ConfigError(
            f"--cells {cells}: every cell needs a worker, and the plan has {total}; "
            f"add --workers {cells}, with --oversubscribe if there are fewer cores"
        )
    if cells < len(nodes):
        raise ConfigError(
            f"--cells {cells}: the workers are on {len(nodes)} NUMA nodes, and a cell stays inside "
            f"one; ask for --cells {len(nodes)} or more, or for fewer workers"
        )
    for _ in range(cells - len(nodes)):
        crowded = max(
            (i for i, node in enumerate(nodes) if counts[i] < len(node.workers)),
            key=lambda i: (len(nodes[i].workers) / counts[i], -i),
        )
        counts[crowded] += 1
    return counts


def _split(workers: Sequence[tuple[Core, ...]], parts: int) -> list[Sequence[tuple[Core, ...]]]:
    """Neighbours stay together; sizes differ by at most one, the larger first."""
    size, larger = divmod(len(workers), parts)
    ends = [size * (i + 1) + min(i + 1, larger) for i in range(parts)]
    return [workers[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _frontend_cpus(machine: Machine, reserved: Sequence[Core], cell: int, cells: int) -> list[int]:
    """The reserved cores' CPUs that one of a node's cells gets; cells share when cores are few."""
    if len(reserved) >= cells:
        mine = list(reserved[cell::cells])
    else:
        mine = [reserved[cell % len(reserved)]] if reserved else []
    # A quota counts every CPU; without one, a frontend gains from both threads of its core.
    return sorted(
        cpu for core in mine for cpu in (core.cpus if machine.cpu_quota is None else core.cpus[:1])
    )


def _memory_node(machine: Machine, node: int) -> int | None:
    """The node itself, or the nearest whose memory may be used if it has none."""
    allowed = machine.allowed_memory_nodes
    usable = [n for n in machine.nodes if allowed is None or n.id in allowed]
    # Where no sizes are shown, every node counts as having memory.
    usable = [n for n in usable if n.memory_bytes] or usable
    distances = next((n.distances for n in machine.nodes if n.id == node), {})
    by_distance = sorted(usable, key=lambda n: (n.id != node, distances.get(n.id, 255), n.id))
    return by_distance[0].id if by_distance else None
