"""A deployment of workers: all that workers started from now on have in common."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from corral.ipc.messages import ModelBoot
from corral.launch.factory import ChildFactory
from corral.launch.spinning import SpinnerBoot
from corral.planning.plan import Plan
from corral.settings import Mode, Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentSpec:
    """Settings, and the model that was prepared for them.

    Attributes:
        asked: as they were written: backend and precision may be auto.
        settings: the same with backend and precision settled; what children get.
        model: as prepared.
    """

    asked: Settings
    settings: Settings
    model: ModelBoot

    def replace(self, **fields: Any) -> DeploymentSpec:
        """The same model with other settings, which it does not depend on."""
        return DeploymentSpec(
            asked=self.asked.replace(**fields),
            settings=self.settings.replace(**fields),
            model=self.model,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Deployment:
    """What a server runs on, until it is reloaded.

    Attributes:
        prepared: settings, with the ports settled, and model.
        plan: cells and workers.
        factory: makes processes of this deployment.
        warnings: what of it cannot be had, one sentence each.
        spinner: what keeps its CPUs from halting; None: nothing does.
    """

    prepared: DeploymentSpec
    plan: Plan
    factory: ChildFactory
    warnings: tuple[str, ...] = ()
    spinner: SpinnerBoot | None = None

    @property
    def settings(self) -> Settings:
        """What children get."""
        return self.prepared.settings

    @property
    def model(self) -> ModelBoot:
        """As prepared."""
        return self.prepared.model


class DeploymentBuilder(Protocol):
    """Makes deployments. Errors are CorralErrors, meant for the person who asked."""

    def read_again(self) -> Settings:
        """The settings, as configuration file and command line have them now."""

    async def in_mode(self, now: DeploymentSpec, mode: Mode) -> DeploymentSpec:
        """The same in another mode; where a search settles engine or precision, by that mode's."""

    async def prepare(self, asked: Settings) -> DeploymentSpec:
        """Settles engine and precision, and makes the artefact or finds it in the cache.

        The plan is looked at first: nobody should wait for a model to hear that it does not fit.
        """

    def make(self, prepared: DeploymentSpec, *, lenient: bool = False) -> Deployment:
        """Plans for the CPUs that are allowed now.

        Args:
            prepared: with the ports settled.
            lenient: rather than fail, plan without the wished number and width of workers.
        """
