"""The frontend's process of one cell: ``python -m corral.frontend.process CELL BOOT_FD``.

It speaks the Open Inference Protocol, takes workers from the supervisor and maps the error tree
to status codes. Messages come and go as bytes: grpc.aio answers what a deserializer raises with
UNKNOWN and the exception's text, so nothing is parsed before it gets here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message

from corral import logs
from corral.dataplane.dispatcher import Cell
from corral.dataplane.recorder import Recorder
from corral.errors import (
    ConfigError,
    DeadlineMissed,
    InferenceFailed,
    InvalidRequest,
    NotFound,
    QueueFull,
    RequestError,
    Unavailable,
    Unsupported,
)
from corral.frontend import auth
from corral.frontend import shared_memory as memory_calls
from corral.frontend.admission import Receiver
from corral.frontend.health import Health, add_reflection
from corral.frontend.limits import arrival_limits, message_limit, queue_policy
from corral.ipc import channel
from corral.ipc.messages import (
    AttachWorker,
    CellBoot,
    DetachWorker,
    Drain,
    Drained,
    FrontendFailed,
    FrontendUp,
    ModelBoot,
    Open,
    Reconfigure,
    WorkerGone,
    WorkerVerified,
    to_frontend_decoder,
)
from corral.metrics import counters
from corral.models import registry
from corral.models.spec import ModelSpec
from corral.protocol import metadata
from corral.protocol import request as wire
from corral.protocol.shared_memory import ClientMemory
from corral.security import credentials, sandbox, tls
from corral.settings import Settings
from corral.system import procfs
from corral.system.addresses import format_address
from corral.system.malloc_trim import MallocTrimmer
from corral_protos import open_inference_pb2 as pb

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"
_SLOW_S = 5.0
#: the same for requests about the server itself, whose messages are as short as they are quick
_PAGES_AT_ONCE = 16
_SLOW_PAGE_S = 0.05
#: how often a drain looks whether all is answered, and how long the last answers may be under way
_DRAIN_LOOK_S = 0.01
_LAST_ANSWERS_S = 0.1
#: what TCP sends at once on any connection
_FIRST_WINDOW_BYTES = 14_600

_STATUS: dict[type[RequestError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineMissed: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    InferenceFailed: grpc.StatusCode.INTERNAL,
}

Handler = Callable[[Any, Any], Awaitable[bytes]]
Page = Callable[[bytes], Message]


def _served(
    spec: ModelSpec, model: ModelBoot, settings: Settings, workers: int
) -> metadata.ServedModel:
    return metadata.ServedModel(
        name=model.name,
        signature=spec.signature,
        max_items=settings.max_items,
        workers=workers,
        backend=settings.backend,
        precision=model.precision,
        weights=model.weights,
        synthetic=model.synthetic,
        guard=model.guard,
        mode=settings.mode,
        max_queue_delay_ms=settings.max_queue_delay_ms,
    )


class Frontend:
    """One cell's front."""

    def __init__(self, boot: CellBoot) -> None:
        settings = boot.settings
        self._boot = boot
        self._spec = registry.get(boot.settings.model)
        self._control = socket.socket(fileno=boot.control_fd)
        self._control.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        layout = counters.make_layout(boot.page_slots)
        self._pages = counters.Pages(boot.counters_fd, layout, boot.cells)
        self._recorder = Recorder(self._pages, boot.cell)
        self._model = _served(self._spec, boot.model, settings, boot.workers)
        limits = wire.Limits(
            max_items=settings.max_items,
            max_image_bytes=settings.max_image_bytes,
            classes=self._spec.classes,
        )
        self._memory = ClientMemory() if settings.client_shared_memory else None
        self._policy = queue_policy(settings, boot.slots, boot.region_batch)
        self._cell = Cell(
            self._spec,
            wire.RequestReader(self._spec.signature, limits, self._resolve, self._memory),
            self._policy,
            self._recorder,
            max_image_pixels=settings.max_image_pixels,
            decode_threads=len(os.sched_getaffinity(0)),
            on_verified=self._on_verified,
            hang_floor_s=settings.hang_floor_s,
            on_gone=lambda worker, pid: self._on_gone(worker, pid, hung=False),
            on_hung=lambda worker, pid: self._on_gone(worker, pid, hung=True),
        )
        at_once, waiting = arrival_limits(settings, self._spec, self._policy.max_queue)
        self._messages = Receiver(at_once, slow_s=_SLOW_S, most_waiting=waiting)
        #: the calls of accepted requests; those that are done have their answer with the kernel
        self._accepted: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._port = settings.port
        self._batch_sizes: list[int] = [1]
        self._requests = 0
        #: told to drain: not ready for anybody who asks, though requests may still be taken
        self._leaving = False
        self._server = self._make_server(settings)
        self._health = Health(
            ["", SERVICE, *metadata.view_names(boot.model.name).values()], self._server
        )
        add_reflection(self._server, self._health)

    def _resolve(self, name: str, version: str) -> str:
        view = metadata.resolve_view(name, version, self._boot.model.name)
        if view not in self._spec.views:
            raise NotFound(f"model {name[:80]!r}: this model takes no pictures")
        return view

    # --- gRPC ---

    def _make_server(self, settings: Settings) -> Any:
        access = credentials.make_access(
            settings.auth_token_file, settings.allow_client, client_ca=settings.tls_client_ca
        )
        server = grpc.aio.server(
            # Where nobody is asked for credentials, nothing is in the way of a request.
            interceptors=[auth.AuthInterceptor(access)] if access else None,
            maximum_concurrent_rpcs=auth.max_requests(settings, self._policy.max_queue),
            options=auth.server_options(
                settings, message_limit(settings, self._spec), shared=self._boot.cells > 1
            ),
        )
        pages: dict[str, Page] = {
            "ServerLive": lambda _: pb.ServerLiveResponse(live=True),
            "ServerReady": lambda _: pb.ServerReadyResponse(ready=self._ready()),
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: metadata.server_metadata(
                shared_memory=self._memory is not None
            ),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        if self._memory is not None:
            pages |= memory_calls.make(self._memory)
        # As streams of one message, because gRPC would receive a unary request's whole message
        # before it asks anybody whether there is room for it.
        messages = Receiver(_PAGES_AT_ONCE, slow_s=_SLOW_PAGE_S)
        handlers = {name: _page_handler(page, messages) for name, page in pages.items()}
        handlers["ModelInfer"] = self._infer
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        name: grpc.stream_unary_rpc_method_handler(_answering(handler))
                        for name, handler in handlers.items()
                    },
                ),
            )
        )
        return server

    async def _infer(self, _requests: Any, context: Any) -> bytes:
        remaining_s = context.time_remaining()
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        self._requests += 1
        self._cell.turn_away(deadline_s)
        message = await self._messages.receive(context)
        # The task of the call ends when its answer is written, long after this handler where the
        # client reads slowly.
        task = asyncio.current_task()
        assert task
        self._accepted.add(task)
        return await self._cell.infer(message, deadline_s)

    def _ready(self) -> bool:
        return self._cell.open and self._cell.verified and not self._leaving

    def _model_ready(self, message: bytes) -> Message:
        request = metadata.parse(pb.ModelReadyRequest, message)
        self._resolve(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._ready())

    def _model_metadata(self, message: bytes) -> Message:
        request = metadata.parse(pb.ModelMetadataRequest, message)
        return metadata.model_metadata(self._model, self._resolve(request.name, request.version))

    def _model_config(self, message: bytes) -> Message:
        request = metadata.parse(pb.ModelConfigRequest, message)
        view = self._resolve(request.name, request.version)
        return metadata.model_config(self._model, view, self._batch_sizes)

    def _model_statistics(self, message: bytes) -> Message:
        request = metadata.parse(pb.ModelStatisticsRequest, message)
        return metadata.model_statistics(
            self._pages.snapshot(), self._model.name, request.name, request.version
        )

    # --- the supervisor ---

    def _say(self, message: msgspec.Struct) -> None:
        try:
            channel.send(self._control, message)
        except channel.Closed:
            self._end()

    def _on_control(self) -> None:
        try:
            message, fds = channel.receive(self._control, to_frontend_decoder)
        except BlockingIOError:
            return
        except channel.Closed:
            self._end()
            return
        if isinstance(message, AttachWorker):
            self._attach(message, fds)
        elif isinstance(message, DetachWorker):
            self._cell.detach(message.worker)
        elif isinstance(message, Reconfigure):
            self._reconfigure(message)
        elif isinstance(message, Open):
            self._cell.open = True
            self._show_state()
        elif isinstance(message, Drain):
            self._draining = self._loop.create_task(self._drain(message.delay_s))

    def _attach(self, message: AttachWorker, fds: list[int]) -> None:
        try:
            self._cell.attach(message, fds)
        except (OSError, ValueError) as error:
            # Without descriptors to spare some or all of its own do not arrive. It notices that
            # nobody has the other end of its socket, leaves, and is started again.
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
            logger.error("worker %d cannot be taken on: %s", message.worker, error)  # noqa: TRY400
            return
        self._batch_sizes = message.sizes

    def _reconfigure(self, new: Reconfigure) -> None:
        settings = new.settings
        policy = queue_policy(settings, new.slots, new.region_batch)
        self._messages.set_limits(*arrival_limits(settings, self._spec, policy.max_queue))
        logs.configure(settings, f"frontend {self._boot.cell}")
        self._model = _served(self._spec, new.model, settings, new.workers)
        self._cell.reconfigure(
            policy,
            max_image_pixels=settings.max_image_pixels,
            hang_floor_s=settings.hang_floor_s,
        )

    def _on_verified(self, worker: int) -> None:
        self._say(WorkerVerified(worker=worker))
        self._show_state()

    def _on_gone(self, worker: int, pid: int, *, hung: bool) -> None:
        self._say(WorkerGone(worker=worker, pid=pid, hung=hung))
        self._show_state()

    def _show_state(self) -> None:
        self._health.serving(self._ready())
        self._recorder.state(serving=self._ready())

    async def _drain(self, delay_s: float) -> None:
        """Not ready, then nothing new, then everything accepted is answered.

        For ``delay_s`` the first holds and not yet the second.

        The server is not stopped: gRPC would answer CANCELLED, which nobody tries again, to
        whatever reaches it in that moment. Who comes now is told UNAVAILABLE, and so is who finds
        the connection closed, when this process ends. A client that does not read its answer is
        waited for, until the supervisor's grace time is over.
        """
        self._leaving = True
        self._recorder.state(serving=False)
        await self._health.shutdown()
        await asyncio.sleep(delay_s)
        self._cell.open = False
        while not all(call.done() for call in self._accepted):  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_LOOK_S)
        # What is with the kernel is lost where this process ends and the client sends another word,
        # but for what is on its way already.
        await asyncio.sleep(_LAST_ANSWERS_S)
        while procfs.unacknowledged_bytes(self._port) > _FIRST_WINDOW_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(_LAST_ANSWERS_S)
        self._say(Drained(cell=self._boot.cell))

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # --- life ---

    def _listen(self, address: str) -> int:
        settings = self._boot.settings
        files = tls.watch(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        if files is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, auth.server_credentials(files)))

    async def run(self) -> None:
        """Serves until the supervisor closes the control socket."""
        settings = self._boot.settings
        address = format_address(settings.host, settings.port)
        try:
            port = self._port = self._listen(address)
            if settings.unix_socket:
                address = f"unix:{settings.unix_socket}"
                self._listen(address)
        except RuntimeError:
            self._say(FrontendFailed(cell=self._boot.cell, message=f"cannot listen on {address}"))
            return
        await self._server.start()
        self._loop.add_reader(self._control, self._on_control)
        self._say(FrontendUp(cell=self._boot.cell, port=port))
        # What is there now stays for good: no collection need look at it again.
        gc.collect()
        gc.freeze()
        MallocTrimmer(lambda: self._requests, lambda: procfs.resident_bytes(os.getpid())).start(
            self._loop
        )
        await self._ended
        await self._cell.close()


