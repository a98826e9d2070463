"""grpc.health.v1: whether the server serves, asked once or watched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from corral.errors import NotFound
from corral.frontend.admission import Admission
from corral.frontend.grpc_asgi.application import Stream, Unary
from corral.frontend.grpc_asgi.call import Call
from corral.frontend.messages import SHORT_MESSAGE_BYTES, one_message
from corral.protocol.metadata import parse
from corral_protos import health_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["Health"].full_name
CHECK = f"/{SERVICE}/Check"

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN

_QUOTED_CHARS = 80


class Health:
    """Says whether the server serves: one answer for all its services. NOT_SERVING at first.

    Use it from the server's event loop only.

    Args:
        services: what may be asked for: "" (the whole server), the inference service, the
            models' names.
        messages: the calls whose client is to speak, and those that watch.
    """

    def __init__(self, services: Iterable[str], messages: Admission) -> None:
        self._services = frozenset(services)
        self._serving = False
        #: set when the server stops
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._messages = messages

    def unary(self) -> dict[str, Unary]:
        """The methods that answer once, by path."""
        return {CHECK: self._check, f"/{SERVICE}/List": self._list}

    def streams(self) -> dict[str, Stream]:
        """The methods that answer more often, by path."""
        return {f"/{SERVICE}/Watch": self._watch}

    def serving(self, serving: bool) -> None:
        """Sets the answer and tells the watchers. After ``shutdown`` it stays NOT_SERVING."""
        if not self.ended.is_set():
            self._serving = serving
            self._wake()

    def shutdown(self) -> None:
        """The server stops: watchers are told NOT_SERVING, and then their streams end."""
        self._serving = False
        self.ended.set()
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> pb.HealthCheckResponse.ServingStatus.ValueType:
        if service not in self._services:
            return _UNKNOWN
        return _SERVING if self._serving else _NOT_SERVING

    async def _check(self, call: Call) -> bytes:
        """The status of a service; NOT_FOUND for one that is not there."""
        message = await one_message(call, self._messages, SHORT_MESSAGE_BYTES)
        service = parse(pb.HealthCheckRequest, message).service
        status = self._status(service)
        if status == _UNKNOWN:
            raise NotFound(
                f"no service {service[:_QUOTED_CHARS]!r}; there are: "
                + ", ".join(sorted(self._services - {""}))
            )
        return pb.HealthCheckResponse(status=status).SerializeToString()

    async def _list(self, call: Call) -> bytes:
        """The status of every service."""
        parse(pb.HealthListRequest, await one_message(call, self._messages, SHORT_MESSAGE_BYTES))
        statuses = {
            name: pb.HealthCheckResponse(status=self._status(name)) for name in self._services
        }
        return pb.HealthListResponse(statuses=statuses).SerializeToString()

    async def _watch(self, call: Call) -> None:
        """The status of a service now and whenever it changes; SERVICE_UNKNOWN is one."""
        message = await one_message(call, self._messages, SHORT_MESSAGE_BYTES)
        service = parse(pb.HealthCheckRequest, message).service
        told: int | None = None
        while True:
            # Read together, before anything is awaited: else a change would be missed.
            changed, ended = self._changed, self.ended.is_set()
            status = self._status(service)
            if status != told:
                await call.send(pb.HealthCheckResponse(status=status).SerializeToString())
                told = status
            if ended:
                return
            # Nobody's turn: like one whose message does not come, it may have to make room.
            with self._messages.turn(call.scope):
                await changed.wait()
