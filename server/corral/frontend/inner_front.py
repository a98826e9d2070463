"""A second front of a cell, to which the frontend itself is the client: the first one's code.

What is asked of it takes the way of a client's request, through HTTP/2, gRPC, admission, the reader
and a worker, and comes back. It has counters, limits and a door of its own, so that a client's
request meets nothing of it, and nobody else comes through that door: it takes one secret alone.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any

from corral.dataplane.dispatcher import Dispatcher
from corral.dataplane.inference import Inference
from corral.dataplane.inner_queue import InnerQueue
from corral.dataplane.recorder import Recorder
from corral.frontend import methods
from corral.frontend.admission import Admission
from corral.frontend.application import Application
from corral.frontend.auth import Auth
from corral.frontend.grpc_asgi.call import Send
from corral.frontend.health import Health
from corral.frontend.http_server import make_config, serve_plainly
from corral.frontend.inner_client import InnerClient
from corral.frontend.limits import ARRIVING_BYTES
from corral.frontend.observer import Observer
from corral.frontend.outgoing import Outgoing
from corral.frontend.pages import Pages
from corral.frontend.service import Service
from corral.ipc.messages import ServedModel
from corral.metrics import counters
from corral.protocol.request import RequestReader
from corral.security.credentials import Access, OneToken
from corral.settings import Settings

_PATH = f"/{methods.SERVICE}/ModelInfer"
#: connections, and calls of each: one is ours
_CONNECTIONS, _CALLS = 4, 4
_SLOW_S = 5.0


class InnerFront:
    """It serves from its first call on.

    Args:
        served: the model.
        reader: the clients'.
        dispatcher: the clients'.
        pages: the clients'.
        settings: of the HTTP server.
        clients_ask: whether a request of a client is under way.
        max_body_bytes: the largest request.
    """

    def __init__(
        self,
        served: ServedModel,
        reader: RequestReader,
        dispatcher: Dispatcher,
        pages: Pages,
        *,
        settings: Settings,
        clients_ask: Callable[[], bool],
        max_body_bytes: int,
    ) -> None:
        layout = counters.make_layout(1)
        pages_of_nobody = counters.Pages(counters.create_memory(layout, 1), layout, 1)
        recorder = Recorder(pages_of_nobody, 0)
        inference = Inference(
            served,
            reader,
            InnerQueue(dispatcher, clients_ask),
            recorder,
            max_image_pixels=settings.queue.max_image_pixels,
            decode_threads=1,
        )
        inference.open = True
        self._token = secrets.token_hex()
        self._service = Service(
            inference,
            reader,
            pages,
            auth=Auth(Access(tokens=OneToken(self._token))),
            messages=Admission(_CALLS, ARRIVING_BYTES, slow_s=_SLOW_S),
            outgoing=Outgoing(),
            observer=Observer(0, None, traces=False, rate=0.0, logs=False),
            max_body_bytes=max_body_bytes,
            max_requests=_CALLS,
        )
        self._app = Application(
            self._service,
            Health([], self._service.messages),
            _nothing_else,
            max_fields_bytes=settings.limits.max_metadata_bytes,
        )
        self._settings = settings
        self._server: asyncio.Task[None] | None = None
        self._address = ""
        self._client: InnerClient | None = None

    async def call(self, message: bytes, patience_s: float) -> None:
        """Sends a ModelInferRequest through it, and waits for the answer, for so long at most.

        Raises:
            InnerCallFailed: it is answered with an error.
            OSError: it cannot be reached; the next call tries anew.
        """
        client = self._client
        if client is None or not client.is_open:
            client = self._client = await self._connect()
        await client.call(message, patience_s)

    async def _connect(self) -> InnerClient:
        if self._server is None or self._server.done():
            await self._serve()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # At once, or not at all; uvloop takes no such name.
        sock.connect(self._address)
        _, client = await asyncio.get_running_loop().create_unix_connection(
            lambda: InnerClient(_PATH, self._token), sock=sock
        )
        return client

    async def _serve(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            # The kernel finds a name, which no file system has.
            listener.bind("")
            listener.listen()
            self._address = listener.getsockname()
            config = make_config(
                self._settings,
                listeners=1,
                connections=_CONNECTIONS,
                streams=_CALLS,
                tls=False,
                client_certificates=False,
            )
            self._server = await serve_plainly(self._app, listener, config)


async def _nothing_else(_scope: dict[str, Any], _receive: object, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})
