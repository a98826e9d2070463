"""What the REST form needs of the frontend that it is a part of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from corral.errors import RequestError
from corral.frontend.outgoing import Outgoing
from corral.priority import Priority
from corral.protocol.head import Head
from corral.protocol.response import Answer
from corral.protocol.scattered import Scattered
from corral.telemetry.timeline import Timeline
from corral_protos import open_inference_pb2 as pb

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Body = bytes | bytearray | memoryview


class Follower(Protocol):
    """The events that one page is sent; each whole."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Itself."""

    def close(self) -> None:
        """Gives its place up; may be called again."""


class Feed(Protocol):
    """What the console shows, as it changes."""

    def follow(self) -> Follower:
        """A place among those who are told; close it. Raises QueueFull: there is none."""


class Service(Protocol):
    """The frontend behind its two forms, gRPC and REST. Its errors are RequestError's."""

    @property
    def max_body_bytes(self) -> int:
        """The largest body of an inference."""

    @property
    def ready(self) -> bool:
        """Whether requests are served."""

    @property
    def several_inputs(self) -> bool:
        """Whether the model has more than one input."""

    @property
    def without_labels(self) -> str:
        """Why the model has no labels for a picture, and what to send; empty where it has."""

    def check_room(self) -> None:
        """Raises QueueFull where more requests are under way than may be."""

    def aside(self) -> AbstractContextManager[None]:
        """While it lasts, the request takes no place of those that ``check_room`` counts."""

    @property
    def outgoing(self) -> Outgoing:
        """The long answers that are sent."""

    def authorize(self, scope: Scope) -> Priority:
        """Raises Unauthenticated or PermissionDenied; the priority that the client has at most."""

    def turn_away(self, deadline_s: float | None) -> None:
        """Raises what would refuse a request now, before its body is received."""

    def refused(self, error: RequestError) -> None:
        """Counts a request that is refused before it can be admitted."""

    async def receive_body(
        self, scope: Scope, receive: Receive, length: int | None, most_bytes: int
    ) -> Sequence[bytes]:
        """The body's pieces, received when there is room; raises TooLarge or QueueFull."""

    def read_head(self, request: pb.ModelInferRequest) -> Head:
        """Compares a request, without its tensor, with the model."""

    async def infer(
        self,
        head: Head,
        raws: Sequence[Body | Scattered],
        deadline_s: float | None,
        at_most: Priority,
        timeline: Timeline | None = None,
    ) -> Answer:
        """Runs it, and notes its moments; ``raws`` are kept until it is answered."""

    def page(self, method: str, **fields: object) -> dict[str, Any]:
        """The answer to one of the protocol's other methods, its fields by their names."""
