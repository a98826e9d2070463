"""``corral plan``: which CPUs every process would get."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from corral.artifacts.figures import FigureCache
from corral.planning import topology, view
from corral.planning.request import plan_for
from corral.settings import Settings
from corral.system.archive import machine_root
from corral.system.terminal import standard_output


def run(settings: Settings, options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    """Prints the plan; returns the exit code."""
    if options.sysfs is None:
        machine = topology.read_machine()
    else:
        with machine_root(options.sysfs) as root:
            machine = topology.read_machine(root, live=False)
    measured = FigureCache(settings, machine.model_name).load()
    plan = plan_for(settings, machine, measured)
    if options.json:
        print(view.plan_json(plan), flush=True)
    else:
        view.print_plan(plan, machine, options.explain, standard_output())
    return 0
