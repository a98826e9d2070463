"""Whom the fleet tells what happened."""

from __future__ import annotations

from typing import Protocol

from corral.supervisor.slots import AnySlot, IngressSlot, WorkerSlot


class Watcher(Protocol):
    """Says what the life of children means for the server as a whole."""

    def may_restart(self, slot: AnySlot) -> bool:
        """Whether a slot whose process ended is filled again."""

    def worker_ready(self, slot: WorkerSlot) -> None:
        """A worker reported."""

    def worker_proven(self, ingress: IngressSlot) -> None:
        """A batch went through a worker of this cell."""

    def child_failed(self, slot: AnySlot, message: str) -> None:
        """A child said that it cannot start, and that trying again would not help."""

    def ingress_done(self, ingress: IngressSlot) -> None:
        """An ingress drained, or died."""

    def changed(self) -> None:
        """Something of the above or anything else happened."""
