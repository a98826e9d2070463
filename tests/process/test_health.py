"""Health and reflection on a real server, asked by real clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import h2corn
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from corral.frontend import methods
from corral.frontend.admission import Admission
from corral.frontend.grpc_asgi.application import GrpcApplication
from corral.frontend.health import SERVICE, Health
from corral.frontend.reflection import Reflection
from corral.frontend.statuses import to_status
from corral_protos import health_pb2 as health_v1_pb2
from corral_protos import reflection_v1_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = ["", methods.SERVICE, "resnet50", "resnet50_uint8", "resnet50_image"]


class Front:
    """A server with nothing but health and reflection, and a channel to it."""

    def __init__(self) -> None:
        messages = Admission(100, 2**20, slow_s=60.0)
        self.health = Health(SERVICES, messages)
        reflection = Reflection((methods.SERVICE, SERVICE), self.health.ended, messages)
        app = GrpcApplication(
            self.health.unary(),
            {**self.health.streams(), **reflection.streams()},
            gate=lambda _: None,
            translate=to_status,
            max_fields_bytes=16384,
        )

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, dict(scope["headers"]), receive, send)

        config = h2corn.Config(
            bind=("127.0.0.1:0",), grpc=True, lifespan="off", timeout_graceful_shutdown=60
        )
        self._server = h2corn.Server(serve, config)

    async def start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve())
        await self._server.wait_started()
        (address,) = self._server.addresses
        self.channel = grpc.aio.insecure_channel(address)
        self.stub = health_pb2_grpc.HealthStub(self.channel)

    async def stop(self) -> None:
        """Ends it, once all streams have ended."""
        self._server.shutdown()
        await self._serving

    async def check(self, service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await self.stub.Check(request, timeout=10)).status)

    def watch(self, service: str) -> Any:
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60)


@pytest_asyncio.fixture
async def front() -> AsyncIterator[Front]:
    made = Front()
    await made.start()
    yield made
    await made.channel.close()
    made.health.shutdown()
    await asyncio.wait_for(made.stop(), 10)


async def told(watch: Any) -> int:
    answer = await asyncio.wait_for(watch.read(), 10)
    assert answer is not grpc.aio.EOF
    return int(answer.status)


async def ended(watch: Any) -> bool:
    """True when the stream ends now, and in order."""
    at_end = await asyncio.wait_for(watch.read(), 10) is grpc.aio.EOF
    return at_end and await watch.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("service", SERVICES)
async def test_check_follows_the_server(front: Front, service: str) -> None:
    assert await front.check(service) == NOT_SERVING
    front.health.serving(True)
    assert await front.check(service) == SERVING
    front.health.serving(False)
    assert await front.check(service) == NOT_SERVING


async def test_check_of_an_unknown_service_is_not_found(front: Front) -> None:
    front.health.serving(True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await front.check("resnet")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "'resnet'" in str(caught.value.details())
    assert "resnet50_image" in str(caught.value.details())


@pytest.mark.parametrize("service", SERVICES)
async def test_watch_tells_every_change_once(front: Front, service: str) -> None:
    watch = front.watch(service)
    assert await told(watch) == NOT_SERVING
    front.health.serving(True)
    assert await told(watch) == SERVING
    front.health.serving(True)
    front.health.serving(False)
    assert await told(watch) == NOT_SERVING


async def test_watch_of_an_unknown_service_stays_open_until_the_server_stops(front: Front) -> None:
    watch = front.watch("nobody")
    assert await told(watch) == SERVICE_UNKNOWN
    front.health.serving(True)
    front.health.shutdown()
    assert await ended(watch)


async def test_a_watcher_that_leaves_takes_no_other_along(front: Front) -> None:
    leaving, staying = front.watch(""), front.watch("")
    assert await told(leaving) == await told(staying) == NOT_SERVING
    leaving.cancel()
    assert await front.check("") == NOT_SERVING  # a round trip after the cancellation
    front.health.serving(True)
    assert await told(staying) == SERVING


async def test_shutdown_tells_watchers_not_serving_and_ends_them(front: Front) -> None:
    front.health.serving(True)
    watches = [front.watch(service) for service in SERVICES]
    assert [await told(watch) for watch in watches] == [SERVING] * len(SERVICES)
    front.health.shutdown()
    assert [await told(watch) for watch in watches] == [NOT_SERVING] * len(SERVICES)
    assert [await ended(watch) for watch in watches] == [True] * len(SERVICES)
    # Whoever asks now gets the same, and nothing brings it back.
    front.health.serving(True)
    assert await front.check("") == NOT_SERVING
    late = front.watch("")
    assert await told(late) == NOT_SERVING
    assert await ended(late)


async def test_a_graceful_stop_does_not_wait_for_watchers(front: Front) -> None:
    front.health.serving(True)
    watch = front.watch("")
    assert await told(watch) == SERVING
    front.health.shutdown()
    # With the stream still open this would take the whole grace.
    await asyncio.wait_for(front.stop(), 10)


async def test_a_graceful_stop_does_not_wait_for_reflection(front: Front) -> None:
    stream = reflection_pb2_grpc.ServerReflectionStub(front.channel).ServerReflectionInfo()
    for _ in range(2):
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await stream.read()).HasField("list_services_response")
    front.health.shutdown()
    await asyncio.wait_for(front.stop(), 10)
    assert await ended(stream)


async def reflect(front: Front, **asked: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(front.channel)
    request = reflection_pb2.ServerReflectionRequest(**asked)
    [answer] = [answer async for answer in stub.ServerReflectionInfo(iter([request]), timeout=10)]
    return answer


async def test_both_versions_of_reflection_answer_alike(front: Front) -> None:
    asked = reflection_v1_pb2.ServerReflectionRequest(
        file_containing_symbol="inference.GRPCInferenceService"
    )
    call = front.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    [answer] = [
        reflection_v1_pb2.ServerReflectionResponse.FromString(message)
        async for message in call(iter([asked.SerializeToString()]), timeout=10)
    ]
    older = await reflect(front, file_containing_symbol="inference.GRPCInferenceService")
    assert answer.SerializeToString() == older.SerializeToString()


async def test_the_health_of_every_service_is_listed(front: Front) -> None:
    front.health.serving(True)
    found = health_v1_pb2.HealthListResponse.FromString(
        await front.channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=10)
    )
    assert {name: each.status for name, each in found.statuses.items()} == dict.fromkeys(
        SERVICES, SERVING
    )


async def resolve(front: Front, symbol: str, pool: DescriptorPool) -> None:
    """Adds the files that define a symbol to a pool, as grpcurl does."""
    answer = await reflect(front, file_containing_symbol=symbol)
    assert answer.HasField("file_descriptor_response"), answer
    for serialized in reversed(answer.file_descriptor_response.file_descriptor_proto):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(serialized))


async def test_every_listed_service_resolves(front: Front) -> None:
    listed = (await reflect(front, list_services="")).list_services_response.service
    names = [service.name for service in listed]
    assert sorted(names) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]
    for name in names:
        pool = DescriptorPool()
        await resolve(front, name, pool)
        service = pool.FindServiceByName(name)
        assert service.methods
        for method in service.methods:
            # Building a message class resolves every type that the call needs.
            assert method.input_type.full_name
            assert method.output_type.full_name


async def test_reflection_describes_the_calls_that_clients_make(front: Front) -> None:
    pool = DescriptorPool()
    await resolve(front, "inference.GRPCInferenceService", pool)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    assert {method.name for method in service.methods} == {
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata",
        "ModelInfer", "ModelConfig", "ModelStatistics", "SystemSharedMemoryStatus",
        "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
        "CudaSharedMemoryUnregister", "ModelStreamInfer", "RepositoryIndex",
        "RepositoryModelLoad", "RepositoryModelUnload",
    }  # fmt: skip
    request = service.methods_by_name["ModelInfer"].input_type
    assert request.fields_by_name["raw_input_contents"].number == 7


@pytest.mark.parametrize(
    "symbol",
    [
        "inference.GRPCInferenceService",
        "inference.GRPCInferenceService.ModelInfer",
        "inference.ModelInferRequest",
        "inference.ModelInferRequest.InferInputTensor",
        "inference.ModelInferRequest.model_name",
        "inference.DataType",
        "inference.TYPE_FP32",
        "grpc.health.v1.Health.Watch",
    ],
)
async def test_reflection_finds_symbols_of_every_kind(front: Front, symbol: str) -> None:
    """``grpcurl describe`` asks for methods."""
    await resolve(front, symbol, DescriptorPool())


@pytest.mark.parametrize(
    "symbol",
    [
        "inference.Nothing",
        "inference.GRPCInferenceService.Nothing",
        "inference.GRPCInferenceService.",
        "inference.Nothing.ModelInfer",
        "inference",
        "",
        ".",
    ],
)
async def test_reflection_of_an_unknown_symbol_is_not_found(front: Front, symbol: str) -> None:
    answer = await reflect(front, file_containing_symbol=symbol)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
