"""A generation of workers: all that workers started from now on have in common."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from corral.config import Mode, Settings
from corral.messages import ModelBoot
from corral.plan import Plan
from corral.supervision.nursery import Nursery


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """What a server runs on, until it is reloaded.

    Attributes:
        settings: with the ports settled.
        plan: cells and workers.
        model: as prepared.
        nursery: makes processes of this generation.
        warnings: what of it cannot be had, one sentence each.
    """

    settings: Settings
    plan: Plan
    model: ModelBoot
    nursery: Nursery
    warnings: tuple[str, ...] = ()


class Workshop(Protocol):
    """Makes generations. Errors are CorralErrors, meant for the person who asked."""

    def read_again(self) -> Settings:
        """The settings, as configuration file and command line have them now."""

    def in_mode(self, settings: Settings, mode: Mode) -> Settings:
        """The same settings in another mode."""

    async def prepare(self, settings: Settings) -> ModelBoot:
        """Makes the artefact, or finds it in the cache."""

    def make(self, settings: Settings, model: ModelBoot, *, lenient: bool = False) -> Generation:
        """Plans for the CPUs that are allowed now.

        Args:
            settings: with the ports settled.
            model: as prepared.
            lenient: rather than fail, plan without the wished number and width of workers.
        """
