"""The ``corral`` command: reads argv and the environment, builds the settings, calls a room.

argv and the environment are read here and in the children's entry points, nowhere else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from corral import config, logs, models, placement, prepare, search_view, serve, topology
from corral.config import BackendName, Settings
from corral.errors import ConfigError, CorralError
from corral.ladder import command as ladder
from corral.ladder.command import LadderOptions
from corral.messages import ModelBoot
from corral.options import make_parser
from corral.plan import Plan
from corral.planning import plan_view
from corral.supervision import ports

_COMMANDS = ("serve", "plan", "prepare", "ladder", "tune")
_NOT_SETTINGS = (
    "command",
    "config",
    "json",
    "explain",
    "sysfs",
    "repeats",
    "seconds",
    "rungs",
    "out",
    "every",
)
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the command; ends the process with the exit code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv, os.environ))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs one command; returns its exit code."""
    words = list(argv)
    if not words or (words[0] not in _COMMANDS and words[0] not in {"-h", "--help", "--version"}):
        words.insert(0, "serve")
    options = make_parser().parse_args(words)
    try:
        settings = _settings(options, environ)
        return _run(settings, options, environ)
    except CorralError as error:
        print(f"corral: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has seen enough; the interpreter's own flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.command == "plan":
        return _plan(settings, options)
    if options.command == "prepare":
        return _prepare(settings, environ)
    if options.command == "ladder":
        return _ladder(settings, options, environ)
    if options.command == "tune":
        return _tune(settings, every=options.every)
    return _serve(settings, environ)


def _settings(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    layers: list[dict[str, Any]] = [environment(environ)]
    if options.config is not None:
        layers.append(config.read_toml(options.config))
    names = config.field_names()
    given = {k: v for k, v in vars(options).items() if k not in _NOT_SETTINGS}
    layers.append({names[name]: value for name, value in given.items()})
    settings = config.build(*layers)
    models.get(settings.model)
    return settings


def environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment gives: cache folder and offline."""
    cache = environ.get("CORRAL_CACHE")
    if not cache:
        base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "/tmp")) / ".cache")  # noqa: S108
        cache = str(Path(base) / "corral")
    return {"cache-dir": cache, "offline": environ.get("CORRAL_OFFLINE", "") not in {"", "0"}}


def _make_plan(settings: Settings, machine: topology.Machine) -> Plan:
    return placement.make_plan(
        machine,
        placement.PlanRequest(
            mode=settings.mode,
            workers=settings.workers,
            cores_per_worker=settings.cores_per_worker,
            cells=settings.cells,
            oversubscribe=settings.oversubscribe,
            backend=settings.backend,
        ),
    )


def _plan(settings: Settings, options: argparse.Namespace) -> int:
    if options.sysfs is None:
        machine = topology.read_machine()
    elif options.sysfs.is_dir():
        machine = topology.read_machine(options.sysfs, live=False)
    else:
        raise ConfigError(f"--sysfs {options.sysfs}: no such folder")
    plan = _make_plan(settings, machine)
    if options.json:
        print(plan_view.plan_json(plan), flush=True)
    else:
        plan_view.print_plan(plan, machine, options.explain, Console())
    return 0


def _prepare(settings: Settings, environ: Mapping[str, str]) -> int:
    if settings.backend is BackendName.NULL:
        raise ConfigError("--backend null needs no artefact; there is nothing to prepare")
    logs.configure(settings, "prepare")
    pen = _make_plan(settings, topology.read_machine()).cells[0].workers[0]
    print(prepare.prepare_here(settings, pen, environ).model.artefact)
    return 0


def _ladder(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.repeats < 1 or options.seconds <= 0:
        raise ConfigError("--repeats and --seconds: more than nothing")
    logs.configure(settings, "ladder")
    pen = _make_plan(settings, topology.read_machine()).cells[0].workers[0]
    chosen = LadderOptions(
        repeats=options.repeats,
        seconds=options.seconds,
        keys=tuple(key for key in options.rungs.split(",") if key),
        out=options.out,
    )
    return ladder.run(settings, chosen, pen, environ)


def _tune(settings: Settings, *, every: bool) -> int:
    if settings.backend is BackendName.NULL:
        raise ConfigError("--backend null computes nothing; there is nothing to measure")
    logs.configure(settings, "tune")
    pen = _make_plan(settings, topology.read_machine()).cells[0].workers[0]
    selected = prepare.prepare_apart(settings, pen, again=True, every=every)
    if selected.search is None:
        print(f"{selected.backend.value} {selected.precision.value}: nothing to choose from")
    else:
        Console().print(search_view.render(selected.search, settings))
    return 0


def _serve(settings: Settings, environ: Mapping[str, str]) -> int:
    logs.configure(settings, "supervisor")
    # Before the model is prepared: nobody should wait minutes to hear that a port is in use.
    plan = _make_plan(settings, topology.read_machine())
    ports.claim(settings.host, settings.port, "--port")
    ports.claim(settings.metrics_host, settings.metrics_port, "--metrics-port")
    if settings.backend is BackendName.NULL:
        model = ModelBoot(
            name=settings.model, artefact=None, precision="fp32", synthetic=True, weights="none"
        )
    else:
        selected = prepare.prepare_apart(settings, plan.cells[0].workers[0])
        settings = msgspec.structs.replace(
            settings, backend=selected.backend, precision=selected.precision
        )
        model = selected.model
        # The environment of the workers depends on the engine.
        plan = _make_plan(settings, topology.read_machine())
    return serve.run(settings, plan, model, models.get(settings.model).signature, environ=environ)
