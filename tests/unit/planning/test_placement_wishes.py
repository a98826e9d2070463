"""What --workers, --cores-per-worker, --cells and --oversubscribe make of a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from corral.errors import ConfigError
from corral.planning.machine import Core, CpuKind, Machine, Node
from corral.planning.placement import PlanRequest, make_plan
from corral.planning.plan import Plan
from corral.settings import Mode

CheckPlan = Callable[[Machine, Plan, PlanRequest], None]


def uniform(nodes: int, cores: int, l3_cores: int | None = None, **fields: Any) -> Machine:
    """Nodes of ``cores`` cores, one CPU each, an L3 a node or for every ``l3_cores``."""
    made = [
        Core(cpus=(n,), package=0, node=n // cores, l3=n // (l3_cores or cores))
        for n in range(nodes * cores)
    ]
    return Machine(
        cores=tuple(made),
        nodes=tuple(
            Node(id=i, cpus=tuple(range(i * cores, (i + 1) * cores)), memory_bytes=1)
            for i in range(nodes)
        ),
        **fields,
    )


def widths(machine: Machine, check: CheckPlan, **wish: Any) -> list[list[int]]:
    request = PlanRequest(**wish)
    plan = make_plan(machine, request)
    check(machine, plan, request)
    return [[worker.cores for worker in cell.workers] for cell in plan.cells]


@pytest.mark.parametrize(
    ("cores", "rti", "throughput"),
    [
        (1, [1], [1]),
        (2, [2], [2]),
        (3, [3], [3]),
        (4, [4], [2, 2]),
        (5, [2, 3], [2, 3]),
        (6, [3, 3], [2, 2, 2]),
        (7, [3, 4], [2, 2, 3]),
        (8, [3, 4], [2, 2, 3]),  # one is kept free
        (9, [4, 4], [2, 2, 2, 2]),
        (32, [3, 3, 4, 4, 4, 4, 4, 4], [2] * 15),
    ],
)
def test_widths_by_default(
    cores: int, rti: list[int], throughput: list[int], check_plan: CheckPlan
) -> None:
    machine = uniform(1, cores)
    assert widths(machine, check_plan) == [rti]
    assert widths(machine, check_plan, mode=Mode.THROUGHPUT) == [throughput]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"workers": 1}, [[6]]),
        ({"workers": 2}, [[6], [6]]),
        ({"workers": 3}, [[3, 3], [6]]),
        ({"workers": 5}, [[2, 2, 2], [3, 3]]),
        ({"workers": 12}, [[1] * 6, [1] * 6]),
        ({"cores_per_worker": 1}, [[1] * 6, [1] * 6]),
        ({"cores_per_worker": 4}, [[4], [4]]),
        ({"cores_per_worker": 6}, [[6], [6]]),
        ({"cores_per_worker": "node"}, [[6], [6]]),
        ({"cores_per_worker": "node", "workers": 1}, [[6]]),
        ({"cores_per_worker": 2, "workers": 3}, [[2, 2], [2]]),
    ],
    ids=str,
)
def test_wishes(wish: dict[str, Any], expected: list[list[int]], check_plan: CheckPlan) -> None:
    assert widths(uniform(2, 6), check_plan, **wish) == expected


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"workers": 13}, "13 workers of 1 core asked for, 13 in all, 12 available"),
        ({"cores_per_worker": 7}, "a worker of 7 cores asked for, 12 available; .* gives it 6"),
        ({"workers": 3, "cores_per_worker": 4}, "3 workers of 4 cores .* too few of them lie"),
        ({"workers": 3, "cores_per_worker": "node"}, "2 NUMA nodes are available"),
        ({"cells": 1}, "on 2 NUMA nodes.* --cells 2 or more"),
        ({"cells": 5}, "the plan has 4; add --workers 5"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said_in_one_line(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        make_plan(uniform(2, 6), PlanRequest(**wish))
    assert "\n" not in str(error.value)


def test_cores_kept_free_are_counted_out() -> None:
    with pytest.raises(ConfigError, match=r"7 available \(1 more are kept free for frontends\)"):
        make_plan(uniform(1, 8), PlanRequest(workers=8))


def test_two_workers_on_two_cores(check_plan: CheckPlan) -> None:
    assert widths(uniform(1, 2), check_plan, workers=2) == [[1, 1]]
    assert widths(uniform(1, 2), check_plan, workers=2, cells=2) == [[1], [1]]


def test_explicit_widths_stay_inside_an_l3_while_they_can(check_plan: CheckPlan) -> None:
    machine = uniform(1, 6, l3_cores=3)
    assert widths(machine, check_plan, cores_per_worker=2) == [[2, 2]]
    # Three are asked for, so one has to straddle.
    assert widths(machine, check_plan, cores_per_worker=2, workers=3) == [[2, 2, 2]]
    # No L3 has room for four.
    assert widths(machine, check_plan, cores_per_worker=4) == [[4]]


def test_few_workers_take_an_l3_each_rather_than_parts_of_two(check_plan: CheckPlan) -> None:
    machine = uniform(1, 7, l3_cores=4)
    assert widths(machine, check_plan, workers=2) == [[4, 3]]
    assert widths(machine, check_plan, workers=1) == [[7]]


def test_workers_of_few_cores_spread_over_the_l3s(check_plan: CheckPlan) -> None:
    machine = uniform(1, 7, l3_cores=4)
    plan = make_plan(machine, PlanRequest(workers=2, cores_per_worker=1))
    homes = [machine.cores[worker.cpus[0]].l3 for worker in plan.cells[0].workers]
    assert sorted(home or 0 for home in homes) == [0, 1]


def test_oversubscribed_workers_share_the_cores_of_their_node(check_plan: CheckPlan) -> None:
    machine, request = uniform(1, 2), PlanRequest(workers=4, cells=2, oversubscribe=True)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    assert [[w.cpus for w in cell.workers] for cell in plan.cells] == [[[0, 1], [0, 1]]] * 2
    assert any("share all" in reason for reason in plan.reasons)


def test_oversubscribed_workers_of_two_cores(check_plan: CheckPlan) -> None:
    assert widths(uniform(2, 2), check_plan, workers=5, cores_per_worker=2, oversubscribe=True) == [
        [2, 2, 2],
        [2, 2],
    ]
    with pytest.raises(ConfigError, match="gives it 2"):
        make_plan(uniform(2, 2), PlanRequest(workers=5, cores_per_worker=3, oversubscribe=True))


def test_oversubscribed_workers_of_a_whole_node_are_alike(check_plan: CheckPlan) -> None:
    slow = Core(cpus=(3,), package=0, node=0, l3=0, kind=CpuKind.EFFICIENCY)
    machine = Machine(cores=(*uniform(1, 3).cores, slow))
    wish = {"workers": 3, "cores_per_worker": "node", "oversubscribe": True}
    assert widths(machine, check_plan, **wish) == [[3, 3, 3]]


def test_oversubscribe_shares_nothing_where_all_fit() -> None:
    apart = make_plan(uniform(1, 4), PlanRequest(workers=2))
    assert make_plan(uniform(1, 4), PlanRequest(workers=2, oversubscribe=True)) == apart


def test_cells_of_a_node_share_what_is_kept_free(check_plan: CheckPlan) -> None:
    machine = uniform(1, 32)
    plan = make_plan(machine, PlanRequest(cells=2))
    check_plan(machine, plan, PlanRequest(cells=2))
    assert [cell.frontend_cpus for cell in plan.cells] == [[0], [1]]
    assert [len(cell.workers) for cell in plan.cells] == [4, 4]
    plan = make_plan(machine, PlanRequest(cells=3))
    assert [cell.frontend_cpus for cell in plan.cells] == [[0], [1], [0]]
    assert [len(cell.workers) for cell in plan.cells] == [3, 3, 2]


def test_one_core_of_each_kind_is_a_worker_each(check_plan: CheckPlan) -> None:
    machine = Machine(
        cores=(
            Core(cpus=(0,), package=0, node=0, l3=0),
            Core(cpus=(1,), package=0, node=0, l3=0, kind=CpuKind.EFFICIENCY),
        )
    )
    assert widths(machine, check_plan) == [[1, 1]]


def test_a_budget_prefers_fast_cores(check_plan: CheckPlan) -> None:
    slow = [Core(cpus=(n,), package=0, node=0, l3=0, kind=CpuKind.EFFICIENCY) for n in range(8)]
    fast = [Core(cpus=(n,), package=0, node=0, l3=0) for n in range(8, 12)]
    machine = Machine(cores=(*slow, *fast), cpu_quota=4.9)
    plan = make_plan(machine, PlanRequest())
    check_plan(machine, plan, PlanRequest())
    assert [worker.cpus for worker in plan.cells[0].workers] == [[8, 9, 10, 11]]


def test_a_large_machine_is_planned_at_once(check_plan: CheckPlan) -> None:
    machine = uniform(1, 384, l3_cores=16)
    # 24 cores are kept free.
    assert sum(widths(machine, check_plan)[0]) == 360
    assert len(widths(machine, check_plan, workers=100)[0]) == 100
