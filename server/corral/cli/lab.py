"""``corral lab``: one thing measured at a time."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from corral.cli.command_line import named
from corral.cli.files import check_writable
from corral.errors import ConfigError, os_reason
from corral.lab import overflow, raw_engine, wakeup
from corral.lab.ladder import command as ladder
from corral.lab.ladder.command import LadderOptions
from corral.lab.ladder.rungs import DECIDED
from corral.models import registry
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Settings
from corral.settings import options as settings_options
from corral.system.terminal import standard_output


def run(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Measures, and prints; returns the exit code."""
    match options.experiment:
        case "ladder":
            return _ladder(settings, options, environ)
        case "raw":
            turns_s = map(_seconds, iter(sys.stdin.readline, ""))
            for line in raw_engine.run(settings, environ, turns_s):
                print(line, flush=True)
        case "wakeup":
            standard_output().print(wakeup.render(wakeup.measure(sorted(os.sched_getaffinity(0)))))
        case _:
            standard_output().print(
                overflow.render(settings.model.name, overflow.measure(settings, environ))
            )
    return 0


def _ladder(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if _is_folder(options.out):
        # Of a user's file the setting is a path.
        name = registry.get(settings.model.name, settings.model.shape).name
        written = (f"ladder-{name}{end}" for end in (".md", ".json"))
        for file in (f".ladder-{os.getpid()}", *written):
            check_writable(options.out / file, "--out")
    pen = plan_for(settings, topology.read_machine()).first_worker
    chosen = LadderOptions(
        repeats=options.repeats,
        seconds=options.seconds,
        keys=options.rungs,
        out=options.out,
        asked=_asked(settings, options, environ),
    )
    return ladder.run(settings, chosen, pen, environ)


def _asked(
    settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]
) -> dict[str, object]:
    """Of the settings that rungs decide, those that command line or file name."""
    given, of = named(options, environ), settings_options()
    return {flat: settings.value(flat) for flat in DECIDED if of[flat].name in given}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise ConfigError(f"--out {path}: {os_reason(error)}") from None


def _seconds(line: str) -> float:
    try:
        return float(line)
    except ValueError:
        raise ConfigError(f"standard input: {line.strip()!r} is no number of seconds") from None
