"""What holds of every plan, on machines of any shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import ConfigError
from corral.planning.front import Figures
from corral.planning.machine import Core, CpuKind, Machine, Node
from corral.planning.placement import PlanRequest, make_plan
from corral.planning.plan import Plan
from corral.settings import Mode

CheckPlan = Callable[[Machine, Plan, PlanRequest], None]


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Packages of nodes of L3s of cores, some hybrid, numbered with holes, partly allowed."""
    threads = draw(st.sampled_from([1, 1, 2]))
    hybrid = draw(st.booleans())
    gap = draw(st.integers(1, 3))
    numbers = itertools.count(draw(st.integers(0, 2)), gap)
    shape = draw(
        st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=4), min_size=1, max_size=5)
    )
    cores: list[Core] = []
    l3 = itertools.count()
    for node, l3_sizes in enumerate(shape):
        for size in l3_sizes:
            shared = next(l3)
            kinds = st.sampled_from(list(CpuKind)) if hybrid else st.just(CpuKind.PERFORMANCE)
            kind = draw(kinds)
            cores.extend(
                Core(
                    cpus=tuple(next(numbers) for _ in range(threads)),
                    package=node // 2,
                    node=node * gap,
                    l3=shared,
                    kind=kind,
                )
                for _ in range(size)
            )
    cpus = [cpu for core in cores for cpu in core.cpus]
    allowed = draw(st.none() | st.sets(st.sampled_from(cpus), min_size=1))
    with_memory = draw(st.sets(st.integers(0, len(shape) - 1)))
    return Machine(
        cores=tuple(cores),
        nodes=tuple(
            Node(
                id=node * gap,
                cpus=tuple(c for core in cores if core.node == node * gap for c in core.cpus),
                memory_bytes=2**30 if node in with_memory or not with_memory else 0,
                distances={i * gap: 10 + 5 * abs(i - node) for i in range(len(shape))},
            )
            for node in range(len(shape))
        ),
        cpuset_cpus=None if allowed is None else tuple(sorted(allowed)),
        cpu_quota=draw(st.none() | st.floats(0.1, 40)),
    )