def _page_handler(page: Page, messages: Receiver) -> Handler:
    async def handle(_requests: Any, context: Any) -> bytes:
        return page(await messages.receive(context)).SerializeToString()

    return handle


def _answering(handler: Handler) -> Handler:
    """Turns what a handler raises into a status; no other exception's text gets out."""

    async def handle(requests: Any, context: Any) -> bytes:
        try:
            return await handler(requests, context)
        except QueueFull as error:
            hint = (("grpc-retry-pushback-ms", str(error.retry_after_ms)),)
            await context.abort(_STATUS[QueueFull], str(error), hint)
        except RequestError as error:
            await context.abort(_STATUS[type(error)], str(error))
        except Exception:
            logger.exception("a request failed")
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")
        raise AssertionError("abort raises")

    return handle


def _client_is_there(record: logging.LogRecord) -> bool:
    """False for gRPC's traceback about a client that was gone before its answer went out."""
    return not record.getMessage().startswith("ExecuteBatchError")


async def _serve(boot: CellBoot) -> None:
    logging.getLogger("grpc._cython.cygrpc").addFilter(_client_is_there)
    try:
        await Frontend(boot).run()
    except ConfigError as error:
        with socket.socket(fileno=os.dup(boot.control_fd)) as supervisor:
            channel.send(supervisor, FrontendFailed(cell=boot.cell, message=str(error)))
    logging.shutdown()
    # Here, and not once asyncio and gRPC have cancelled what is under way: who waits for an answer
    # that will not come finds the connection closed, which is UNAVAILABLE, and tries again.
    os._exit(0)


def main() -> None:
    """Entry of the process: the boot file's descriptor is the second argument."""
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        boot = msgspec.json.decode(file.read(), type=CellBoot)
    logs.configure(boot.settings, f"frontend {boot.cell}")
    sandbox.keep_memory_private()
    asyncio.run(_serve(boot))


if __name__ == "__main__":
    main()
