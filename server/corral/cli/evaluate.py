"""``corral evaluate`` from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from corral.backends.registry import engine
from corral.cli.files import check_writable
from corral.errors import ConfigError
from corral.lab.evaluate import command
from corral.lab.evaluate.command import EvaluateOptions
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Settings


def run(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Evaluates where the first worker would be; returns the exit code.

    Raises:
        ConfigError: the pictures, their labels or the model do not allow it.
        ModelError: nothing could be run.
    """
    if not engine(settings.engine.backend).computes:
        raise ConfigError("--backend null computes nothing; there is nothing to evaluate")
    if options.html is not None:
        check_writable(options.html, "--html")
    pen = plan_for(settings, topology.read_machine()).first_worker
    asked = EvaluateOptions(
        source=options.source, limit=options.limit, json=options.json, html=options.html
    )
    return command.run(settings, asked, pen, environ)
