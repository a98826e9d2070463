"""Machines to read and plan on: the archives' real ones, and made-up ones of any shape."""

from __future__ import annotations

import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from corral.planning.front import MOST_BUSY
from corral.planning.machine import Core, Machine
from corral.planning.placement import PlanRequest
from corral.planning.plan import Plan
from corral.system.archive import extract
from corral.system.cpu_list import format_cpus

ARCHIVES = Path(__file__).parents[1] / "data" / "topologies"

#: an archive holds thousands of files; these are the ones about CPUs, nodes, and what is allowed
_NAMES = re.compile(
    r"online|present|level|shared_cpu_map|core_id|physical_package_id|thread_siblings|cpumap"
    r"|cpulist|meminfo|distance|cpuinfo_max_freq|base_frequency|cpuinfo|mounts|status|cpufreq"
    r"|scaling_(governor|driver|max_freq)|energy_p\w+|no_turbo|boost|name|latency|disable|osrelease"
    r"|version|cmdline|isolated|enabled|defrag|current_clocksource|numastat|\w*count|stat|numa_node"
    r"|cgroup|cpuset|cpuset\.(cpus|mems)\.effective|cpuset\.effective_(cpus|mems)|cpus|mems"
)


@pytest.fixture(scope="session")
def archive_root(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks an archive of tests/data/topologies once, and gives its root folder."""
    unpacked: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in unpacked:
            folder = tmp_path_factory.mktemp("archive")
            with tarfile.open(ARCHIVES / f"{name}.tar.bz2") as tar:
                named = (m for m in tar if _NAMES.fullmatch(m.name.rpartition("/")[2]))
                extract(tar, (member for member in named if not member.isdir()), folder)
            (unpacked[name],) = folder.iterdir()
        return unpacked[name]

    return unpack


class ComposedRoot:
    """Writes the /sys and /proc of a made-up machine below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._written: dict[str, str] = {}

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        # A machine is written again and again with one file changed.
        if self._written.get(path) == text and target.is_file():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{text}\n")
        self._written[path] = text

    def add_cores(self, cores: Sequence[Core]) -> None:
        """Topology and L3 of every core; ``Core.l3`` is any number that the sharers have."""
        cpus = [cpu for core in cores for cpu in core.cpus]
        self.write("sys/devices/system/cpu/online", format_cpus(cpus))
        self.write("sys/devices/system/cpu/present", format_cpus(cpus))
        sharers: dict[int | None, list[int]] = defaultdict(list)
        for core in cores:
            sharers[core.l3].extend(core.cpus)
        for number, core in enumerate(cores):
            for cpu in core.cpus:
                folder = f"sys/devices/system/cpu/cpu{cpu}"
                self.write(f"{folder}/topology/core_id", str(number))
                self.write(f"{folder}/topology/physical_package_id", str(core.package))
                self.write(f"{folder}/topology/thread_siblings_list", format_cpus(core.cpus))
                self.write(f"{folder}/cache/index0/level", "1")
                self.write(f"{folder}/cache/index0/shared_cpu_list", format_cpus(core.cpus))
                if core.l3 is not None:
                    self.write(f"{folder}/cache/index3/level", "3")
                    shared = format_cpus(sharers[core.l3])
                    self.write(f"{folder}/cache/index3/shared_cpu_list", shared)

    def add_nodes(
        self,
        cpus: Mapping[int, Sequence[int]],
        memory_gib: Mapping[int, int],
        distances: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        for node in cpus:
            folder = f"sys/devices/system/node/node{node}"
            self.write(f"{folder}/cpulist", format_cpus(cpus[node]))
            kib = memory_gib.get(node, 0) * 2**20
            self.write(f"{folder}/meminfo", f"Node {node} MemTotal:       {kib} kB")
            row = (distances or {}).get(node) or [10 if n == node else 20 for n in sorted(cpus)]
            self.write(f"{folder}/distance", " ".join(map(str, row)))

    def add_machine(self, cores: Sequence[Core], memory_gib: int = 64) -> None:
        """Cores, and the nodes that they say they are on."""
        self.add_cores(cores)
        nodes: dict[int, list[int]] = defaultdict(list)
        for core in cores:
            nodes[core.node].extend(core.cpus)
        self.add_nodes(nodes, dict.fromkeys(nodes, memory_gib))

    def add_cgroup2(self, path: str, files: Mapping[str, str]) -> None:
        """Mounts cgroup v2 and puts the process into a group with these files."""
        self.write("proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0")
        self.write("proc/self/cgroup", f"0::{path}")
        for name, text in files.items():
            self.write(f"sys/fs/cgroup{path}/{name}", text)


@pytest.fixture(scope="session")
def compose() -> Callable[[Path], ComposedRoot]:
    """Makes a composed root of a folder."""
    return ComposedRoot


@pytest.fixture
def composed(tmp_path: Path) -> ComposedRoot:
    return ComposedRoot(tmp_path)


def _check_worker_cpus(machine: Machine, plan: Plan, oversubscribed: bool) -> None:
    core_of = {cpu: core for core in machine.cores for cpu in core.cpus}
    allowed = set(plan.allowed_cpus)
    taken: set[int] = set()
    for cell in plan.cells:
        for worker in cell.workers:
            cores = [core_of[cpu] for cpu in worker.cpus]
            assert worker.cpus == sorted(worker.cpus)
            assert len({core.cpus for core in cores}) == len(worker.cpus)
            assert (
                worker.cores <= len(worker.cpus)
                if oversubscribed
                else worker.cores == len(worker.cpus)
            )
            assert {core.node for core in cores} == {cell.node}
            assert len({core.kind for core in cores}) == 1
            for cpu, core in zip(worker.cpus, cores, strict=True):
                assert cpu == min(allowed.intersection(core.cpus))
            assert worker.env["OMP_NUM_THREADS"] == str(worker.cores)
            if not oversubscribed:
                assert not taken.intersection(worker.cpus)
            taken.update(worker.cpus)


def _check_kept(kept: int, usable: int, working: int, request: PlanRequest) -> None:
    """What a node of 8 or more cores keeps free: no more than the frontends need."""
    figures = request.figures
    busy = figures.busy_cores(working)
    if busy is None:
        assert kept == max(1, usable // 16)
    elif kept:
        assert kept < usable
        # Cores that division leaves over make the frontends less busy, never busier.
        assert busy <= MOST_BUSY * kept + 1e-9 or kept == usable - 1
        fewer_busy = figures.busy_cores(usable - kept + 1)
        assert fewer_busy is not None
        assert kept == 1 or fewer_busy > MOST_BUSY * (kept - 1)
    else:
        # On the workers' CPUs it stops at most one worker, for less than a core's worth.
        whole = figures.busy_cores(usable)
        assert whole is not None
        assert whole <= MOST_BUSY
        assert whole * request.width(usable) < 1


def _check_shares(machine: Machine, plan: Plan, request: PlanRequest, limited: bool) -> None:
    """Widths, what is kept free, and the budget."""
    allowed = set(plan.allowed_cpus)
    used = {cpu for cell in plan.cells for worker in cell.workers for cpu in worker.cpus}
    for node in {cell.node for cell in plan.cells}:
        cells = [cell for cell in plan.cells if cell.node == node]
        widths = [worker.cores for cell in cells for worker in cell.workers]
        assert max(widths) - min(widths) <= 1
        mine = [core for core in machine.cores if core.node == node and allowed & set(core.cpus)]
        frontend = {cpu for cell in cells for cpu in cell.frontend_cpus}
        if not limited and len(mine) >= 8:
            kept = [core for core in mine if frontend.intersection(core.cpus)]
            if frontend <= used:
                kept = []
            working = len({cpu for cell in cells for worker in cell.workers for cpu in worker.cpus})
            _check_kept(len(kept), len(mine), working, request)
            assert not any(used.intersection(core.cpus) for core in kept)
            if request.cells is None and request.figures.images_per_core_s is not None:
                workers = sum(len(cell.workers) for cell in cells)
                assert len(cells) == max(1, min(len(kept), workers))
        elif len(mine) < 8:
            for cell in cells:
                assert cell.frontend_cpus == sorted({c for w in cell.workers for c in w.cpus})
    frontend = {cpu for cell in plan.cells for cpu in cell.frontend_cpus}
    assert len(used | frontend) <= plan.cpu_budget
    # Every allowed CPU is a worker's, a frontend's, or idle.
    assert used | frontend | set(plan.idle_cpus) == allowed
    assert not (used | frontend).intersection(plan.idle_cpus)
    assert len(plan.idle_cpus) == len(set(plan.idle_cpus))


def _check_plan(machine: Machine, plan: Plan, request: PlanRequest) -> None:
    workers = [worker for cell in plan.cells for worker in cell.workers]
    assert all(cell.workers for cell in plan.cells)
    assert [worker.id for worker in workers] == list(range(len(workers)))
    assert plan.allowed_cpus == list(machine.allowed_cpus)
    allowed = set(plan.allowed_cpus)
    limited = plan.cpu_budget < sum(bool(allowed & set(core.cpus)) for core in machine.cores)
    _check_worker_cpus(machine, plan, request.oversubscribe)
    _check_shares(machine, plan, request, limited)
    if request.workers is not None:
        assert len(workers) == request.workers
    if isinstance(request.cores_per_worker, int):
        assert {worker.cores for worker in workers} == {request.cores_per_worker}
    if request.cells is not None:
        assert len(plan.cells) == request.cells
    with_memory = {node.id for node in machine.nodes if node.memory_bytes}
    for worker in workers:
        assert worker.memory_node in with_memory or (
            not machine.nodes and worker.memory_node is None
        )
    assert all(reason.endswith(".") for reason in plan.reasons)


@pytest.fixture(scope="session")
def check_plan() -> Callable[[Machine, Plan, PlanRequest], None]:
    """Asserts everything that holds of every plan."""
    return _check_plan
