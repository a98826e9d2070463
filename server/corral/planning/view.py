"""A plan as a person reads it, and as a program does."""

from __future__ import annotations

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from corral.planning.explain import count
from corral.planning.machine import Machine
from corral.planning.plan import Plan, PlannedCell
from corral.system.cpu_list import format_cpus


def plan_json(plan: Plan) -> str:
    """The plan as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode()


def print_plan(plan: Plan, machine: Machine, explain: bool, console: Console) -> None:
    """Prints a table of cells and workers, a summary, and with ``explain`` the reasons."""
    package_of = {cpu: core.package for core in machine.cores for cpu in core.cpus}
    table = Table(title=f"Plan for --mode {plan.mode}", title_justify="left")
    for heading in ("package", "node", "cell", "process"):
        table.add_column(heading)
    table.add_column("cores", justify="right")
    table.add_column("CPUs")
    table.add_column("memory")
    for number, cell in enumerate(plan.cells):
        _add_cell(table, number, cell, package_of)
    console.print(table)
    console.print(_summary(plan))
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}."))
    if explain:
        console.print("\nWhy:")
        for reason in plan.reasons:
            bullet = Table.grid(padding=(0, 1))
            bullet.add_row("-", Text(reason))
            console.print(Padding(bullet, (0, 0, 0, 2)))


def _add_cell(table: Table, number: int, cell: PlannedCell, package_of: dict[int, int]) -> None:
    head = [str(package_of[cell.frontend_cpus[0]]), str(cell.node), str(number)]
    workers_cpus = {cpu for worker in cell.workers for cpu in worker.cpus}
    shares = " (shared)" if workers_cpus.intersection(cell.frontend_cpus) else ""
    table.add_row(*head, "frontend", "", format_cpus(cell.frontend_cpus) + shares, "")
    for worker in cell.workers:
        table.add_row(
            str(package_of[worker.cpus[0]]),
            *head[1:],
            f"worker {worker.id}",
            str(worker.cores),
            format_cpus(worker.cpus),
            "-" if worker.memory_node is None else f"node {worker.memory_node}",
        )
    table.add_section()


def _summary(plan: Plan) -> Text:
    workers = [worker for cell in plan.cells for worker in cell.workers]
    threads = sum(worker.cores for worker in workers)
    machine = plan.machine
    counts = [
        count(machine.packages, "package"),
        count(machine.nodes, "NUMA node"),
        count(machine.cores, "core"),
        count(machine.cpus, "CPU"),
    ]
    planned = [
        count(len(plan.cells), "cell"),
        count(len(workers), "worker"),
        count(threads, "thread"),
    ]
    return Text(
        f"machine: {', '.join(counts)}; allowed CPUs: {format_cpus(plan.allowed_cpus)}; "
        f"CPU budget: {plan.cpu_budget}\n"
        f"plan: {', '.join(planned)}; idle CPUs: {format_cpus(plan.idle_cpus) or 'none'}"
    )
