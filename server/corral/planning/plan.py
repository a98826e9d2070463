"""The plan: which CPUs every process of corral gets, and why."""

from __future__ import annotations

import msgspec


class PlannedWorker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's pen."""

    id: int
    #: logical CPUs it may run on, sorted
    cpus: list[int]
    #: physical cores, which is also its thread count
    cores: int
    #: NUMA node its memory is bound to; None where the machine shows no nodes
    memory_node: int | None
    #: environment the plan settles (threads, OMP_*, KMP_*); the allocator's part is added at spawn
    env: dict[str, str]


class PlannedCell(msgspec.Struct, frozen=True, kw_only=True):
    """A frontend and the workers it feeds, inside one NUMA node."""

    node: int
    frontend_cpus: list[int]
    workers: list[PlannedWorker]


class MachineSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine has, allowed or not (online CPUs)."""

    packages: int
    nodes: int
    cores: int
    cpus: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What `corral plan --json` prints."""

    mode: str
    machine: MachineSummary
    allowed_cpus: list[int]
    cpu_budget: int
    cells: list[PlannedCell]
    idle_cpus: list[int]
    reasons: list[str]
    #: what is odd about the machine, for the operator
    warnings: list[str]

    @property
    def first_worker(self) -> PlannedWorker:
        """The worker whose CPUs are used to prepare and to measure: every plan has one."""
        return self.cells[0].workers[0]
