"""What argv, the environment and a TOML file say, as settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corral import settings as config
from corral.cli import cache_folder
from corral.cli.options import make_parser
from corral.errors import ConfigError
from corral.models import registry
from corral.settings import Settings
from corral.system import folders

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


def settings_of(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings that a command line asks for.

    Raises:
        ConfigError: they contradict one another, or what is there.
        ModelError: the model's file cannot be served.
    """
    return settings_from(make_parser().parse_args(argv), environ)


def settings_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings that a parsed command line asks for; raises as ``settings_of``."""
    layers = [environment(environ), _from_file(options, environ)]
    names = config.field_names()
    layers.append({names[name]: value for name, value in given(options).items()})
    if not any("cache-dir" in layer for layer in layers[1:]):
        cache_folder.check_named(environ)
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


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings' options that were given."""
    return {k: v for k, v in vars(options).items() if k not in _NOT_SETTINGS}


def named(options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """Option names and values that file or command line name, with homes expanded."""
    names = config.field_names()
    asked = {names[name]: value for name, value in given(options).items()}
    return _with_homes({**_from_file(options, environ), **asked}, environ)


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
