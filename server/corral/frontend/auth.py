"""The gRPC side of security: TLS credentials, limits, and the one place that lets callers in."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from corral.security.credentials import Access, Verdict
from corral.security.tls import Material
from corral.settings import Settings
from corral.system.watched_file import WatchedFile

logger = logging.getLogger(__name__)

#: Answered without credentials: Kubernetes' and load balancers' probes have none. It says whether
#: the server serves, and nothing else. Its Watch is not among these: a stream costs memory.
OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})

#: a client that has not finished its TLS handshake by then is cut off
_HANDSHAKE_MS = 20_000
#: how soon a client that is gone without a word is noticed
_KEEPALIVE_MS = 120_000
_KEEPALIVE_TIMEOUT_MS = 20_000
#: how often it is logged that somebody was refused
_NOTE_EVERY_S = 60.0
#: room for requests about the server itself when the queue is full
_SPARE_REQUESTS = 1024
_ANY_NUMBER = 2**31 - 1
#: descriptors that a frontend needs for itself: workers that come and go, logs, gRPC's own
_OWN_DESCRIPTORS = 96

_TEXT = {
    Verdict.UNAUTHENTICATED: "valid credentials are needed: a bearer token or client certificate",
    Verdict.DENIED: "this client is not among those that are allowed",
}
_CODE = {
    Verdict.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Verdict.DENIED: grpc.StatusCode.PERMISSION_DENIED,
}


def connections_allowed(wanted: int) -> int:
    """How many connections there may be, so that descriptors are left for workers.

    Where clients could take the last one, no worker that died could be replaced.
    """
    descriptors, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        descriptors = most
    allowed = max(1, descriptors - _OWN_DESCRIPTORS)
    if allowed < wanted:
        logger.warning(
            "a process may have %d descriptors only: %d connections are taken instead of %d "
            "(ulimit -n raises it)",
            descriptors,
            allowed,
            wanted,
        )
    return min(wanted, allowed)


def server_options(
    settings: Settings, message_limit: int, *, shared: bool
) -> list[tuple[str, int]]:
    """gRPC's options for a server.

    Args:
        settings: the limits.
        message_limit: the largest message taken, bytes.
        shared: whether several frontends have the port.
    """
    options = [
        ("grpc.max_receive_message_length", message_limit),
        ("grpc.max_send_message_length", -1),
        # One cell owns the port alone: a second server must not share it unnoticed.
        ("grpc.so_reuseport", int(shared)),
        (
            "grpc.max_allowed_incoming_connections",
            connections_allowed(settings.limits.max_connections),
        ),
        ("grpc.max_concurrent_streams", settings.limits.max_streams),
        # Between a soft and a hard limit gRPC refuses at random; nobody wants that.
        ("grpc.max_metadata_size", settings.limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.limits.max_metadata_bytes),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # gRPC's own 5 minutes cut off who asks for signs of life while a long queue answers
        # nothing, and the requests of that connection with it.
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            int(settings.limits.min_ping_interval_s * 1000),
        ),
        ("grpc.keepalive_permit_without_calls", 1),
        # Of a backlog beyond 1,000 gRPC drops calls at random, CANCELLED, which nobody tries
        # again. It is bounded by connections and streams; we refuse what is in it, and say so.
        ("grpc.server.max_pending_requests", _ANY_NUMBER),
        ("grpc.server.max_pending_requests_hard_limit", _ANY_NUMBER),
    ]
    for name, duration_s in (
        ("grpc.max_connection_idle_ms", settings.limits.max_connection_idle_s),
        ("grpc.max_connection_age_ms", settings.limits.max_connection_age_s),
    ):
        if duration_s:
            options.append((name, max(1, int(duration_s * 1000))))
    return options


def max_requests(settings: Settings, max_queue: int) -> int:
    """How many requests may be under way in a cell, their messages still arriving included."""
    return settings.limits.max_requests or max_queue + _SPARE_REQUESTS


def server_credentials(files: WatchedFile[Material]) -> grpc.ServerCredentials:
    """TLS whose files are looked at on every new connection.

    gRPC asks on threads of its own, before each handshake; connections that exist stay.
    """
    guard = threading.Lock()
    given = files.current()

    def newer() -> Any:
        nonlocal given
        with guard:
            material = files.current()
            if material is given:
                return None
            given = material
            return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given), newer, require_client_authentication=given.client_ca is not None
    )


def _configuration(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], material.client_ca
    )


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is untyped
    """Asks everybody who calls for credentials, before a message is received.

    Args:
        access: the rules. That certificates are verified is the TLS handshake's part.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._refusals = {verdict: self._refusal(verdict) for verdict in _CODE}
        self._refused = 0
        self._next_note_s = 0.0

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The method's own handler, one that looks at the certificate first, or a refusal."""
        if details.method in OPEN_METHODS:
            return await continuation(details)
        presented = []
        if self._access.by_header:
            presented = [
                value if isinstance(value, str) else ""
                for key, value in details.invocation_metadata
                if key == "authorization"
            ]
        if self._access.names and not presented:
            handler = await continuation(details)
            return handler and self._by_certificate(handler)
        verdict = self._access.judge(presented, frozenset())
        if verdict is Verdict.ALLOWED:
            return await continuation(details)
        return self._refusals[verdict]

    def _refusal(self, verdict: Verdict) -> Any:
        async def refuse(_requests: Any, context: Any) -> None:
            await self._refuse(verdict, context)

        # As a stream, because gRPC would receive a unary request's whole message first.
        return grpc.stream_stream_rpc_method_handler(refuse)

    async def _refuse(self, verdict: Verdict, context: Any) -> None:
        """Ends the call; a line a minute says that there were such calls."""
        self._refused += 1
        now_s = time.monotonic()
        if now_s >= self._next_note_s:
            logger.warning(
                "calls refused for want of valid credentials: %d; the last one came from %s",
                self._refused,
                context.peer(),
            )
            self._refused = 0
            self._next_note_s = now_s + _NOTE_EVERY_S
        await context.abort(_CODE[verdict], _TEXT[verdict])

    def _by_certificate(self, handler: Any) -> Any:
        """A handler that judges the peer's certificate, which only a call's context shows."""

        async def check(context: Any) -> None:
            verdict = self._access.judge((), peer_names(context.auth_context()))
            if verdict is not Verdict.ALLOWED:
                await self._refuse(verdict, context)

        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

            async def stream(request: Any, context: Any) -> Any:
                await check(context)
                async for answer in inner(request, context):
                    yield answer

            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, handler.request_deserializer, handler.response_serializer)

        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def unary(request: Any, context: Any) -> Any:
            await check(context)
            return await inner(request, context)

        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(unary, handler.request_deserializer, handler.response_serializer)


def peer_names(auth_context: Any) -> frozenset[str] | None:
    """The names in the verified certificate of a call's peer; None without one."""
    if not auth_context.get("x509_pem_cert"):
        return None
    return frozenset(
        name.decode(errors="replace")
        for kind in ("x509_common_name", "x509_subject_alternative_name")
        for name in auth_context.get(kind, ())
    )