def free_cores(machine: Machine) -> dict[int, int]:
    """Cores of each node that workers may have, where no quota limits them."""
    allowed = set(machine.allowed_cpus)
    counts: dict[int, int] = {}
    for core in machine.cores:
        if allowed.intersection(core.cpus):
            counts[core.node] = counts.get(core.node, 0) + 1
    return {node: n - (max(1, n // 16) if n >= 8 else 0) for node, n in counts.items()}


FIGURES = st.builds(
    Figures,
    front_us=st.floats(5, 3000),
    images_per_core_s=st.none() | st.floats(0.5, 3000),
    one_core_gain=st.none() | st.floats(-0.3, 0.5),
)


@given(machine=machines(), mode=st.sampled_from(Mode))
@settings(deadline=None, max_examples=150)
def test_by_default_there_is_always_a_plan(
    machine: Machine, mode: Mode, check_plan: CheckPlan
) -> None:
    request = PlanRequest(mode=mode)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    assert plan == make_plan(machine, request)
    core_of = {cpu: core for core in machine.cores for cpu in core.cpus}
    busy = {cpu for cell in plan.cells for worker in cell.workers for cpu in worker.cpus}
    for cell in plan.cells:
        widths = [worker.cores for worker in cell.workers]
        assert max(widths) <= 4
        for worker in cell.workers:
            cores = [core_of[cpu] for cpu in worker.cpus]
            if worker.cores == 1:
                # Only where no two cores of the node are alike.
                alike = [core_of[c].kind for c in busy if core_of[c].node == cell.node]
                assert len(alike) == len(set(alike))
            if len({core.l3 for core in cores}) > 1:
                # Straddles only if each of its cores' L3s had no room for a worker.
                for core in cores:
                    mates = [
                        c for c in busy if (core_of[c].l3, core_of[c].kind) == (core.l3, core.kind)
                    ]
                    assert len(mates) < min(widths) or len(mates) < 2


@given(
    machine=machines(),
    request=st.builds(
        PlanRequest,
        mode=st.sampled_from(Mode),
        workers=st.none() | st.integers(1, 20),
        cores_per_worker=st.none() | st.just("node") | st.integers(1, 9),
        cells=st.none() | st.integers(1, 8),
        oversubscribe=st.booleans(),
        figures=FIGURES,
    ),
)
@settings(deadline=None, max_examples=300)
def test_a_plan_is_as_asked_for_or_refused_in_one_line(
    machine: Machine, request: PlanRequest, check_plan: CheckPlan
) -> None:
    try:
        plan = make_plan(machine, request)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert request.workers or request.cores_per_worker or request.cells
        return
    check_plan(machine, plan, request)


@given(machine=machines(), mode=st.sampled_from(Mode), figures=FIGURES)
@settings(deadline=None, max_examples=300)
def test_frontends_get_what_they_need_and_no_core_more(
    machine: Machine, mode: Mode, figures: Figures, check_plan: CheckPlan
) -> None:
    """The sets are disjoint, inside nodes, and the frontends at most 70 % busy: see check_plan."""
    request = PlanRequest(mode=mode, figures=figures)
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    workers = [worker for cell in plan.cells for worker in cell.workers]
    if request.one_core:
        assert {worker.cores for worker in workers} == {1}
    core_of = {cpu: core for core in machine.cores for cpu in core.cpus}
    for cell in plan.cells:
        assert {core_of[cpu].node for cpu in cell.frontend_cpus} == {cell.node}
    taken = [cpu for cell in plan.cells for cpu in cell.frontend_cpus]
    of_workers = {cpu for worker in workers for cpu in worker.cpus}
    kept = [cpu for cpu in taken if cpu not in of_workers]
    if figures.images_per_core_s is not None:
        # No frontend shares a kept core with another.
        assert len(kept) == len(set(kept))


@given(machine=machines(), workers=st.integers(1, 30))
@settings(deadline=None, max_examples=100)
def test_workers_are_refused_only_when_there_are_more_than_cores(
    machine: Machine, workers: int
) -> None:
    free = sum(free_cores(machine).values()) if machine.cpu_quota is None else None
    try:
        make_plan(machine, PlanRequest(workers=workers))
        fits = True
    except ConfigError:
        fits = False
    if free is not None:
        assert fits == (workers <= free)
    elif workers == 1:
        assert fits


@given(cores=st.integers(1, 70), width=st.integers(1, 12))
def test_as_many_workers_of_a_width_as_fit(cores: int, width: int, check_plan: CheckPlan) -> None:
    machine = Machine(cores=tuple(Core(cpus=(n,), package=0, node=0, l3=0) for n in range(cores)))
    free = free_cores(machine)[0]
    request = PlanRequest(cores_per_worker=width)
    if width > free:
        try:
            make_plan(machine, request)
        except ConfigError as error:
            assert f"{free} available" in str(error)
            return
        raise AssertionError("planned what does not fit")
    plan = make_plan(machine, request)
    check_plan(machine, plan, request)
    assert len(plan.cells[0].workers) == free // width


@given(machine=machines(), cells=st.integers(1, 12), workers=st.integers(1, 24))
@settings(deadline=None, max_examples=100)
def test_cells_are_refused_only_when_nodes_or_workers_forbid(
    machine: Machine, cells: int, workers: int, check_plan: CheckPlan
) -> None:
    base = PlanRequest(workers=workers, oversubscribe=True)
    nodes = len(make_plan(machine, base).cells)
    request = PlanRequest(workers=workers, oversubscribe=True, cells=cells)
    try:
        plan = make_plan(machine, request)
    except ConfigError:
        assert cells < nodes or cells > workers
        return
    assert nodes <= cells <= workers
    check_plan(machine, plan, request)
