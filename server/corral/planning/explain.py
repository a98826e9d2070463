"""Why a plan is as it is, in sentences for a person. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from corral.planning.allotment import PlannedNode
from corral.planning.front import MOST_BUSY, RESERVING_CORES, Figures
from corral.planning.machine import Core, CpuKind, Machine
from corral.planning.plan import PlannedCell
from corral.system.cpu_list import format_cpus


def explain(
    machine: Machine,
    *,
    figures: Figures,
    widest: bool,
    one_core: bool,
    by_default: bool,
    shared: bool,
    allowed: Sequence[Core],
    nodes: Sequence[PlannedNode],
    cells: Sequence[PlannedCell],
    idle: Sequence[int],
) -> list[str]:
    """One sentence a choice.

    Args:
        machine: as read.
        figures: what is known of the frontend's cost and the workers' rate.
        widest: whether the mode prefers wide workers.
        one_core: whether workers of one core were measured to be faster.
        by_default: whether the widths were left to the plan.
        shared: whether workers share CPUs.
        allowed: the cores that are allowed, with their allowed CPUs.
        nodes: the nodes within the budget, divided.
        cells: as planned.
        idle: allowed CPUs that nobody uses.
    """
    return [
        *_what_is_allowed(machine, allowed),
        *_budget(machine, allowed, nodes),
        *_what_is_reserved(nodes, cells, figures),
        *_widths(widest, one_core, by_default, shared, figures),
        *_of_nodes(machine, nodes),
        *_cells(cells),
        *_idle(allowed, nodes, idle),
    ]


#: no x86 core of a server or a PC has more, nor has an Arm core
_USUAL_SIBLINGS = 2


def warnings(machine: Machine) -> Iterable[str]:
    """What looks as if the machine did not tell the truth of itself."""
    siblings = machine.most_siblings
    if siblings > _USUAL_SIBLINGS:
        yield (
            f"{siblings} CPUs say that they are one core, and a worker takes one CPU of each core: "
            f"{count(len(machine.cores), 'core')} of {len(machine.online_cpus)} CPUs would work. "
            "Hypervisors say so where the machine's topology is not set; if these are cores, "
            "--siblings-as-cores uses them"
        )


def _what_is_allowed(machine: Machine, allowed: Sequence[Core]) -> Iterable[str]:
    features = f" with {', '.join(machine.features)}" if machine.features else ""
    yield (
        f"The machine is {machine.model_name}{features}: {count(len(machine.packages), 'package')}"
        f", {count(max(1, len(machine.nodes)), 'NUMA node')}, "
        f"{count(len(machine.cores), 'core')}, {count(len(machine.online_cpus), 'CPU')} online."
    )
    if machine.offline_cpus:
        yield f"CPUs {format_cpus(machine.offline_cpus)} are offline."
    limits = []
    if machine.affinity_cpus is not None:
        limits.append(f"the affinity mask is {format_cpus(machine.affinity_cpus)}")
    if machine.cpuset_cpus is not None:
        limits.append(f"the cgroup's cpuset is {format_cpus(machine.cpuset_cpus)}")
    why = " and ".join(limits) or "neither an affinity mask nor a cpuset is known"
    yield (
        f"{len(machine.allowed_cpus)} of {count(len(machine.online_cpus), 'CPU')} may be used: "
        f"{why}."
    )
    if any(len(core.cpus) > 1 for core in allowed):
        yield (
            "A worker takes one CPU of each core, since SMT siblings share the units that "
            "inference keeps busy."
        )


def _budget(
    machine: Machine, allowed: Sequence[Core], nodes: Sequence[PlannedNode]
) -> Iterable[str]:
    if machine.cpu_quota is None:
        return
    planned = sum(len(node.cores) for node in nodes)
    text = (
        f"The cgroup's quota is {machine.cpu_quota:g} CPUs, so at most "
        f"{count(machine.cpu_budget, 'CPU')} may be busy"
    )
    if planned < len(allowed):
        text += (
            f": {planned} of {len(allowed)} cores are planned, packed onto "
            f"{count(len(nodes), 'NUMA node')}"
        )
    yield f"{text}."


def _what_is_reserved(
    nodes: Sequence[PlannedNode], cells: Sequence[PlannedCell], figures: Figures
) -> Iterable[str]:
    used = [node for node in nodes if node.workers]
    large = [node for node in used if len(node.cores) >= RESERVING_CORES]
    small = [node for node in used if len(node.cores) < RESERVING_CORES]
    if figures.images_per_core_s is not None:
        yield (
            f"A request costs the frontend {figures.front_us:,.0f} \N{MICRO SIGN}s of CPU "
            f"({figures.front_source}), and a core of the workers makes "
            f"{figures.images_per_core_s:,.4g} images/s ({figures.images_source})."
        )
        yield from _needed(large, cells, figures)
    elif large:
        kept = sum(len(node.reserved) for node in large)
        yield (
            "How many images a second a core of the workers makes is not known yet: "
            f"{_lower(_nodes(large))} {_keep(large)} one core in 16, at least one, free for "
            f"frontends: {count(kept, 'core')} in all."
        )
    if small:
        yield (
            f"{_nodes(small)} {_have(small)} fewer than 8 usable cores, so none is kept free: the "
            "frontend runs on its workers' CPUs."
        )


def _needed(
    nodes: Sequence[PlannedNode], cells: Sequence[PlannedCell], figures: Figures
) -> Iterable[str]:
    """What the frontends need, a sentence for all nodes that are alike."""
    alike: dict[str, list[PlannedNode]] = {}
    for node in nodes:
        busy = figures.busy_cores(len({core for worker in node.workers for core in worker})) or 0.0
        kept = len(node.reserved)
        if not kept:
            text = (
                f"at the workers' full rate the frontend keeps {busy:.2g} cores busy, so it runs "
                "on its workers' CPUs: a core kept free would take more from them"
            )
        else:
            here = sum(cell.node == node.id for cell in cells)
            text = (
                f"{kept} of {count(len(node.cores), 'core')} kept free for "
                f"{count(here, 'frontend')}, {busy / kept:.0%} busy at the workers' full rate "
                f"({'at most' if busy <= MOST_BUSY * kept else 'more than'} {MOST_BUSY:.0%})"
            )
        alike.setdefault(text, []).append(node)
    for text, same in alike.items():
        yield f"{_nodes(same)}: {text}."


def _widths(
    widest: bool, one_core: bool, by_default: bool, shared: bool, figures: Figures
) -> Iterable[str]:
    if shared:
        yield (
            "There are more workers than cores: they share all of their node's, as --oversubscribe "
            "allows."
        )
    elif by_default and one_core:
        yield (
            "Workers have one core each: measured here, they make "
            f"{figures.one_core_gain or 0:.0%} more images a second than wider ones."
        )
    elif by_default:
        yield (
            "Workers have 2 to 4 cores; of the widths that leave the fewest cores idle, "
            + (
                "rti takes the widest: a lone request is answered soonest."
                if widest
                else "throughput takes the narrowest: threads that seldom wait for one another "
                "answer the most."
            )
        )


def _of_nodes(machine: Machine, nodes: Sequence[PlannedNode]) -> Iterable[str]:
    """A sentence for each node, or for all that are alike."""
    alike: dict[str, list[PlannedNode]] = {}
    for node in nodes:
        alike.setdefault(_of_node(machine, node), []).append(node)
    for text, same in alike.items():
        yield f"{_nodes(same)}: {text}."


def _of_node(machine: Machine, node: PlannedNode) -> str:
    if not node.workers:
        return "no worker, since those that were asked for are elsewhere"
    widths = Counter(len(worker) for worker in node.workers)
    parts = " and ".join(
        f"{count(number, 'worker')} of {count(width, 'core')}"
        for width, number in sorted(widths.items(), reverse=True)
    )
    text = f"{count(len(node.cores), 'usable core')}, {parts}"
    if len({core.l3 for core in node.cores}) > 1:
        text += (
            f"; {count(node.straddling, 'worker')} had to straddle L3 caches"
            if node.straddling
            else "; no worker straddles two L3 caches"
        )
    if len({core.kind for core in machine.cores}) > 1:
        kinds = Counter(worker[0].kind for worker in node.workers)
        split = " and ".join(
            f"{count(kinds[kind], 'worker')} on {kind.label} cores"
            for kind in CpuKind
            if kinds[kind]
        )
        text += f"; no worker mixes kinds of cores: {split}"
    return text


def _cells(cells: Sequence[PlannedCell]) -> Iterable[str]:
    if len(cells) > 1:
        yield (
            f"There are {len(cells)} cells, each inside one NUMA node; connections are spread "
            "over them, so clients should open several."
        )
    remote = {
        (cell.node, worker.memory_node)
        for cell in cells
        for worker in cell.workers
        if worker.memory_node not in {None, cell.node}
    }
    for node, memory in sorted(remote, key=str):
        yield f"Node {node} has no usable memory: its workers' memory is on node {memory}."


def _idle(
    allowed: Sequence[Core], nodes: Sequence[PlannedNode], idle: Sequence[int]
) -> Iterable[str]:
    if not idle:
        yield "No allowed CPU is idle."
        return
    unused = set(idle)
    planned = {core.cpus for node in nodes for core in node.cores}
    whole = [core for core in allowed if unused.issuperset(core.cpus)]
    beyond = [core for core in whole if core.cpus not in planned]
    spare = [core for core in whole if core.cpus in planned]
    siblings = len(idle) - sum(len(core.cpus) for core in whole)
    parts = []
    if siblings:
        parts.append(f"{count(siblings, 'SMT sibling')} of busy cores")
    if beyond:
        parts.append(f"{count(len(beyond), 'core')} beyond the CPU budget")
    if spare:
        parts.append(f"{count(len(spare), 'core')} that the workers leave over")
    yield f"Idle CPUs: {', '.join(parts)}."


def _nodes(nodes: Sequence[PlannedNode]) -> str:
    name = "Node" if len(nodes) == 1 else "Nodes"
    return f"{name} {format_cpus(node.id for node in nodes)}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _keep(nodes: Sequence[PlannedNode]) -> str:
    return "keeps" if len(nodes) == 1 else "keep"


def _have(nodes: Sequence[PlannedNode]) -> str:
    return "has" if len(nodes) == 1 else "have"


def count(number: int, noun: str) -> str:
    """``1 core``, ``2 cores``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
