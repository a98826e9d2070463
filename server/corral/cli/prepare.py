"""``corral prepare``: makes the model's artefact, and measures what a start measures otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from corral.backends.registry import engine
from corral.errors import ConfigError
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Settings
from corral.tuning.prepare import prepare_apart


def run(settings: Settings, _options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    """Prints the artefact's path; returns the exit code."""
    if not engine(settings.engine.backend).computes:
        raise ConfigError("--backend null needs no artefact; there is nothing to prepare")
    pen = plan_for(settings, topology.read_machine()).first_worker
    print(prepare_apart(settings, pen, curves=True).model.artefact)
    return 0
