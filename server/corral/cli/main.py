"""The ``corral`` command: reads argv and the environment, builds the settings, calls a room.

argv and the environment are read here and in the children's entry points, nowhere else.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from corral import logs
from corral import settings as config
from corral.artifacts.figures import FigureCache
from corral.artifacts.served_model import served_model
from corral.backends.registry import engine
from corral.cli import cache_folder, doctor, evaluate, profile, top, tune
from corral.cli.options import ADMIN_COMMANDS, make_parser
from corral.errors import ConfigError, CorralError, one_line
from corral.ipc.messages import ModelBoot
from corral.lab import overflow, raw_engine
from corral.lab.ladder import command as ladder
from corral.lab.ladder.command import LadderOptions
from corral.models import registry
from corral.planning import topology, view
from corral.planning.plan import PlannedWorker
from corral.planning.request import plan_for
from corral.settings import Mode, Settings
from corral.supervisor import admin, app, views
from corral.supervisor.deployment import DeploymentSpec
from corral.supervisor.deployments import Source
from corral.system import folders, kernel
from corral.system.archive import machine_root
from corral.tuning import prepare
from corral.tuning.select import Selected

logger = logging.getLogger(__name__)

_COMMANDS = (
    *("serve", "plan", "doctor", "profile", "prepare", "ladder", "lab", "tune", "evaluate"),
    *ADMIN_COMMANDS,
)
_NOT_SETTINGS = (
    "command",
    "experiment",
    "config",
    "json",
    "explain",
    "sysfs",
    "repeats",
    "seconds",
    "rungs",
    "out",
    "every",
    "dry_run",
    "html",
    "probe",
    "fail_on",
    "source",
    "limit",
    "live",
    "batch",
    "trace",
    "compare",
    "rate",
    "arrivals",
    "budget_s",
    "exhaustive",
)
_INTERRUPTED = 130
#: of a turn of the ladder: a day
_MOST_SECONDS = 86_400


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
        return _run(options, environ)
    except CorralError as error:
        print(f"corral: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has seen enough; the interpreter's own flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.command == "top":
        return top.run(options, environ)
    if options.command in ADMIN_COMMANDS:
        return _ask(options, environ)
    settings = _settings(options, environ)
    commands: dict[str, Callable[[], int]] = {
        "plan": lambda: _plan(settings, options),
        "doctor": lambda: doctor.run(settings, options, environ),
        "profile": lambda: profile.run(
            settings, options, _given(options), environ, lambda: _check_cache(settings, environ)
        ),
        "prepare": lambda: _prepare(settings),
        "lab": lambda: _lab(settings, options, environ),
        "evaluate": lambda: evaluate.run(settings, options, environ),
        "tune": lambda: tune.run(settings, options, _named(options, environ), environ),
        "serve": lambda: _serve(settings, options, environ),
    }
    if options.command not in {"plan", "doctor", "profile"}:
        logs.configure(
            settings.logging, "supervisor" if options.command == "serve" else options.command
        )
        _check_cache(settings, environ)
    return commands[options.command]()


def settings_of(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings that a command line asks for.

    Raises:
        ConfigError: they contradict one another, or what is there.
        ModelError: the model's file cannot be served.
    """
    return _settings(make_parser().parse_args(argv), environ)


