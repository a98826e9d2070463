"""What gRPC and HTTP ask of the server alike: inferences, pages, a place for a message, a check.

Knows no transport but ASGI's ``scope`` and ``receive``. What it raises is the error tree.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from corral.dataplane.inference import Inference
from corral.errors import QueueFull, RequestError, TooLarge
from corral.frontend.admission import Admission
from corral.frontend.auth import Auth
from corral.frontend.grpc_asgi.body import Receive
from corral.frontend.observer import Observer
from corral.frontend.outgoing import Outgoing
from corral.frontend.pages import Pages, as_dict, filled
from corral.priority import Priority
from corral.protocol.head import Head
from corral.protocol.request import RequestReader
from corral.protocol.response import Answer
from corral.protocol.scattered import Scattered
from corral.telemetry.timeline import Timeline
from corral_protos import open_inference_pb2 as pb

_RETRY_MS = 100
#: what a body that is on its way may hold besides what is counted of it
_UNCOUNTED_BYTES = 24 * 2**10
_TOO_MANY = "as many requests are under way as --max-requests allows"


class ClientLeft(asyncio.CancelledError):
    """The client is gone: its request ends, and nobody is answered."""


class Service:
    """The server as its two protocols see it.

    Args:
        inference: runs inferences.
        reader: reads and checks them.
        pages: answers what is asked about the server itself.
        auth: who may call; None: everybody.
        messages: the calls whose client is to speak.
        outgoing: the long answers that are sent.
        observer: watches requests.
        max_body_bytes: the largest request.
        max_requests: requests under way, besides those whose client is to speak.

    Attributes:
        max_body_bytes: as given.
        infer_pieces: answers a ModelInferRequest in pieces with a ModelInferResponse; see
            Inference.infer_pieces.
        labels: names of the model's classes, by index.
        is_open: whether everybody may call.
        accepted: inferences whose message has come and whose answer has not left.
        leaving: whether the server says that it is not ready, for it will end.
        draining: whether the server ends: then answers are waited for until they have left.
        count: inferences since the start.
        under_way: requests of any kind, those of HTTP and those that wait included.
    """

    def __init__(
        self,
        inference: Inference,
        reader: RequestReader,
        pages: Pages,
        *,
        auth: Auth | None,
        messages: Admission,
        outgoing: Outgoing,
        observer: Observer,
        max_body_bytes: int,
        max_requests: int,
    ) -> None:
        self._inference = inference
        self.infer_pieces = inference.infer_pieces
        self._reader = reader
        self.pages = pages
        self._auth = auth
        self.is_open = auth is None
        self.messages = messages
        self.outgoing = outgoing
        self.observer = observer
        self.max_body_bytes = max_body_bytes
        self.labels = inference.labels
        self.accepted = 0
        self.count = 0
        self.leaving = False
        self.draining = False
        self.under_way = 0
        self._methods = pages.methods()
        self._max_requests = max_requests
        self.too_large = f"the request holds more than {max_body_bytes} bytes (--max-message-bytes)"

    # --- the door ---

    def check_room(self) -> None:
        """Refuses a request, which ``under_way`` counts already, where it is one too many.

        Raises:
            QueueFull: there are more than may be.
        """
        most = self._max_requests
        if self.under_way > most and self.under_way - len(self.messages) > most:
            raise QueueFull(_TOO_MANY, _RETRY_MS)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """While it lasts, a request that ``under_way`` counts takes no place.

        An open page is one, and a long answer that its client is to take.
        """
        self.under_way -= 1
        try:
            yield
        finally:
            self.under_way += 1

    def set_max_requests(self, most: int) -> None:
        """Another limit holds from now on."""
        self._max_requests = most
        self.messages.set_most(most)

    def authorize(self, scope: dict[str, Any]) -> Priority:
        """Lets a request pass; returns the priority that it has at most.

        Raises:
            Unauthenticated: without valid credentials.
            PermissionDenied: its client is known, and not allowed.
        """
        return Priority.INTERACTIVE if self._auth is None else self._auth.check(scope)

    def turn_away(self, deadline_s: float | None) -> None:
        """Asked before an inference's message is received; see Inference.turn_away."""
        self.count += 1
        self._inference.turn_away(deadline_s)

    def refuse_too_large(self) -> TooLarge:
        """Counts an inference whose message is too large; the error that answers it."""
        error = TooLarge(self.too_large)
        self._inference.refuse(error)
        return error

    def refused(self, error: RequestError) -> None:
        """Counts an inference that was refused before it was admitted, by what reads HTTP."""
        self._inference.refuse(error)

    # --- inferences ---

    def read_head(self, request: pb.ModelInferRequest) -> Head:
        """Reads and checks a request that holds no tensor; the result may be kept.

        Raises:
            RequestError: with a sentence that says what to change.
        """
        return self._reader.read_head(request)

    @property
    def several_inputs(self) -> bool:
        """Whether the model has more than one input."""
        return self._reader.several_inputs

    @property
    def without_labels(self) -> str:
        """Why the model has no labels for a picture; empty where it has."""
        return self._reader.without_labels

    async def infer(
        self,
        head: Head,
        raws: Sequence[bytes | bytearray | memoryview | Scattered],
        deadline_s: float | None,
        at_most: Priority,
        timeline: Timeline | None = None,
    ) -> Answer:
        """Answers a request whose head was read.

        Args:
            head: the request's.
            raws: the tensors as ``raw_input_contents`` holds them, kept until it is answered; those
                in shared memory are not among them.
            deadline_s: on the monotonic clock; None for never.
            at_most: the priority that it has at most, see ``authorize``.
            timeline: where its moments are noted, if anybody watches.

        Raises:
            RequestError: the answer is an error.
        """
        self.accepted += 1
        try:
            return await self._inference.infer_parsed(
                head, list(map(_in_place, raws)), deadline_s, at_most, timeline
            )
        finally:
            self.accepted -= 1

    async def receive_body(
        self, scope: dict[str, Any], receive: Receive, length: int | None, most_bytes: int
    ) -> list[bytes]:
        """The body of an HTTP request, in as many pieces as it came; none where it is empty.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            length: the body's, where its head says so.
            most_bytes: what it may hold.

        Raises:
            TooLarge: it holds more, or says so.
            QueueFull: too many come at once, or this one too slowly.
            Unavailable: the server stops.
            ClientLeft: the client has.
        """
        too_large = f"the body holds more than {most_bytes} bytes"
        if most_bytes == self.max_body_bytes:
            too_large += " (--max-message-bytes)"
        if length is not None and length > most_bytes:
            raise TooLarge(too_large)

        pieces: list[bytes] = []
        have = came = 0
        more = True
        with self.messages.turn(scope, inference=True) as turn:
            while more:
                event = await receive()
                if piece := event.get("body"):
                    came += len(piece)
                    pieces.append(piece)
                elif event["type"] != "http.request":
                    raise ClientLeft
                more = event.get("more_body", False)
                # HTTP/1.1 brings pieces of 8 KiB, and counting one costs as much as taking it.
                if more and came < _UNCOUNTED_BYTES:
                    continue
                have += came
                if have > most_bytes:
                    raise TooLarge(too_large)
                if more and (room := turn.grow(came)) is not None:
                    await room
                came = 0
        return pieces

    # --- pages ---

    @property
    def ready(self) -> bool:
        """Whether inferences are answered now."""
        return self._inference.serves and not self.leaving

    def page(self, method: str, **fields: object) -> dict[str, Any]:
        """What the method of that name answers, as plain values.

        Args:
            method: a method of GRPCInferenceService about the server itself.
            fields: the fields of its request.

        Raises:
            RequestError: the answer is an error.
        """
        kind, page = self._methods[method]
        return as_dict(page(filled(kind, fields)))


def _in_place(raw: bytes | bytearray | memoryview | Scattered) -> memoryview | Scattered:
    return raw if isinstance(raw, Scattered) else memoryview(raw)
