"""The one ASGI application: gRPC calls to one room, every other request to the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from corral.errors import QueueFull
from corral.frontend import health, methods
from corral.frontend.grpc_asgi.application import GrpcApplication, is_grpc
from corral.frontend.grpc_asgi.body import Receive
from corral.frontend.grpc_asgi.call import Call, Send
from corral.frontend.health import Health
from corral.frontend.methods import Methods
from corral.frontend.reflection import Reflection
from corral.frontend.service import Service
from corral.frontend.statuses import to_status

logger = logging.getLogger(__name__)

RestApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

#: Answered without credentials: Kubernetes' and load balancers' probes have none. It says whether
#: the server serves, and nothing else. Its Watch is not among these: a stream costs memory.
OPEN_METHODS = frozenset({health.CHECK})


class Application:
    """Answers every request of a frontend.

    Args:
        service: the server.
        state: its health.
        rest: answers what is not gRPC.
        max_fields_bytes: what a call's fields may hold.
    """

    def __init__(
        self, service: Service, state: Health, rest: RestApp, *, max_fields_bytes: int
    ) -> None:
        self._service = service
        self._rest = rest
        called = Methods(service)
        reflection = Reflection((methods.SERVICE, health.SERVICE), state.ended)
        self._grpc = GrpcApplication(
            {**called.unary(), **state.unary()},
            {**called.streams(), **state.streams(), **reflection.streams()},
            gate=self._gate,
            translate=to_status,
            max_fields_bytes=max_fields_bytes,
        )

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await _refuse_socket(scope, send)
            return
        fields = dict(scope["headers"])
        service = self._service
        service.under_way += 1
        try:
            if is_grpc(fields.get(b"content-type", b"")):
                await self._grpc(scope, fields, receive, send)
            else:
                await self._answer_http(scope, receive, send)
        finally:
            service.under_way -= 1

    def _gate(self, call: Call) -> None:
        self._service.check_room()
        if call.scope["path"] not in OPEN_METHODS:
            self._service.authorize(call.scope)

    async def _answer_http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            self._service.check_room()
            await self._rest(scope, receive, send)
        except QueueFull as error:
            await answer_json(send, 429, str(error))
        except OSError:
            # The client has left; nobody is there to be answered.
            return


async def answer_json(send: Send, status: int, text: str) -> None:
    """Answers a request of HTTP with an error."""
    body = msgspec.json.encode({"error": text})
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def only_grpc(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
    """Stands where no other protocol is spoken."""
    if scope["path"].startswith(f"/{methods.SERVICE}/"):
        await answer_json(send, 415, "the content type of a gRPC call is application/grpc")
        return
    await answer_json(send, 404, "there is nothing here")


async def _refuse_socket(scope: dict[str, Any], send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
