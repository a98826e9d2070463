"""grpc.health.v1 and server reflection for an ingress's gRPC server.

The health service is our own: grpc_health's asyncio servicer never ends a Watch stream (so a
graceful stop waits for clients that watch), and forgets every watcher of a service when one of
them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from corral_protos import open_inference_pb2 as pb

#: the service that the Open Inference Protocol defines
INFERENCE_SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


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
        self._ended = False
        self._changed = asyncio.Event()
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def serving(self, serving: bool) -> None:
        """Sets the answer and tells the watchers. After ``shutdown`` it stays NOT_SERVING."""
        if not self._ended:
            self._serving = serving
            self._wake()

    async def shutdown(self) -> None:
        """The server stops: watchers are told NOT_SERVING, and then their streams end."""
        self._serving, self._ended = False, True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_UNKNOWN)
        return int(_SERVING if self._serving else _NOT_SERVING)

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """The status of a service; NOT_FOUND for one that is not there."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"no service {request.service[:80]!r}; there are: "
                + ", ".join(sorted(self._services - {""})),
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a service now and whenever it changes; SERVICE_UNKNOWN is one."""
        told: int | None = None
        while True:
            # Read together, before anything is awaited: else a change would be missed.
            changed, ended, status = self._changed, self._ended, self._status(request.service)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if ended:
                return
            await changed.wait()


def add_reflection(server: grpc.aio.Server) -> None:
    """Registers server reflection for the inference, health and reflection services."""
    # Our messages live in a pool of their own, so reflection needs one that has everything.
    pool = DescriptorPool()
    for file in (pb.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    services = (INFERENCE_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(services, server, pool=pool)
