"""Made-up machines in a folder: every shape that the archives do not have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.errors import ConfigError
from corral.planning.machine import Core, CpuKind, Machine
from corral.planning.placement import PlanRequest, make_plan
from corral.planning.plan import Plan
from corral.planning.topology import read_machine
from corral.settings import Mode

CheckPlan = Callable[[Machine, Plan, PlanRequest], None]


def xeon() -> list[Core]:
    """2 x 56 cores with SMT; SNC4 makes four nodes of a package, whose L3 spans all four."""
    return [Core(cpus=(n, n + 112), package=n // 56, node=n // 14, l3=n // 56) for n in range(112)]


def epyc() -> list[Core]:
    """2 packages of one node each, 12 CCXs of 8 cores a package, SMT."""
    return [Core(cpus=(n, n + 192), package=n // 96, node=n // 96, l3=n // 8) for n in range(192)]


@pytest.fixture(scope="module")
def epyc_machine(tmp_path_factory: pytest.TempPathFactory, compose: Any) -> Machine:
    composed = compose(tmp_path_factory.mktemp("epyc"))
    composed.add_machine(epyc())
    return read_machine(composed.root, live=False)


def single_node(cores: int) -> list[Core]:
    return [Core(cpus=(n,), package=0, node=0, l3=0) for n in range(cores)]


def plan_of(composed: Any, check_plan: CheckPlan, **wish: Any) -> tuple[Machine, Plan]:
    machine, request = read_machine(composed.root, live=False), PlanRequest(**wish)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    return machine, plan


def widths(plan: Plan) -> list[list[int]]:
    return [[worker.cores for worker in cell.workers] for cell in plan.cells]


def test_two_packages_with_smt_and_snc4(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_machine(xeon())
    machine, plan = plan_of(composed, check_plan)
    assert machine.packages == (0, 1)
    assert len(machine.nodes) == 8
    assert len(plan.allowed_cpus) == 224
    # 14 cores a node: one is the frontend's with both its threads, 13 are 3 + 3 + 3 + 4.
    assert plan.cells[1].frontend_cpus == [14, 126]
    assert widths(plan) == [[3, 3, 3, 4]] * 8
    _, plan = plan_of(composed, check_plan, mode=Mode.THROUGHPUT)
    assert widths(plan) == [[2, 2, 2, 2, 2, 3]] * 8
    _, plan = plan_of(composed, check_plan, cores_per_worker="node")
    assert widths(plan) == [[13]] * 8


@pytest.mark.parametrize("mode", Mode)
def test_a_ccx_is_not_split(mode: Mode, epyc_machine: Machine, check_plan: CheckPlan) -> None:
    machine, request = epyc_machine, PlanRequest(mode=mode)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    assert len(machine.l3_groups) == 24
    l3_of = {cpu: core.l3 for core in machine.cores for cpu in core.cpus}
    for cell in plan.cells:
        assert len(cell.frontend_cpus) == 2 * 6
        assert sum(worker.cores for worker in cell.workers) == 90
        for worker in cell.workers:
            assert len({l3_of[cpu] for cpu in worker.cpus}) == 1


def test_as_many_workers_as_ccxs_get_one_each(epyc_machine: Machine, check_plan: CheckPlan) -> None:
    machine, request = epyc_machine, PlanRequest(workers=24)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    l3_of = {cpu: core.l3 for core in machine.cores for cpu in core.cpus}
    homes = [{l3_of[cpu] for cpu in w.cpus} for cell in plan.cells for w in cell.workers]
    assert all(len(home) == 1 for home in homes)
    assert {home.pop() for home in homes} == set(range(24))
    assert {width for cell in widths(plan) for width in cell} == {7, 8}


def test_an_l3_is_straddled_where_it_cannot_be_helped(
    epyc_machine: Machine, check_plan: CheckPlan
) -> None:
    # One core of each CCX is all that the container gets.
    machine = dataclasses.replace(epyc_machine, cpuset_cpus=(0, 8, 16, 24))
    plan = make_plan(machine, PlanRequest())
    check_plan(machine, plan, PlanRequest())
    assert widths(plan) == [[4]]
    assert any("straddle L3 caches" in reason for reason in plan.reasons)


def test_a_container_with_holes_in_its_cpuset(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_machine(xeon())
    composed.add_cgroup2("/pod", {"cpuset.cpus.effective": "1-3,5,16-18,20-24,60,128-131"})
    composed.write(
        "proc/self/status", "Cpus_allowed:\tffffffff,ffffffff,ffffffff,ffffffff,ffffffff"
    )
    machine, plan = plan_of(composed, check_plan)
    assert machine.affinity_cpus == tuple(range(160))
    assert plan.allowed_cpus == [1, 2, 3, 5, *range(16, 19), *range(20, 25), 60, *range(128, 132)]
    by_node = {cell.node: [worker.cpus for worker in cell.workers] for cell in plan.cells}
    # 128 is core 16's second thread, and 131 stands alone for core 19.
    assert by_node == {
        0: [[1, 2, 3, 5]],
        1: [[17, 18, 20, 21], [22, 23, 24, 131]],
        4: [[60]],
    }
    assert plan.cells[1].frontend_cpus == [16, 128]


def test_a_quota_of_two_and_a_half_cpus(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_machine(single_node(16))
    composed.add_cgroup2("/pod/box", {"cpu.max": "max 100000"})
    composed.write("sys/fs/cgroup/pod/cpu.max", "250000 100000")
    machine, plan = plan_of(composed, check_plan)
    assert machine.cpu_quota == 2.5
    assert plan.cpu_budget == 2
    assert len(plan.allowed_cpus) == 16
    assert [worker.cpus for worker in plan.cells[0].workers] == [[0, 1]]
    assert any("quota is 2.5 CPUs" in reason for reason in plan.reasons)
    with pytest.raises(ConfigError, match="3 workers of 1 core asked for, 3 in all, 2 available"):
        make_plan(machine, PlanRequest(workers=3))


@pytest.mark.parametrize(("quota", "cpus"), [(0.5, 1), (12.5, 12), (100.0, 100)])
def test_a_quota_is_packed_onto_few_l3s(
    quota: float, cpus: int, epyc_machine: Machine, check_plan: CheckPlan
) -> None:
    machine = dataclasses.replace(epyc_machine, cpu_quota=quota)
    plan = make_plan(machine, PlanRequest())
    check_plan(machine, plan, PlanRequest())
    assert plan.cpu_budget == cpus
    l3_of = {cpu: core.l3 for core in machine.cores for cpu in core.cpus}
    busy = [c for cell in plan.cells for w in cell.workers for c in [*w.cpus, *cell.frontend_cpus]]
    assert len(set(busy)) == cpus
    assert len({l3_of[cpu] for cpu in busy}) == (cpus + 7) // 8


def test_memory_only_and_memoryless_nodes(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_cores([Core(cpus=(n,), package=0, node=n // 4, l3=n // 4) for n in range(8)])
    composed.add_nodes(
        cpus={0: range(4), 1: range(4, 8), 2: (), 3: ()},
        memory_gib={0: 64, 2: 128, 3: 256},
        distances={0: [10, 21, 17, 28], 1: [21, 10, 28, 17], 2: [17, 28, 10, 28]},
    )
    _, plan = plan_of(composed, check_plan)
    assert plan.machine.nodes == 4
    assert [cell.node for cell in plan.cells] == [0, 1]
    assert [cell.workers[0].memory_node for cell in plan.cells] == [0, 3]
    # Memory that the cpuset does not allow cannot be bound to.
    composed.write("proc/self/status", "Mems_allowed_list:\t0,2")
    plan = make_plan(read_machine(composed.root, live=False), PlanRequest())
    assert [cell.workers[0].memory_node for cell in plan.cells] == [0, 0]
    assert any("memory is on node 0" in reason for reason in plan.reasons)


def test_one_core_nodes_get_one_core_workers(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_machine([Core(cpus=(n,), package=n, node=n, l3=n) for n in range(4)])
    _, plan = plan_of(composed, check_plan)
    assert widths(plan) == [[1]] * 4


def test_a_machine_without_nodes_or_caches(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_cores([Core(cpus=(n,), package=0, node=0, l3=None) for n in range(4)])
    machine, plan = plan_of(composed, check_plan)
    assert not machine.nodes
    assert not machine.l3_groups
    assert plan.machine.nodes == 1
    assert widths(plan) == [[4]]
    assert plan.cells[0].workers[0].memory_node is None


def test_only_cpuinfo_is_there(composed: Any, check_plan: CheckPlan) -> None:
    composed.write(
        "proc/cpuinfo", "processor\t: 0\nflags\t: avx2 fma\n\nprocessor\t: 1\nflags\t: avx2\n"
    )
    machine, plan = plan_of(composed, check_plan)
    assert machine.isa == {"avx2"}
    assert widths(plan) == [[2]]


def test_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CPUs below"):
        read_machine(tmp_path, live=False)


def test_nothing_is_allowed(composed: Any) -> None:
    composed.add_machine(single_node(4))
    composed.write("proc/self/status", "Cpus_allowed_list:\t6-7")
    with pytest.raises(ConfigError, match="online are 0-3"):
        make_plan(read_machine(composed.root, live=False), PlanRequest())


def test_a_copy_without_status_has_no_mask_of_ours(composed: Any) -> None:
    composed.add_machine(single_node(64))
    assert read_machine(composed.root, live=False).affinity_cpus is None


def hybrid(composed: Any) -> None:
    """Two performance cores with SMT, four efficiency cores, two low-power ones without an L3."""
    fast = [Core(cpus=(0, 1), package=0, node=0, l3=0), Core(cpus=(2, 3), package=0, node=0, l3=0)]
    slow = [Core(cpus=(n,), package=0, node=0, l3=0) for n in range(4, 8)]
    slowest = [Core(cpus=(n,), package=0, node=0, l3=None) for n in range(8, 10)]
    composed.add_machine([*fast, *slow, *slowest])


def kinds(machine: Machine) -> list[CpuKind]:
    return [core.kind for core in machine.cores]


THREE_KINDS = [CpuKind.PERFORMANCE] * 2 + [CpuKind.EFFICIENCY] * 4 + [CpuKind.LOW_POWER] * 2


@pytest.mark.parametrize("name", ["cpu_capacity", "cpufreq/cpuinfo_max_freq"])
def test_kinds_by_speed(name: str, composed: Any, check_plan: CheckPlan) -> None:
    hybrid(composed)
    # One performance core is a little faster than the other, as turbo-favoured ones are.
    speeds = [1024, 1024, 980, 980, 600, 600, 600, 600, 300, 300]
    for cpu, speed in enumerate(speeds):
        composed.write(f"sys/devices/system/cpu/cpu{cpu}/{name}", str(speed))
    machine, plan = plan_of(composed, check_plan)
    assert kinds(machine) == THREE_KINDS
    # An efficiency core is kept free: without a low-power one, the other would be idle.
    assert plan.cells[0].frontend_cpus == [4]
    assert [worker.cpus for worker in plan.cells[0].workers] == [[0, 2], [5, 6, 7], [8, 9]]


def test_kinds_by_the_kernels_own_lists(composed: Any) -> None:
    hybrid(composed)
    composed.write("sys/devices/cpu_core/cpus", "0-3")
    composed.write("sys/devices/cpu_atom/cpus", "4-9")
    assert kinds(read_machine(composed.root, live=False)) == THREE_KINDS


def test_cores_alike_are_one_kind(composed: Any) -> None:
    composed.add_machine(single_node(2))
    for cpu, speed in enumerate((3_400_000, 3_700_000)):
        composed.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", str(speed))
    assert kinds(read_machine(composed.root, live=False)) == [CpuKind.PERFORMANCE] * 2


def test_a_virtual_machine_with_an_l3_for_each_cpu(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_machine([Core(cpus=(n,), package=n, node=0, l3=n) for n in range(4)])
    _, plan = plan_of(composed, check_plan, mode=Mode.THROUGHPUT)
    assert widths(plan) == [[2, 2]]


def one_core(cpus: int) -> list[Core]:
    """What some hypervisors show: every CPU is a sibling of every other."""
    return [Core(cpus=tuple(range(cpus)), package=0, node=0, l3=0)]


def test_siblings_beyond_belief_are_a_warning(composed: Any, check_plan: CheckPlan) -> None:
    composed.add_machine(one_core(8))
    _, plan = plan_of(composed, check_plan)
    assert widths(plan) == [[1]]
    [warning] = plan.warnings
    assert warning.startswith("8 CPUs say that they are one core")
    assert "--siblings-as-cores" in warning


def test_siblings_as_cores(composed: Any) -> None:
    composed.add_machine(one_core(8))
    machine = read_machine(composed.root, live=False)
    plan = make_plan(machine, PlanRequest(siblings_as_cores=True))
    assert not plan.warnings
    assert widths(plan) == [[3, 4]]
    workers = [worker for cell in plan.cells for worker in cell.workers]
    used = [*plan.cells[0].frontend_cpus, *(cpu for worker in workers for cpu in worker.cpus)]
    assert sorted(used) == list(range(8))
    assert [worker.env["OMP_NUM_THREADS"] for worker in workers] == ["3", "4"]


def test_two_siblings_a_core_are_no_warning(epyc_machine: Machine) -> None:
    assert not make_plan(epyc_machine, PlanRequest()).warnings
    split = make_plan(epyc_machine, PlanRequest(siblings_as_cores=True))
    assert split.machine.cores == split.machine.cpus == 384
