"""``corral serve``: prepares the model, and serves it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from corral.artifacts.served_model import served_model
from corral.backends.registry import engine
from corral.cli.command_line import settings_from
from corral.errors import ConfigError
from corral.ipc.messages import ModelBoot
from corral.models import registry
from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.supervisor import app
from corral.supervisor.deployment import DeploymentSpec
from corral.supervisor.deployments import Source
from corral.system import kernel

if TYPE_CHECKING:
    from corral.tuning.select import Selected


def run(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Serves until it is told to end; returns the exit code."""
    kernel.require()
    spec = registry.get(settings.model.name, settings.model.shape)

    def read_again() -> Settings:
        again = settings_from(options, environ)
        name = again.model.name
        same = name == settings.model.name
        if same and (changed := registry.get(name, again.model.shape).changed_from(spec)):
            raise ConfigError(
                f"--model {name}: other than at the start: {', '.join(changed)}; that needs a "
                "restart, and nothing was changed"
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
    if not engine(settings.engine.backend).computes:
        return _prepared(settings, None)
    # What prepares a model is half of all imports; here and below it is not always wanted.
    from corral.tuning.prepare import prepare_apart

    return _prepared(settings, prepare_apart(settings, pen))


async def _prepare_again(settings: Settings, pen: PlannedWorker) -> DeploymentSpec:
    if not engine(settings.engine.backend).computes:
        return _prepared(settings, None)
    from corral.tuning.prepare import prepare_beside

    return _prepared(settings, await prepare_beside(settings, pen))


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