def _settings(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    layers = [environment(environ), _from_file(options, environ)]
    names = config.field_names()
    layers.append({names[name]: value for name, value in _given(options).items()})
    settings = config.build(*(_with_homes(layer, environ) for layer in layers))
    spec = registry.get(settings.model.name, settings.model.shape)
    if spec.fixed_batch is None:
        return settings
    if settings.queue.max_batch not in {None, 1}:
        raise ConfigError(
            f"--max-batch {settings.queue.max_batch}: the batch of {spec.file} is fixed, so that "
            "it is served in batches of one; export it with a dynamic first dimension"
        )
    return settings.replace(max_batch=1)


def _from_file(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    if options.config is None:
        return {}
    return config.read_toml(Path(folders.expand(str(options.config), environ)))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings' options that were given."""
    return {k: v for k, v in vars(options).items() if k not in _NOT_SETTINGS}


def _named(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """Option names and values that file or command line name, with homes expanded."""
    names = config.field_names()
    given = {names[name]: value for name, value in _given(options).items()}
    return _with_homes({**_from_file(options, environ), **given}, environ)


def environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment gives: cache folder and offline."""
    cache = cache_folder.find_cache(environ).path
    return {"cache-dir": cache, "offline": environ.get("CORRAL_OFFLINE", "") not in {"", "0"}}


def _with_homes(layer: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """A layer of settings with ``~`` expanded where a path is meant."""
    paths = {option.name for option in config.options().values() if option.path}
    return {
        name: folders.expand(value, environ) if name in paths and isinstance(value, str) else value
        for name, value in layer.items()
    }


def _check_cache(settings: Settings, environ: Mapping[str, str]) -> None:
    """Says what is wrong with a cache folder that nobody has named.

    Raises:
        ConfigError: there is none, and the engine needs one.
    """
    if engine(settings.engine.backend).computes:
        cache_folder.check(settings.model.cache_dir)
    found = cache_folder.find_cache(environ)
    if not found.warning or settings.model.cache_dir != found.path:
        return
    if not found.usable and engine(settings.engine.backend).computes:
        raise ConfigError(found.warning)
    logger.warning("%s", found.warning)


def _plan(settings: Settings, options: argparse.Namespace) -> int:
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
        view.print_plan(plan, machine, options.explain, Console())
    return 0


def _prepare(settings: Settings) -> int:
    if not engine(settings.engine.backend).computes:
        raise ConfigError("--backend null needs no artefact; there is nothing to prepare")
    pen = plan_for(settings, topology.read_machine()).first_worker
    print(prepare.prepare_apart(settings, pen).model.artefact)
    return 0


def _ladder(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.repeats < 1 or not 0 < options.seconds <= _MOST_SECONDS:
        raise ConfigError(f"--repeats: 1 or more; --seconds: more than 0, at most {_MOST_SECONDS}")
    pen = plan_for(settings, topology.read_machine()).first_worker
    chosen = LadderOptions(
        repeats=options.repeats,
        seconds=options.seconds,
        keys=tuple(key for key in options.rungs.split(",") if key),
        out=options.out,
    )
    return ladder.run(settings, chosen, pen, environ)


def _lab(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    match options.experiment:
        case "ladder":
            return _ladder(settings, options, environ)
        case "raw":
            turns_s = map(_seconds, iter(sys.stdin.readline, ""))
            for line in raw_engine.run(settings, environ, turns_s):
                print(line, flush=True)
        case _:
            Console().print(
                overflow.render(settings.model.name, overflow.measure(settings, environ))
            )
    return 0


def _seconds(line: str) -> float:
    try:
        return float(line)
    except ValueError:
        raise ConfigError(f"standard input: {line.strip()!r} is no number of seconds") from None


def _serve(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    kernel.require()
    spec = registry.get(settings.model.name, settings.model.shape)

    def read_again() -> Settings:
        again = _settings(options, environ)
        name = again.model.name
        same = name == settings.model.name
        if same and registry.get(name, again.model.shape).front != spec.front:
            raise ConfigError(
                f"--model {name}: its inputs, preprocessing or labels are not those of the start "
                "any more, which needs a restart; nothing was changed"
            )
        return again

    source = Source(read=read_again, prepare=_prepare_again)
    return app.serve(
        settings,
        served_model(spec, settings.model.served_name),
        _prepare_first,
        source,
        environ=environ,
        is_dry_run=options.dry_run,
    )


def _prepare_first(settings: Settings, pen: PlannedWorker) -> DeploymentSpec:
    null = not engine(settings.engine.backend).computes
    return _prepared(settings, None if null else prepare.prepare_apart(settings, pen))


async def _prepare_again(settings: Settings, pen: PlannedWorker) -> DeploymentSpec:
    if not engine(settings.engine.backend).computes:
        return _prepared(settings, None)
    return _prepared(settings, await prepare.prepare_beside(settings, pen))


def _ask(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    path = options.admin_socket and Path(folders.expand(str(options.admin_socket), environ))
    path = path or admin.find_socket(environ, options.port)
    mode = Mode(options.mode) if options.mode else None
    reply = admin.ask(path, admin.Request(command=options.command, mode=mode))
    if reply.status is None:
        if reply.exit_code:
            print(f"corral: {reply.text}", file=sys.stderr)
        else:
            print(reply.text)
    elif options.json:
        print(msgspec.json.format(msgspec.json.encode(reply.status)).decode())
    else:
        Console().print(views.render_status(reply.status, time.time()))
    return reply.exit_code


def _prepared(asked: Settings, selected: Selected | None) -> DeploymentSpec:
    """What serves; without a selection, the null backend."""
    if selected is None:
        model = ModelBoot(
            name=asked.model.served_name or registry.get(asked.model.name, asked.model.shape).name,
            artefact=None,
            precision="fp32",
            synthetic=True,
            weights="none",
        )
        return DeploymentSpec(asked=asked, settings=asked, model=model)
    settings = asked.replace(backend=selected.backend, precision=selected.precision)
    name = asked.model.served_name or selected.model.name
    model = msgspec.structs.replace(selected.model, name=name)
    return DeploymentSpec(asked=asked, settings=settings, model=model)
