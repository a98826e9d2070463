"""The ``corral`` command: reads argv and the environment, builds the settings, calls a room.

argv and the environment are read here and in the children's entry points, nowhere else.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from corral import config, logs, models, prepare, serve, topology
from corral.artefact import Artefact
from corral.config import BackendName, Mode, Settings
from corral.errors import ConfigError, CorralError
from corral.messages import ModelBoot
from corral.options import ADMIN_COMMANDS, make_parser
from corral.planning import plan_view
from corral.supervision import admin, ports, status_view
from corral.supervision.forge import Source, plan_for

_COMMANDS = ("serve", "plan", "prepare", *ADMIN_COMMANDS)
_NOT_SETTINGS = ("command", "config", "json", "explain", "sysfs")
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
        return _run(options, environ)
    except CorralError as error:
        print(f"corral: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has seen enough; the interpreter's own flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.command in ADMIN_COMMANDS:
        return _ask(options, environ)
    settings = _settings(options, environ)
    if options.command == "plan":
        return _plan(settings, options)
    if options.command == "prepare":
        return _prepare(settings)
    return _serve(settings, options, environ)


def _settings(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    layers: list[dict[str, Any]] = [_environment(environ)]
    if options.config is not None:
        layers.append(config.read_toml(options.config))
    names = config.field_names()
    given = {k: v for k, v in vars(options).items() if k not in _NOT_SETTINGS}
    layers.append({names[name]: value for name, value in given.items()})
    settings = config.build(*layers)
    models.get(settings.model)
    return settings


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    cache = environ.get("CORRAL_CACHE")
    if not cache:
        base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "/tmp")) / ".cache")  # noqa: S108
        cache = str(Path(base) / "corral")
    return {"cache-dir": cache, "offline": environ.get("CORRAL_OFFLINE", "") not in {"", "0"}}


def _plan(settings: Settings, options: argparse.Namespace) -> int:
    if options.sysfs is None:
        machine = topology.read_machine()
    elif options.sysfs.is_dir():
        machine = topology.read_machine(options.sysfs, live=False)
    else:
        raise ConfigError(f"--sysfs {options.sysfs}: no such folder")
    plan = plan_for(settings, machine)
    if options.json:
        print(plan_view.plan_json(plan), flush=True)
    else:
        plan_view.print_plan(plan, machine, options.explain, Console())
    return 0


def _prepare(settings: Settings) -> int:
    if settings.backend is BackendName.NULL:
        raise ConfigError("--backend null needs no artefact; there is nothing to prepare")
    logs.configure(settings, "prepare")
    print(prepare.prepare_here(settings).xml)
    return 0


def _serve(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    logs.configure(settings, "supervisor")
    serve.check_security(settings)
    # Before the model is prepared: nobody should wait minutes to hear that a port is in use.
    plan = plan_for(settings, topology.read_machine())
    ports.claim(settings.host, settings.port, "--port")
    ports.claim(settings.metrics_host, settings.metrics_port, "--metrics-port")
    null = settings.backend is BackendName.NULL
    model = _boot(settings, None if null else prepare.prepare_apart(settings))
    return serve.run(
        settings,
        plan,
        model,
        models.get(settings.model).signature,
        source=Source(read=lambda: _settings(options, environ), prepare=_prepare_again),
        environ=environ,
    )


async def _prepare_again(settings: Settings) -> ModelBoot:
    if settings.backend is BackendName.NULL:
        return _boot(settings, None)
    return _boot(settings, await prepare.prepare_beside(settings))


def _ask(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    path = options.admin_socket or admin.default_path(environ, options.port)
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
        Console().print(status_view.render(reply.status, time.time()))
    return reply.exit_code


def _boot(settings: Settings, artefact: Artefact | None) -> ModelBoot:
    if artefact is None:
        return ModelBoot(
            name=settings.model, artefact=None, precision="fp32", synthetic=True, weights="none"
        )
    return ModelBoot(
        name=settings.model,
        artefact=str(artefact.xml),
        precision=artefact.precision,
        synthetic=artefact.synthetic,
        weights=artefact.weights,
    )
