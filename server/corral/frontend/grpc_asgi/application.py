"""The ASGI application: calls to methods, what they raise to statuses, deadlines to timers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from corral.frontend.grpc_asgi.body import Receive
from corral.frontend.grpc_asgi.call import Call, Send
from corral.frontend.grpc_asgi.status import ClientGone, Code, GrpcError
from corral.frontend.grpc_asgi.timeouts import timeout_s

logger = logging.getLogger(__name__)

#: answers the one message of a call
Unary = Callable[[Call], Awaitable[bytes]]
#: answers with as many messages as it likes
Stream = Callable[[Call], Awaitable[None]]
#: refuses a call by raising, before anything of its body is received
Gate = Callable[[Call], Any]

CONTENT_TYPE = b"application/grpc"
#: what HTTP/2's limit on a field list counts for each field besides its bytes
_FIELD_OVERHEAD = 32
_LATE = "Deadline Exceeded: the answer was not there in time"
_QUOTED_CHARS = 80
#: among the extensions of a request whose client takes trailers, where a call's status stands
_TRAILERS = "http.response.trailers"


def is_grpc(content_type: bytes) -> bool:
    """Whether a request with this content type is gRPC's."""
    if content_type == CONTENT_TYPE:
        return True
    return content_type[:16].lower() == CONTENT_TYPE and content_type[16:17] in (b"", b"+", b";")


class GrpcApplication:
    """Serves gRPC's methods, in one event loop.

    Args:
        unary: handlers by path, ``/package.Service/Method``.
        streams: handlers that answer with more than one message.
        gate: asked before any handler.
        translate: makes a status of what a handler raised; None for what is nobody's business:
            INTERNAL without a reason, and a traceback in the log.
        max_fields_bytes: what a call's fields may hold.
    """

    def __init__(
        self,
        unary: Mapping[str, Unary],
        streams: Mapping[str, Stream],
        *,
        gate: Gate,
        translate: Callable[[Exception], GrpcError | None],
        max_fields_bytes: int,
    ) -> None:
        self._unary = unary
        self._streams = streams
        self._gate = gate
        self._translate = translate
        self._max_fields_bytes = max_fields_bytes
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(
        self, scope: dict[str, Any], fields: dict[bytes, bytes], receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Answers one call; it raises nothing but CancelledError.

        Args:
            scope: ASGI's, of the type "http", of a gRPC request.
            fields: its head's fields by name.
            receive: ASGI's.
            send: ASGI's.
        """
        call = Call(scope, fields, receive, send)
        timeout = fields.get(b"grpc-timeout")
        return self._serve(call) if timeout is None else self._serve_within(call, timeout)

    async def _serve(self, call: Call) -> None:
        scope = call.scope
        try:
            self._check(scope)
            call.granted = self._gate(call)
            path = scope["path"]
            handler = self._unary.get(path)
            if handler is not None:
                await call.answer(await handler(call))
            else:
                await self._streams.get(path, _no_method)(call)
                if not call.ended:
                    await call.finish()
        except ClientGone:
            return
        # A defect of a handler is the client's status; the connection serves other calls.
        except Exception as error:
            status = self._status(error)
        else:
            return
        # Out of the block, where the error keeps nothing that its request held.
        await call.fail(status)

    def _check(self, scope: dict[str, Any]) -> None:
        fields = scope["headers"]
        held = sum(map(len, itertools.chain.from_iterable(fields)))
        if held + _FIELD_OVERHEAD * len(fields) > self._max_fields_bytes:
            raise GrpcError(
                Code.RESOURCE_EXHAUSTED,
                f"the metadata holds more than {self._max_fields_bytes} bytes",
            )
        if scope["method"] != "POST":
            raise GrpcError(Code.UNIMPLEMENTED, "calls are POST requests")
        if _TRAILERS not in scope["extensions"]:
            raise GrpcError(Code.INVALID_ARGUMENT, "a call has the header field te: trailers")

    def _status(self, error: Exception) -> GrpcError:
        if isinstance(error, GrpcError):
            return error
        known = self._translate(error)
        if known is None:
            logger.error("a request failed", exc_info=error)
            return GrpcError(Code.INTERNAL, "internal error")
        return known

    async def _serve_within(self, call: Call, allowed: bytes) -> None:
        """Serves a call with a deadline: its task is cancelled then, and the client told."""
        now_s = time.monotonic()
        try:
            call.deadline_s = now_s + timeout_s(allowed)
        except ValueError as error:
            await call.fail(GrpcError(Code.INVALID_ARGUMENT, str(error)))
            return
        if (loop := self._loop) is None:
            # Once: the interpreter asks the kernel each time which process it is.
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        timer = loop.call_later(call.deadline_s - now_s, expire)
        try:
            await self._serve(call)
        except asyncio.CancelledError:
            if not expired or task.uncancel():
                raise
            await call.fail(GrpcError(Code.DEADLINE_EXCEEDED, _LATE))
        finally:
            timer.cancel()


async def _no_method(call: Call) -> None:
    path = call.scope["path"]
    raise GrpcError(Code.UNIMPLEMENTED, f"no method {path[:_QUOTED_CHARS]!r}")
