"""The numbers that commands take beside the settings: their ranges and units, in one place."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from msgspec import Meta

from corral.cli.parser import read_in_range
from corral.settings.option import Group, Option, option, options_of
from corral.supervisor.tracing import MOST_SECONDS

_DAY_S = 86_400


class CommandNumbers(Group, frozen=True, kw_only=True):
    """A field a number; its default is the option's."""

    TITLE = "numbers of commands"

    interval: Annotated[
        float, Meta(ge=0.1, le=3600), option("between two looks", unit="seconds", metavar="S")
    ] = 1.0
    profile_seconds: Annotated[
        float,
        Meta(gt=0, le=MOST_SECONDS),
        option("of requests, and of the engine", unit="seconds", metavar="S"),
    ] = 5.0
    profile_batch: Annotated[
        int, Meta(ge=1, le=1024), option("of the engine alone", unit="items", metavar="N")
    ] = 1
    rate: Annotated[
        float | None, Meta(gt=0, le=1e9), option("expected", unit="requests a second", metavar="R")
    ] = None
    budget: Annotated[
        float | None, Meta(gt=0, le=_DAY_S), option("for measuring", unit="seconds", metavar="S")
    ] = None
    limit: Annotated[
        int | None, Meta(ge=1, le=2**63 - 1), option("most pictures", unit="pictures", metavar="N")
    ] = None
    repeats: Annotated[
        int, Meta(ge=1, le=10_000), option("turns of every rung", unit="turns", metavar="N")
    ] = 3
    rung_seconds: Annotated[
        float,
        Meta(gt=0, le=_DAY_S),
        option("of each turn and batch size", unit="seconds", metavar="S"),
    ] = 2.0


@functools.cache
def _found() -> dict[str, Option]:
    return {one.field: one for one in options_of("command", CommandNumbers)}


def reading(field: str) -> dict[str, Any]:
    """How argparse takes a number: its type, default and metavar."""
    found = _found()[field]
    return {"type": read_in_range(found), "default": found.fallback, "metavar": found.metavar}
