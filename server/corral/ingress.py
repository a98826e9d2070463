"""The ingress process: the gRPC front of one cell. ``python -m corral.ingress CELL BOOT_FD``.

It speaks the Open Inference Protocol, takes workers from the supervisor and maps the error tree
to status codes. Messages come and go as bytes: grpc.aio answers what a deserializer raises with
UNKNOWN and the exception's text, so nothing is parsed before it gets here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import msgspec
from google.protobuf.message import DecodeError, Message

from corral import control, counters, logs, models, protocol_pages, wire
from corral.batcher import Policy
from corral.cell import Cell
from corral.config import Mode, Settings
from corral.errors import (
    DeadlineMissed,
    InferenceFailed,
    InvalidRequest,
    NotFound,
    QueueFull,
    RequestError,
    Unavailable,
)
from corral.health import Health, add_reflection
from corral.messages import (
    AttachWorker,
    CellBoot,
    Drain,
    Drained,
    IngressFailed,
    IngressUp,
    Open,
    WorkerGone,
    WorkerProven,
    to_ingress_decoder,
)
from corral.models.spec import ModelSpec
from corral.tally import Tally
from corral_protos import open_inference_pb2 as pb

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"
#: what all unanswered requests of a cell may hold
_MAX_HELD_BYTES = 512 * 2**20
#: room in a message for everything but the tensor
_ENVELOPE_BYTES = 64 * 2**10

_STATUS: dict[type[RequestError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineMissed: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    InferenceFailed: grpc.StatusCode.INTERNAL,
}

Handler = Callable[[bytes, Any], Awaitable[bytes]]
Page = Callable[[bytes], Message]
M = TypeVar("M", bound=Message)


def message_limit(settings: Settings, spec: ModelSpec) -> int:
    """The largest message: a full request of tensors, or one of the largest pictures."""
    tensors = settings.max_items * max(spec.signature.input_bytes.values())
    return max(tensors, settings.max_image_bytes) + _ENVELOPE_BYTES


def queue_policy(settings: Settings, slots: int, region_batch: int) -> Policy:
    """The queue's limits: 64 items a worker, or 64 of its largest batches for throughput."""
    deep = 64 * slots * (region_batch if settings.mode is Mode.THROUGHPUT else 1)
    return Policy(
        max_queue=settings.max_queue or deep,
        max_bytes=_MAX_HELD_BYTES,
        max_delay_s=settings.max_queue_delay_ms / 1000,
    )


