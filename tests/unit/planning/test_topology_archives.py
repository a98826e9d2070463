"""Real machines, read by us and by hwloc; tests/data/topologies/README.md says whose they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.planning.machine import CpuKind, Machine
from corral.planning.placement import PlanRequest, make_plan
from corral.planning.plan import Plan
from corral.planning.topology import read_machine
from corral.settings import Mode

DATA = Path(__file__).parents[2] / "data" / "topologies"
HWLOC: dict[str, Any] = json.loads((DATA / "hwloc.json").read_text())
CheckPlan = Callable[[Machine, Plan, PlanRequest], None]


@pytest.fixture(scope="session")
def read(archive_root: Callable[[str], Path]) -> Callable[[str], Machine]:
    machines: dict[str, Machine] = {}

    def reader(name: str) -> Machine:
        if name not in machines:
            machines[name] = read_machine(archive_root(name), live=False)
        return machines[name]

    return reader


def describe(machine: Machine) -> dict[str, Any]:
    """The machine in hwloc.json's words."""
    packages: dict[int, list[int]] = defaultdict(list)
    kinds: dict[CpuKind, list[int]] = defaultdict(list)
    for core in machine.cores:
        packages[core.package].extend(core.cpus)
        kinds[core.kind].extend(core.cpus)
    every_node = [node.id for node in machine.nodes]
    allowed_nodes = machine.allowed_memory_nodes
    return {
        "packages": sorted(sorted(cpus) for cpus in packages.values()),
        "nodes": {
            str(node.id): {"cpus": list(node.cpus), "memory_bytes": node.memory_bytes}
            for node in machine.nodes
        },
        "cores": sorted(list(core.cpus) for core in machine.cores),
        "l3_groups": sorted(list(group) for group in machine.l3_groups),
        "online": list(machine.online_cpus),
        "offline": list(machine.offline_cpus),
        "allowed": list(machine.allowed_cpus),
        "allowed_nodes": every_node if allowed_nodes is None else list(allowed_nodes),
        "kinds": [sorted(kinds[kind]) for kind in sorted(kinds)],
    }


def as_ours(reading: dict[str, Any]) -> dict[str, Any]:
    """hwloc's reading; it lists no kinds where it has no frequencies."""
    kinds = reading.pop("kinds_fastest_first")
    return {**reading, "kinds": kinds or [reading["online"]]}


def test_every_archive_was_read_by_hwloc() -> None:
    archives = {path.name.removesuffix(".tar.bz2") for path in DATA.glob("*.tar.bz2")}
    assert set(HWLOC) == archives
    assert len(archives) == 7


@pytest.mark.parametrize("name", HWLOC)
def test_we_read_what_hwloc_reads(name: str, read: Callable[[str], Machine]) -> None:
    assert describe(read(name)) == as_ours(dict(HWLOC[name]))


@pytest.mark.skipif(shutil.which("lstopo-no-graphics") is None, reason="hwloc is not installed")
def test_we_read_of_this_machine_what_hwloc_reads() -> None:
    script = [sys.executable, str(DATA / "read_with_hwloc.py"), "--live"]
    reading = as_ours(json.loads(subprocess.run(script, check=True, stdout=subprocess.PIPE).stdout))
    ours = describe(read_machine())
    for key in ("packages", "nodes", "cores", "l3_groups", "online", "offline"):
        assert ours[key] == reading[key], key


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", HWLOC)
def test_a_plan_for_every_archive(
    name: str, mode: Mode, read: Callable[[str], Machine], check_plan: CheckPlan
) -> None:
    machine, request = read(name), PlanRequest(mode=mode)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    assert all(2 <= worker.cores <= 4 for cell in plan.cells for worker in cell.workers)
    by_cpu = {cpu: core for core in machine.cores for cpu in core.cpus}
    for cell in plan.cells:
        for worker in cell.workers:
            assert len({by_cpu[cpu].l3 for cpu in worker.cpus}) == 1


@pytest.mark.parametrize("name", HWLOC)
@pytest.mark.parametrize(
    "wish", [{"workers": 3}, {"cores_per_worker": 1}, {"cores_per_worker": "node"}], ids=str
)
def test_wishes_on_every_archive(
    name: str, wish: dict[str, Any], read: Callable[[str], Machine], check_plan: CheckPlan
) -> None:
    machine, request = read(name), PlanRequest(**wish)
    check_plan(machine, make_plan(machine, request), request)


def test_offline_cpus_are_not_planned(read: Callable[[str], Machine]) -> None:
    plan = make_plan(read("16em64t-4s2c2t-offlines"), PlanRequest())
    assert not {2, 5, 13, 14}.intersection(plan.allowed_cpus)
    assert [worker.cpus for worker in plan.cells[0].workers] == [[0, 4], [3, 7], [6, 10]]


def test_a_cgroup_mounted_elsewhere_is_found(read: Callable[[str], Machine]) -> None:
    machine = read("32amd64-4s2n4c-cgroup2")
    assert machine.cpuset_cpus == (0, 1, 2, 3, 4, 5)
    plan = make_plan(machine, PlanRequest())
    assert [[worker.cpus for worker in cell.workers] for cell in plan.cells] == [
        [[0, 1, 2, 3]],
        [[4, 5]],
    ]


def test_kinds_of_a_hybrid_are_kept_apart(read: Callable[[str], Machine]) -> None:
    machine = read("20em64t-hybrid-1p6c2t+2ca4co1t")
    kinds = {core.cpus[0]: core.kind for core in machine.cores}
    assert kinds[0] is CpuKind.PERFORMANCE
    assert kinds[12] is CpuKind.EFFICIENCY
    plan = make_plan(machine, PlanRequest())
    # The core that costs inference least is the one kept free.
    assert plan.cells[0].frontend_cpus == [12]
    assert plan.idle_cpus == [1, 3, 5, 7, 9, 11]
    whole = make_plan(machine, PlanRequest(cores_per_worker="node"))
    assert [worker.cpus for worker in whole.cells[0].workers] == [[0, 2, 4, 6, 8, 10]]


def test_numbers_with_holes(read: Callable[[str], Machine]) -> None:
    plan = make_plan(read("48amd64-4pa2n6c-sparse"), PlanRequest(mode=Mode.THROUGHPUT))
    assert [cell.node for cell in plan.cells] == [0, 1, 2, 33, 34, 45, 72, 73]
    assert {worker.cores for cell in plan.cells for worker in cell.workers} == {2}
    assert plan.cells[3].workers[0].memory_node == 33


def test_instruction_sets(read: Callable[[str], Machine]) -> None:
    assert read("20em64t-hybrid-1p6c2t+2ca4co1t").features == ("AVX2", "AVX-VNNI")
    assert read("32intel64-2p8co2t+8ve").features == ("AVX2", "AVX-512")
    assert read("40intel64-2g2n4c+pcilocality").features == ()
    assert "Xeon(R) Silver 4108" in read("32intel64-2p8co2t+8ve").model_name
