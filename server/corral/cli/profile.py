"""``corral profile``: where the time goes, of a server of its own or of the running one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from corral import logs
from corral.artifacts.figures import FigureCache
from corral.cli import cache_folder
from corral.cli.command_line import given, named
from corral.cli.command_numbers import CommandNumbers
from corral.cli.files import check_apart, check_writable
from corral.cli.interrupting import INTERRUPTED, interrupts
from corral.cli.measured_server import MEASURED, measured
from corral.errors import ConfigError, CorralError, one_line
from corral.planning import topology
from corral.planning.request import plan_for
from corral.profiling import page, view
from corral.profiling.command import ProfileOrder, Profiling
from corral.profiling.compare import compare
from corral.profiling.report import ProfileReport, load
from corral.settings import Settings
from corral.settings import options as settings_options
from corral.settings.files import write_text
from corral.supervisor import admin
from corral.supervisor.child_server import options_of, status_of
from corral.system.terminal import standard_output

#: options of the command that a comparison has no use for
_OWN = ("html", "trace", "live", "config", "batch", "seconds")


def run(
    settings: Settings,
    options: argparse.Namespace,
    environ: Mapping[str, str],
) -> int:
    """Profiles, or compares two profiles; returns the exit code.

    Args:
        settings: of the server.
        options: of the command.
        environ: this process's environment.

    Raises:
        ConfigError: an option or a file is of no use; nothing was measured then.
        CorralError: something cannot be had; what is known was printed.
    """
    _check(options)
    if options.compare is not None:
        return _compare(options)
    logs.configure(settings.logging, "profile")
    if not options.live:
        cache_folder.require(settings, environ)
    machine = topology.read_machine()
    plan = plan_for(settings, machine, FigureCache(settings, machine.model_name).load())
    order = ProfileOrder(
        seconds=options.seconds or CommandNumbers().profile_seconds,
        batch=options.batch or CommandNumbers().profile_batch,
        trace=options.trace,
        socket=_socket(settings, environ) if options.live else None,
        words=tuple(options_of(measured(settings, named(options, environ)))),
    )
    profiling = Profiling(settings, machine, plan, order, _say)
    code = 0
    with interrupts() as signals:
        try:
            profiling.run(environ)
            signals.hold()
        except KeyboardInterrupt:
            signals.hold()
            print("corral: interrupted; this is what is known", file=sys.stderr)
            code = INTERRUPTED
        except CorralError as error:
            signals.hold()
            if profiling.report.engine is not None or profiling.report.budget is not None:
                profiling.note(f"not complete: {one_line(error)}")
                _show(profiling.report, options)
            raise
        _show(profiling.report, options)
    return code


def _say(phase: str) -> None:
    print(f"profile: {phase}", file=sys.stderr, flush=True)


def _check(options: argparse.Namespace) -> None:
    """Everything that can be wrong is, before anything is measured."""
    own = [name for name in _OWN if getattr(options, name)]
    settings = [settings_options()[name] for name in given(options)]
    if options.compare is not None:
        _refuse("--compare", [*own, *(option.name for option in settings)])
    if options.live:
        # The server has its own; what says where it listens and how we log is of use.
        of_server = [option.name for option in settings if option.group in MEASURED]
        _refuse("--live", [*(name for name in own if name == "batch"), *of_server])
    check_apart({"--html": options.html, "--trace": options.trace})
    check_writable(options.html, "--html")
    check_writable(options.trace, "--trace")


def _refuse(what: str, unused: Sequence[str]) -> None:
    if unused:
        raise ConfigError(f"--{unused[0]} is of no use with {what}")


def _socket(settings: Settings, environ: Mapping[str, str]) -> Path:
    path = admin.find_socket(environ, settings.listen.port, settings.listen.admin_socket)
    # It says that there is no server, if there is none.
    status_of(path)
    return path


def _show(report: ProfileReport, options: argparse.Namespace) -> None:
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode(), flush=True)
    else:
        # A file or a pipe has room for all columns.
        console = standard_output(140)
        console.print(view.render(report, console.width))
    # What was measured is printed, even where the disk is full by now.
    if options.html is not None:
        write_text(options.html, "--html", page.render(report))


def _compare(options: argparse.Namespace) -> int:
    before, after = options.compare
    found = compare(load(before), load(after))
    if not found.compared:
        raise ConfigError(f"{before} and {after} have neither operators nor requests in common")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode(), flush=True)
    else:
        standard_output(140).print(view.render_comparison(found, (str(before), str(after))))
    return 0
