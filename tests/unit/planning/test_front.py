"""How many cores and cells frontends get, by what a request costs and what the workers make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from corral.planning.front import ASSUMED_FRONT_US, Figures, cores_to_reserve, fronts
from corral.planning.machine import Core, Machine
from corral.planning.placement import PlanRequest, make_plan
from corral.planning.plan import Plan
from corral.planning.topology import read_machine
from corral.settings import Mode

CheckPlan = Callable[[Machine, Plan, PlanRequest], None]

#: images/s of one core, ResNet50 INT8 on OpenVINO: with AMX, and with AVX2
AMX, AVX2 = 197.0, 21.0


def figures(images: float | None, front_us: float = ASSUMED_FRONT_US) -> Figures:
    return Figures(images_per_core_s=images, front_us=front_us)


@pytest.mark.parametrize(
    ("cores", "width", "images", "front_us", "kept"),
    [
        (16, 4, AMX, 746, 3),  # 13 x 197 x 746 us = 1.91 cores, 64 % of three
        (16, 4, AMX, 400, 2),
        (16, 2, AMX, 70, 0),  # 0.22 of a core takes less from workers of two than a core would
        (128, 1, 178, 70, 3),  # 1.57 cores' work would keep two 78 % busy
        (8, 4, AVX2, 746, 0),
        (16, 4, AVX2, 746, 1),  # 0.25 of a core, but every slice stops a worker of four
        (16, 2, AVX2, 746, 0),
        (64, 4, AVX2, 746, 2),
        (256, 1, AVX2, 746, 6),
        (64, 4, 1e9, 1e9, 63),  # as much as the settings take
        (7, 4, AMX, 746, 0),  # few cores: the frontend runs beside the workers
        (2, 2, 5000, 5000, 0),
        (8, 2, 5000, 5000, 7),  # a worker's core is left, whatever the frontend needs
        (8, 4, None, 746, 1),
        (32, 4, None, 746, 2),
    ],
)
def test_cores_kept_free(
    cores: int, width: int, images: float | None, front_us: float, kept: int
) -> None:
    assert cores_to_reserve(cores, width, figures(images, front_us)) == kept


def test_a_frontend_a_kept_core_but_no_more_than_workers() -> None:
    assert fronts(3, 4, figures(AMX)) == 3
    assert fronts(3, 2, figures(AMX)) == 2
    assert fronts(0, 4, figures(AMX)) == 1
    # As long as nothing is known, one frontend has all that is kept free.
    assert fronts(4, 60, figures(None)) == 1


def uniform(cores: int) -> Machine:
    return Machine(cores=tuple(Core(cpus=(n,), package=0, node=0, l3=0) for n in range(cores)))


def plan(cores: int, check: CheckPlan, **wish: Any) -> Plan:
    request = PlanRequest(**wish)
    made = make_plan(uniform(cores), request)
    check(uniform(cores), made, request)
    return made


def test_a_node_with_amx_has_three_frontends_and_says_why(check_plan: CheckPlan) -> None:
    made = plan(16, check_plan, figures=figures(AMX))
    assert [cell.frontend_cpus for cell in made.cells] == [[0], [1], [2]]
    assert sum(worker.cores for cell in made.cells for worker in cell.workers) == 13
    reasons = " ".join(made.reasons)
    assert "746 µs of CPU (assumed until it is measured)" in reasons
    assert "197 images/s" in reasons
    assert "3 of 16 cores kept free for 3 frontends, 64% busy at the workers' full rate" in reasons


def test_no_core_is_taken_that_the_frontend_does_not_need(check_plan: CheckPlan) -> None:
    made = plan(16, check_plan, mode=Mode.THROUGHPUT, figures=figures(AVX2))
    assert sum(worker.cores for cell in made.cells for worker in cell.workers) == 16
    assert made.idle_cpus == []
    assert any("runs on its workers' CPUs: a core kept free" in reason for reason in made.reasons)


def test_what_is_not_known_is_said(check_plan: CheckPlan) -> None:
    (reason,) = [r for r in plan(16, check_plan).reasons if "not known yet" in r]
    assert "node 0 keeps one core in 16, at least one, free for frontends: 1 core in all" in reason


def test_cells_that_were_asked_for_stay(check_plan: CheckPlan) -> None:
    assert len(plan(16, check_plan, figures=figures(AMX), cells=2).cells) == 2
    one = make_plan(uniform(16), PlanRequest(figures=figures(AMX), one_front=True))
    assert [cell.frontend_cpus for cell in one.cells] == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("mode", "gain", "widths"),
    [
        (Mode.THROUGHPUT, 0.05, {1}),
        (Mode.THROUGHPUT, 0.02, {2}),
        (Mode.THROUGHPUT, None, {2}),
        (Mode.RTI, 0.05, {3, 4}),
    ],
)
def test_workers_of_one_core_where_they_were_measured_to_be_faster(
    mode: Mode, gain: float | None, widths: set[int], check_plan: CheckPlan
) -> None:
    known = Figures(images_per_core_s=AVX2, one_core_gain=gain)
    made = plan(16, check_plan, mode=mode, figures=known)
    assert {worker.cores for cell in made.cells for worker in cell.workers} == widths
    said = [reason for reason in made.reasons if "one core each" in reason]
    assert bool(said) is (widths == {1})
    # A width that was asked for is another matter.
    asked = plan(16, check_plan, mode=mode, figures=known, cores_per_worker=4)
    assert {worker.cores for cell in asked.cells for worker in cell.workers} == {4}


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    "known", [figures(AVX2), figures(AMX), figures(400.0, 70), figures(80, 300)]
)
@pytest.mark.parametrize("name", ["48amd64-4pa2n6c-sparse", "20em64t-hybrid-1p6c2t+2ca4co1t"])
def test_recorded_machines(
    name: str,
    known: Figures,
    mode: Mode,
    archive_root: Any,
    check_plan: CheckPlan,
) -> None:
    machine = read_machine(archive_root(name), live=False)
    request = PlanRequest(mode=mode, figures=known)
    check_plan(machine, make_plan(machine, request), request)


def test_an_epyc_with_24_ccxs(composed: Any, check_plan: CheckPlan) -> None:
    """2 packages of 96 cores in 12 CCXs, SMT; 80 images/s a core, as with VNNI."""
    composed.add_machine(
        [Core(cpus=(n, n + 192), package=n // 96, node=n // 96, l3=n // 8) for n in range(192)]
    )
    machine = read_machine(composed.root, live=False)
    request = PlanRequest(mode=Mode.THROUGHPUT, figures=figures(80.0, 300))
    made = make_plan(machine, request)
    check_plan(machine, made, request)
    # 93 x 80 x 300 us = 2.2 cores a node: four, and not the six of one in 16.
    assert [len(cell.frontend_cpus) for cell in made.cells] == [2] * 8
