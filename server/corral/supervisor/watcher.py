"""Whom the fleet and the supervisor tell what happened."""

from __future__ import annotations

from typing import Protocol

from corral.ipc.status import StatusBoard
from corral.supervisor.slots import AnySlot, FrontendSlot, WorkerSlot


class Watcher(Protocol):
    """Says what the life of children means for the server as a whole."""

    def may_restart(self, slot: AnySlot) -> bool:
        """Whether a slot whose process ended is filled again."""

    def not_started(self, slot: AnySlot, error: OSError | None) -> None:
        """A process ended before it was ready, or the machine refused what it is made of."""

    def worker_ready(self, slot: WorkerSlot) -> None:
        """A worker reported."""

    def worker_verified(self) -> None:
        """A batch went through a worker."""

    def frontend_opened(self) -> None:
        """A frontend takes requests from now on."""

    def child_failed(self, slot: AnySlot, message: str) -> None:
        """A child said that it cannot start, and that trying again would not help."""

    def frontend_done(self, frontend: FrontendSlot) -> None:
        """A frontend drained, or died."""

    def changed(self) -> None:
        """Something of the above or anything else happened."""


class Spectator(Protocol):
    """Who shows people what happens."""

    def ready(self, board: StatusBoard) -> None:
        """Requests are taken from now on."""

    def complete(self, board: StatusBoard) -> None:
        """Every worker has reported once, or has had its time."""
