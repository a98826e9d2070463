"""A generation of workers: all that workers started from now on have in common."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import msgspec

from corral.ipc.messages import ModelBoot
from corral.launch.factory import Nursery
from corral.planning.plan import Plan
from corral.settings import Mode, Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """Settings, and the model that was prepared for them.

    Attributes:
        asked: as they were written: backend and precision may be auto.
        settings: the same with backend and precision settled; what children get.
        model: as prepared.
    """

    asked: Settings
    settings: Settings
    model: ModelBoot

    def replace(self, **fields: Any) -> Prepared:
        """The same model with other settings, which it does not depend on."""
        return Prepared(
            asked=msgspec.structs.replace(self.asked, **fields),
            settings=msgspec.structs.replace(self.settings, **fields),
            model=self.model,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """What a server runs on, until it is reloaded.

    Attributes:
        prepared: settings, with the ports settled, and model.
        plan: cells and workers.
        nursery: makes processes of this generation.
        warnings: what of it cannot be had, one sentence each.
    """

    prepared: Prepared
    plan: Plan
    nursery: Nursery
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """What children get."""
        return self.prepared.settings

    @property
    def model(self) -> ModelBoot:
        """As prepared."""
        return self.prepared.model


class Workshop(Protocol):
    """Makes generations. Errors are CorralErrors, meant for the person who asked."""

    def read_again(self) -> Settings:
        """The settings, as configuration file and command line have them now."""

    async def in_mode(self, now: Prepared, mode: Mode) -> Prepared:
        """The same in another mode; where a search settles engine or precision, by that mode's."""

    async def prepare(self, asked: Settings) -> Prepared:
        """Settles engine and precision, and makes the artefact or finds it in the cache.

        The plan is looked at first: nobody should wait for a model to hear that it does not fit.
        """

    def make(self, prepared: Prepared, *, lenient: bool = False) -> Generation:
        """Plans for the CPUs that are allowed now.

        Args:
            prepared: with the ports settled.
            lenient: rather than fail, plan without the wished number and width of workers.
        """
