"""The queue as a frontend's requests to itself see it: they run at once, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from corral.dataplane.dispatcher import Dispatcher
from corral.dataplane.worker_link import Request
from corral.errors import Unavailable

_GIVES_WAY = "clients ask: the server's own requests give way"


class Queue(Protocol):
    """What an inference asks of a dispatcher, whose methods say more."""

    @property
    def verified(self) -> bool:
        """Whether there is a worker that serves."""

    def check_room(self, deadline_s: float | None) -> None:
        """Raises RequestError when no request could be admitted now."""

    def admit(self, request: Request) -> None:
        """Gives a request its place."""

    def enqueue(self, request: Request) -> None:
        """The request's tensor is there."""

    def drop(self, request: Request) -> None:
        """Nobody wants the request any more, or it is answered."""

    def expire(self, request: Request) -> None:
        """The request's deadline has passed."""

    def give_up_waiting(self, request: Request) -> None:
        """The request has waited for as long as it may."""


class InnerQueue:
    """It has no places: a request goes to an idle worker at once, or is refused.

    Args:
        dispatcher: the clients'.
        clients_ask: whether a request of a client is under way.
    """

    def __init__(self, dispatcher: Dispatcher, clients_ask: Callable[[], bool]) -> None:
        self._dispatcher = dispatcher
        self._clients_ask = clients_ask

    @property
    def verified(self) -> bool:
        """As the dispatcher."""
        return self._dispatcher.verified

    def check_room(self, _deadline_s: float | None = None) -> None:
        """Raises Unavailable while a worker, or a client, has something to do."""
        if self._clients_ask() or self._dispatcher.idle_worker is None:
            raise Unavailable(_GIVES_WAY)

    def admit(self, _request: Request) -> None:
        """As ``check_room``."""
        self.check_room()

    def enqueue(self, request: Request) -> None:
        """Runs the request, which has its tensor. Raises as ``check_room``."""
        if self._clients_ask() or not self._dispatcher.run_unasked(request):
            raise Unavailable(_GIVES_WAY)

    def drop(self, request: Request) -> None:
        """Nobody wants what comes back."""
        request.done = True

    def expire(self, request: Request) -> None:
        """The same: its sender ends with it."""
        self.drop(request)

    def give_up_waiting(self, request: Request) -> None:
        """The same."""
        self.drop(request)
