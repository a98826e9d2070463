"""A plan on a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import io
import json

from rich.console import Console

from corral.planning.machine import Core, Machine, Node
from corral.planning.placement import PlanRequest, make_plan
from corral.planning.view import plan_json, print_plan

MACHINE = Machine(
    cores=tuple(Core(cpus=(n, n + 16), package=1, node=3, l3=0) for n in range(16)),
    nodes=(Node(id=3, cpus=tuple(range(32)), memory_bytes=2**34),),
    model_name="[red]Quick[/red] 9000",
)


def shown(explain: bool) -> str:
    output = io.StringIO()
    plan = make_plan(MACHINE, PlanRequest())
    print_plan(plan, MACHINE, explain, Console(file=output, width=100))
    return output.getvalue()


def test_the_table_says_who_runs_where() -> None:
    lines = [line.replace(" ", "") for line in shown(explain=False).splitlines()]
    assert "│1│3│0│frontend││0,16││" in lines
    assert "│1│3│0│worker0│3│1-3│node3│" in lines
    assert "│1│3│0│worker3│4│12-15│node3│" in lines
    assert "idleCPUs:17-31" in lines[-1]


def test_reasons_are_told_on_request_and_never_taken_for_markup() -> None:
    assert "Why:" not in shown(explain=False)
    assert "[red]Quick[/red] 9000" in shown(explain=True)


def test_warnings_are_told_without_being_asked_for() -> None:
    odd = dataclasses.replace(MACHINE, cores=(Core(cpus=(0, 1, 2), package=0, node=0, l3=0),))
    output = io.StringIO()
    print_plan(make_plan(odd, PlanRequest()), odd, False, Console(file=output, width=200))
    assert "warning: 3 CPUs say that they are one core" in output.getvalue()


def test_json_has_exactly_the_promised_keys() -> None:
    plan = json.loads(plan_json(make_plan(MACHINE, PlanRequest())))
    assert list(plan) == [
        "mode", "machine", "allowed_cpus", "cpu_budget", "cells", "idle_cpus", "reasons",
        "warnings",
    ]  # fmt: skip
    assert plan["machine"] == {"packages": 1, "nodes": 1, "cores": 16, "cpus": 32}
    assert set(plan["cells"][0]) == {"node", "frontend_cpus", "workers"}
    worker = plan["cells"][0]["workers"][0]
    assert set(worker) == {"id", "cpus", "cores", "memory_node", "env"}
    assert plan["mode"] == "rti"