class Ingress:
    """One cell's front."""

    def __init__(self, boot: CellBoot) -> None:
        settings = boot.settings
        self._boot = boot
        self._spec = models.get(boot.settings.model)
        self._control = socket.socket(fileno=boot.control_fd)
        self._control.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        layout = counters.make_layout(boot.page_slots)
        self._pages = counters.Pages(boot.counters_fd, layout, boot.cells)
        self._tally = Tally(self._pages, boot.cell)
        self._model = protocol_pages.ServedModel(
            name=boot.model.name,
            signature=self._spec.signature,
            max_items=settings.max_items,
            workers=boot.workers,
            backend=settings.backend,
            precision=boot.model.precision,
            weights=boot.model.weights,
            synthetic=boot.model.synthetic,
            guard=boot.model.guard,
            mode=settings.mode,
            max_queue_delay_ms=settings.max_queue_delay_ms,
        )
        limits = wire.Limits(
            max_items=settings.max_items,
            max_image_bytes=settings.max_image_bytes,
            classes=self._spec.classes,
        )
        self._cell = Cell(
            self._spec,
            wire.RequestReader(self._spec.signature, limits, self._resolve),
            queue_policy(settings, boot.slots, boot.region_batch),
            self._tally,
            region_batch=boot.region_batch,
            max_image_pixels=settings.max_image_pixels,
            decode_threads=len(os.sched_getaffinity(0)),
            on_proven=self._on_proven,
            on_gone=lambda worker: self._say(WorkerGone(worker=worker)),
        )
        self._batch_sizes: list[int] = [1]
        self._server = self._make_server(settings)
        self._health = Health(
            ["", SERVICE, *protocol_pages.view_names(boot.model.name).values()], self._server
        )
        add_reflection(self._server, self._health)

    def _resolve(self, name: str, version: str) -> str:
        view = protocol_pages.resolve_view(name, version, self._boot.model.name)
        if view not in self._spec.views:
            raise NotFound(f"model {name[:80]!r}: this model takes no pictures")
        return view

    # --- gRPC ---

    def _make_server(self, settings: Settings) -> Any:
        limit = message_limit(settings, self._spec)
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                # One cell owns the port alone: a second server must not share it unnoticed.
                ("grpc.so_reuseport", int(self._boot.cells > 1)),
            ]
        )
        pages: dict[str, Page] = {
            "ServerLive": lambda _: pb.ServerLiveResponse(live=True),
            "ServerReady": lambda _: pb.ServerReadyResponse(ready=self._ready()),
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: protocol_pages.server_metadata(),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        handlers = {name: _answering(_page_handler(page)) for name, page in pages.items()}
        handlers["ModelInfer"] = _answering(self._infer)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {n: grpc.unary_unary_rpc_method_handler(h) for n, h in handlers.items()},
                ),
            )
        )
        return server

    async def _infer(self, message: bytes, context: Any) -> bytes:
        remaining_s = context.time_remaining()
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        return await self._cell.infer(message, deadline_s)

    def _ready(self) -> bool:
        return self._cell.open and self._cell.proven

    def _model_ready(self, message: bytes) -> Message:
        request = _parse(pb.ModelReadyRequest, message)
        self._resolve(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._ready())

    def _model_metadata(self, message: bytes) -> Message:
        request = _parse(pb.ModelMetadataRequest, message)
        return protocol_pages.model_metadata(
            self._model, self._resolve(request.name, request.version)
        )

    def _model_config(self, message: bytes) -> Message:
        request = _parse(pb.ModelConfigRequest, message)
        view = self._resolve(request.name, request.version)
        return protocol_pages.model_config(self._model, view, self._batch_sizes)

    def _model_statistics(self, message: bytes) -> Message:
        request = _parse(pb.ModelStatisticsRequest, message)
        return protocol_pages.model_statistics(
            self._pages.snapshot(), self._model.name, request.name, request.version
        )

    # --- the supervisor ---

    def _say(self, message: msgspec.Struct) -> None:
        try:
            control.send(self._control, message)
        except control.Closed:
            self._end()

    def _on_control(self) -> None:
        try:
            message, fds = control.receive(self._control, to_ingress_decoder)
        except BlockingIOError:
            return
        except control.Closed:
            self._end()
            return
        if isinstance(message, AttachWorker):
            self._batch_sizes = message.sizes
            self._cell.attach(message, fds)
        elif isinstance(message, Open):
            self._cell.open = True
            self._show_state()
        elif isinstance(message, Drain):
            self._draining = self._loop.create_task(self._drain(message.grace_s))

    def _on_proven(self, worker: int) -> None:
        self._say(WorkerProven(worker=worker))
        self._show_state()

    def _show_state(self) -> None:
        self._health.serving(self._ready())
        self._tally.state(serving=self._ready())

    async def _drain(self, grace_s: float) -> None:
        """Not ready, then nothing new, then everything accepted is answered."""
        self._cell.open = False
        self._tally.state(serving=False)
        await self._health.shutdown()
        await self._server.stop(grace_s)
        self._say(Drained(cell=self._boot.cell))

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # --- life ---

    async def run(self) -> None:
        """Serves until the supervisor closes the control socket."""
        settings = self._boot.settings
        try:
            port = self._server.add_insecure_port(f"{settings.host}:{settings.port}")
        except RuntimeError:
            self._say(
                IngressFailed(
                    cell=self._boot.cell,
                    message=f"cannot listen on {settings.host}:{settings.port}",
                )
            )
            return
        await self._server.start()
        self._loop.add_reader(self._control, self._on_control)
        self._say(IngressUp(cell=self._boot.cell, port=port))
        # What is there now stays for good: no collection need look at it again.
        gc.collect()
        gc.freeze()
        await self._ended
        await self._cell.close()
        await self._server.stop(0)


def _parse(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.full_name}") from None


def _page_handler(page: Page) -> Handler:
    async def handle(message: bytes, _context: Any) -> bytes:
        return page(message).SerializeToString()

    return handle


def _answering(handler: Handler) -> Handler:
    """Turns what a handler raises into a status; no other exception's text gets out."""

    async def handle(message: bytes, context: Any) -> bytes:
        try:
            return await handler(message, context)
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


async def _serve(boot: CellBoot) -> None:
    await Ingress(boot).run()


def main() -> None:
    """Entry of the process: the boot file's descriptor is the second argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        boot = msgspec.json.decode(file.read(), type=CellBoot)
    logs.configure(boot.settings, f"ingress {boot.cell}")
    asyncio.run(_serve(boot))


if __name__ == "__main__":
    main()
