"""The one ASGI application: gRPC calls to one room, every other request to the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from corral.frontend import health, methods
from corral.frontend.grpc_asgi.application import GrpcApplication, is_grpc
from corral.frontend.grpc_asgi.body import Receive
from corral.frontend.grpc_asgi.call import Call, Send
from corral.frontend.health import Health
from corral.frontend.methods import Methods
from corral.frontend.observer import WANT_TIMING, watched
from corral.frontend.reflection import Reflection
from corral.frontend.service import Service
from corral.frontend.statuses import to_status
from corral.priority import Priority

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
        reflection = Reflection((methods.SERVICE, health.SERVICE), state.ended, service.messages)
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
        service, timeline = self._service, None
        if service.observer.active or WANT_TIMING in fields:
            timeline = service.observer.begin(scope, fields)
            if timeline is not None:
                send = watched(send, timeline, tells_timing=WANT_TIMING in fields)
        service.under_way += 1
        try:
            if is_grpc(fields.get(b"content-type", b"")):
                await self._grpc(scope, fields, receive, send)
            else:
                await self._rest(scope, receive, send)
        finally:
            service.under_way -= 1
            if timeline is not None:
                service.observer.end(timeline)

    def _gate(self, call: Call) -> Priority:
        service = self._service
        service.check_room()
        if service.is_open or call.scope["path"] in OPEN_METHODS:
            return Priority.INTERACTIVE
        return service.authorize(call.scope)


async def _refuse_socket(scope: dict[str, Any], send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
