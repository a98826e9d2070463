"""``corral doctor``: reads the machine, or a running server's, and prints what slows it down."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from corral.cli.command_line import given
from corral.cli.files import check_writable
from corral.cli.interrupting import INTERRUPTED, interrupts
from corral.doctor import page, view
from corral.doctor.catalog import examine
from corral.doctor.evidence import Evidence
from corral.doctor.finding import Status, exit_code
from corral.doctor.gather import gather
from corral.doctor.layout import Layout, planned, running
from corral.errors import ConfigError, CorralError, one_line
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Settings
from corral.settings.files import write_text
from corral.supervisor import admin
from corral.system.archive import machine_root
from corral.system.terminal import standard_output

#: between the two looks at what moves
_INTERVAL_S = 1.0


def run(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Looks, and prints; returns the exit code.

    Raises:
        ConfigError: there is no such machine, or no place for the page.
    """
    if options.probe and options.sysfs is not None:
        raise ConfigError("--probe measures this machine, and --sysfs names another")
    if options.html is not None:
        check_writable(options.html, "--html")
    with interrupts() as signals:
        if options.sysfs is not None:
            with machine_root(options.sysfs) as root:
                seen, done = _of_another(settings, root), True
        else:
            seen, done = _of_this_machine(settings, options, environ)
        signals.hold()
        report = examine(seen)
        if options.json:
            print(msgspec.json.format(msgspec.json.encode(report)).decode(), flush=True)
        else:
            standard_output().print(view.render(report))
        if options.html is not None:
            write_text(options.html, "--html", page.render(report, seen))
    return exit_code(report.checks, Status(options.fail_on)) if done else INTERRUPTED


def _of_this_machine(
    settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[Evidence, bool]:
    """What is seen, and whether that is all: probes take seconds, and may be interrupted."""
    layout, reason = _running(settings, environ)
    try:
        machine = topology.read_machine(process=layout.supervisor if layout else None)
    except ProcessLookupError:
        layout, reason = None, "the server has ended"
        machine = topology.read_machine()
    if layout is None:
        if reason and _names_a_server(options):
            print(f"corral: {reason}: the plan is looked at", file=sys.stderr)
        layout = planned(plan_for(settings, machine), settings)
    seen = gather(Path("/"), machine, layout, live=True, interval_s=_INTERVAL_S)
    if not options.probe:
        return seen, True
    try:
        # The probes start threads and need numpy and uvloop: only who asks pays for the imports.
        from corral.doctor.probing.run import probe

        return dataclasses.replace(seen, probed=probe(machine, layout)), True
    except KeyboardInterrupt:
        print("corral: interrupted; this is what is known", file=sys.stderr)
        return seen, False


def _of_another(settings: Settings, root: Path) -> Evidence:
    machine = topology.read_machine(root, live=False)
    layout = planned(plan_for(settings, machine), settings)
    return gather(root, machine, layout, live=False)


def _names_a_server(options: argparse.Namespace) -> bool:
    return bool({"port", "admin_socket"} & given(options).keys())


def _running(settings: Settings, environ: Mapping[str, str]) -> tuple[Layout | None, str]:
    """The running server's processes; or None, and why there is nothing to look at."""
    path = admin.find_socket(environ, settings.listen.port, settings.listen.admin_socket)
    try:
        status = admin.ask(path, admin.Request(command="status")).status
    except ConfigError:
        named = settings.listen.admin_socket or f"port {settings.listen.port}"
        return None, f"no server that we may ask is at {named}"
    except CorralError as error:
        return None, one_line(error)
    if status is not None and status.workers and status.cells:
        return running(status), ""
    return None, "the server has no workers yet"
