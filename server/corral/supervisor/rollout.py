"""The order in which workers are replaced while the server goes on serving. Pure.

One at a time, so that all but one serve; where a cell has only one, a spare comes first. Workers
that the new plan has and the old had not are started before, those it has not are let go at the
end, so between the two plans there are never fewer workers than the old plan had, less one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A worker slot, as far as its replacement is concerned.

    Attributes:
        key: the worker's id.
        cell: whose requests it runs.
        wanted: it is there when all is done.
        current: its process has what the new deployment brings.
        serving: a batch went through its process, which lives.
        leaving: it was told to finish its batch and go.
    """

    key: int
    cell: int
    wanted: bool
    current: bool
    serving: bool
    leaving: bool = False


@dataclasses.dataclass(frozen=True)
class Renew:
    """Let this worker go, and fill its slot with one of the new deployment."""

    key: int


@dataclasses.dataclass(frozen=True)
class Retire:
    """Let this worker go, and its slot with it."""

    key: int


@dataclasses.dataclass(frozen=True)
class Spare:
    """Start another worker of the new deployment in this cell."""

    cell: int


@dataclasses.dataclass(frozen=True)
class Wait:
    """Nothing can be done until something happens."""


@dataclasses.dataclass(frozen=True)
class Done:
    """Every worker that is wanted is new and serves, and there is no other."""


Step = Renew | Retire | Spare | Wait | Done


def next_step(members: Sequence[Member]) -> Step:
    """What to do now; to be asked again after it is done and whenever a worker's state changes."""
    if any(member.leaving or (member.current and not member.serving) for member in members):
        return Wait()
    old = [member for member in members if member.wanted and not member.current]
    # One that does not serve anyway costs nothing.
    for member in sorted(old, key=lambda member: member.serving):
        alone = not any(
            other.serving and other.cell == member.cell and other is not member for other in members
        )
        return Spare(member.cell) if member.serving and alone else Renew(member.key)
    for member in members:
        if not member.wanted:
            return Retire(member.key)
    return Done()
