"""grpc.health.v1 and server reflection for a frontend's gRPC server.

The health service is our own: grpc_health's asyncio servicer never ends a Watch stream (so a
graceful stop waits for clients that watch), and forgets every watcher of a service when one of
them leaves.

Messages come as bytes, as in frontend.py: what a deserializer raises would go out as UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from corral.errors import InvalidRequest, QueueFull
from corral.frontend.admission import Receiver
from corral_protos import open_inference_pb2 as pb

#: the service that the Open Inference Protocol defines
INFERENCE_SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

#: Messages that are received at a time, of each method: Check needs no credentials, so that
#: strangers could fill memory with them. Those of honest clients are there at once.
_AT_ONCE = 16
_SLOW_S = 0.05
#: streams of reflection, each of which may be in the middle of a message
_MAX_REFLECTIONS = 16

M = TypeVar("M", bound=Message)


async def _parse(kind: type[M], message: bytes, context: grpc.aio.ServicerContext) -> M:
    try:
        return kind.FromString(message)
    except DecodeError:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"the message is no {kind.DESCRIPTOR.full_name}"
        )
    raise AssertionError("abort raises")


async def _receive(kind: type[M], messages: Receiver, context: grpc.aio.ServicerContext) -> M:
    """The call's message."""
    try:
        message = await messages.receive(context)
    except QueueFull as error:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    except InvalidRequest as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    return await _parse(kind, message, context)


class Health:
    """Says whether the server serves: one answer for all its services. NOT_SERVING at first.

    Use it from the server's event loop only.

    Args:
        services: what may be asked for: "" (the whole server), the inference service, the
            models' names.
        server: grpc.health.v1.Health is registered with it.
    """

    def __init__(self, services: Iterable[str], server: grpc.aio.Server) -> None:
        self._services = frozenset(services)
        self._serving = False
        #: set when the server stops
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._checks = Receiver(_AT_ONCE, slow_s=_SLOW_S)
        self._watches = Receiver(_AT_ONCE, slow_s=_SLOW_S)
        # As streams of one message: see receiving.py.
        handlers = {
            "Check": grpc.stream_unary_rpc_method_handler(
                self.Check, response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
            "Watch": grpc.stream_stream_rpc_method_handler(
                self.Watch, response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers),)
        )

    def serving(self, serving: bool) -> None:
        """Sets the answer and tells the watchers. After ``shutdown`` it stays NOT_SERVING."""
        if not self.ended.is_set():
            self._serving = serving
            self._wake()

    async def shutdown(self) -> None:
        """The server stops: watchers are told NOT_SERVING, and then their streams end."""
        self._serving = False
        self.ended.set()
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_UNKNOWN)
        return int(_SERVING if self._serving else _NOT_SERVING)

    async def Check(  # noqa: N802
        self, _requests: Any, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The status of a service; NOT_FOUND for one that is not there."""
        request = await _receive(health_pb2.HealthCheckRequest, self._checks, context)
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no service {request.service[:80]!r}; there are: "
                + ", ".join(sorted(self._services - {""})),
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, _requests: Any, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a service now and whenever it changes; SERVICE_UNKNOWN is one."""
        request = await _receive(health_pb2.HealthCheckRequest, self._watches, context)
        told: int | None = None
        while True:
            # Read together, before anything is awaited: else a change would be missed.
            changed, ended = self._changed, self.ended.is_set()
            status = self._status(request.service)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if ended:
                return
            await changed.wait()


class _Reflection:
    """grpc_reflection's servicer, whose streams end when the server stops.

    Left alone they last as long as their clients like, and a graceful stop waits for them.
    """

    def __init__(self, services: Iterable[str], pool: DescriptorPool, ended: asyncio.Event) -> None:
        self._servicer = reflection.aio.ReflectionServicer(services, pool=pool)
        self._ended = ended
        self._streams = 0

    async def ServerReflectionInfo(  # noqa: N802
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answers a stream of questions about the services' descriptors."""
        if self._streams >= _MAX_REFLECTIONS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many clients use reflection"
            )
        self._streams += 1
        try:
            questions = self._until_ended(requests, context)
            async for answer in self._servicer.ServerReflectionInfo(questions, context):
                yield answer
        finally:
            self._streams -= 1

    async def _until_ended(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[Any]:
        ended = asyncio.ensure_future(self._ended.wait())
        waiting = [ended]
        try:
            while True:
                question = asyncio.ensure_future(anext(requests))
                waiting = [ended, question]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not question.done():
                    return
                try:
                    message = question.result()
                except StopAsyncIteration:
                    return
                yield await _parse(reflection_pb2.ServerReflectionRequest, message, context)
        finally:
            for task in waiting:
                task.cancel()


def add_reflection(server: grpc.aio.Server, health_service: Health | None = None) -> None:
    """Registers server reflection for the inference, health and reflection services.

    With a ``health_service``, its streams end when that one is shut down.
    """
    # Our messages live in a pool of their own, so reflection needs one that has everything.
    pool = DescriptorPool()
    for file in (pb.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    services = (INFERENCE_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    ended = health_service.ended if health_service else asyncio.Event()
    servicer = _Reflection(services, pool, ended)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                reflection.SERVICE_NAME, {"ServerReflectionInfo": handler}
            ),
        )
    )
