"""The metrics endpoint: /metrics, /livez and /readyz over HTTP or HTTPS, in a thread of its own.

Standard library only. Whatever clients do, it holds a bounded number of threads, each for a
bounded time: a connection serves one request and is cut off when its time is over. Where clients
need credentials, /metrics does; /livez and /readyz do not, for the probes that ask have none.
"""

from __future__ import annotations

import errno
import http
import http.server
import logging
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from corral.errors import ConfigError
from corral.metrics.negotiation import OPENMETRICS, TEXT, wants_openmetrics
from corral.security.credentials import Access, Verdict
from corral.security.tls import Material, peer_names
from corral.system.addresses import find_addresses, format_address
from corral.system.watched_file import WatchedFile

_log = logging.getLogger(__name__)

#: what Prometheus calls the text format
CONTENT_TYPE = TEXT
_PLAIN = "text/plain; charset=utf-8"
#: connections served at once; further ones are closed
MAX_CONNECTIONS = 32
#: a whole connection, from accept to close, seconds
MAX_CONNECTION_S = 5.0
#: how often the accepting thread looks for connections whose time is over, seconds
POLL_S = 0.25


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection with one request."""

    server: _Server
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = _PLAIN

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._send(http.HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n")

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            if not self._is_let_in():
                return
            collect, content_type = self.server.collect, CONTENT_TYPE
            accept = ",".join(self.headers.get_all("Accept", []))
            if self.server.openmetrics is not None and wants_openmetrics(accept):
                collect, content_type = self.server.openmetrics, OPENMETRICS
            try:
                page = collect()
            # A defect of one collector must not end the thread that answers health checks.
            except Exception:
                _log.exception("the metrics could not be collected")
                self._send(http.HTTPStatus.INTERNAL_SERVER_ERROR, b"not to be had\n")
            else:
                self._send(http.HTTPStatus.OK, page, content_type)
        elif path == "/livez":
            self._send(http.HTTPStatus.OK, b"live\n")
        elif path == "/readyz":
            if self.server.ready():
                self._send(http.HTTPStatus.OK, b"ready\n")
            else:
                self._send(http.HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
        else:
            self._send(http.HTTPStatus.NOT_FOUND, b"there are /metrics, /livez and /readyz\n")

    def _is_let_in(self) -> bool:
        """Whether the client may see the metrics; it has been told so if not."""
        access = self.server.access
        if access is None:
            return True
        presented = self.headers.get_all("Authorization", [])
        verdict = access.judge(presented, peer_names(self.connection))
        if verdict is Verdict.UNAUTHENTICATED:
            self._send(http.HTTPStatus.UNAUTHORIZED, b"valid credentials are needed\n")
        elif verdict is Verdict.DENIED:
            self._send(http.HTTPStatus.FORBIDDEN, b"this client is not allowed\n")
        return verdict in {Verdict.ALLOWED, Verdict.ALLOWED_IN_BULK}

    def _send(self, status: http.HTTPStatus, body: bytes, content_type: str = _PLAIN) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status is http.HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if status is http.HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """The Server header, without the interpreter's version."""
        return "corral"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        _log.debug(format, *args)


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's: that one asks the resolver for the machine's name, for seconds at times.

    One poll of the accepting thread also cuts off the connections whose time is over; a timeout
    on the socket would begin anew with every byte that a slow client sends.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        family: socket.AddressFamily,
        address: tuple[Any, ...],
        collect: Callable[[], bytes],
        ready: Callable[[], bool],
        *,
        openmetrics: Callable[[], bytes] | None,
        access: Access | None,
        files: WatchedFile[Material] | None,
    ) -> None:
        self.address_family = family
        self.collect = collect
        self.ready = ready
        self.openmetrics = openmetrics
        self.access = access
        self._files = files
        self._deadlines: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        request, address = super().get_request()
        if self._files is not None:
            # Not shaken hands yet: that waits for the client, and so it is its thread's part.
            try:
                request = self._files.current().context.wrap_socket(
                    request, server_side=True, do_handshake_on_connect=False
                )
            # Whatever the files are just now: it costs one connection, not the thread.
            except Exception as error:
                request.close()
                if isinstance(error, OSError):
                    raise
                _log.exception("a connection to the metrics endpoint could not be secured")
                # The only kind of error that costs socketserver a connection and not its thread.
                raise OSError("no TLS") from error
        return request, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
        super().finish_request(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            accepted = len(self._deadlines) < MAX_CONNECTIONS
            if accepted:
                self._deadlines[request] = time.monotonic() + MAX_CONNECTION_S
        if accepted:
            super().process_request(request, client_address)
        else:
            self.close_request(request)

    def shutdown_request(self, request: Any) -> None:
        # Forgotten before it is closed: its number may be another connection's a moment later.
        with self._guard:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        now = time.monotonic()
        with self._guard:
            for connection, deadline in self._deadlines.items():
                if now > deadline:
                    _end(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        broken = isinstance(sys.exception(), OSError)
        level = logging.DEBUG if broken else logging.ERROR
        _log.log(level, "a connection to the metrics endpoint broke", exc_info=True)


def _end(connection: socket.socket) -> None:
    """Ends a connection under the thread that reads or writes it, which then closes it."""
    try:
        # Not SSLSocket's own, which takes the thread's encryption away and goes on without.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        _log.debug("the connection had ended already")


class MetricsServer:
    """The endpoint.

    Args:
        host: name or address to bind; of a name, all addresses that this machine has.
        port: 0 for a free one.
        collect: renders the metrics; called from the server's threads, one or several at a time.
        ready: what /readyz says; called likewise.
        openmetrics: renders the metrics as OpenMetrics; None: nobody gets that.
        access: who may see /metrics; None: everybody.
        files: certificate and key; None: plain HTTP.

    Raises:
        ConfigError: the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        collect: Callable[[], bytes],
        ready: Callable[[], bool],
        *,
        openmetrics: Callable[[], bytes] | None = None,
        access: Access | None = None,
        files: WatchedFile[Material] | None = None,
    ) -> None:
        self._servers: list[_Server] = []
        refusal: OSError | None = None
        #: the port that it is bound to
        self.port = port
        try:
            found = find_addresses(host, port)
        except OSError as error:
            found, refusal = [], error
        for family, address in found:
            where = (address[0], self.port, *address[2:])
            try:
                server = _Server(
                    family,
                    where,
                    collect,
                    ready,
                    openmetrics=openmetrics,
                    access=access,
                    files=files,
                )
            except OSError as error:
                # A name may have addresses that this machine has not: ::1 where IPv6 is off.
                refusal = error
                if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    continue
                self._close()
                self._servers = []
                break
            self._servers.append(server)
            self.port = int(server.server_address[1])
        if refusal is not None and not self._servers:
            raise ConfigError(
                f"--metrics-port: cannot listen on {format_address(host, port)}: {refusal.strerror}"
            ) from None
        self._threads = [
            threading.Thread(
                target=server.serve_forever, args=(POLL_S,), name="metrics", daemon=True
            )
            for server in self._servers
        ]

    def start(self) -> None:
        """Starts to serve, in a daemon thread an address."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Closes the port; connections under way end by themselves. Also before ``start``."""
        for server, thread in zip(self._servers, self._threads, strict=True):
            if thread.is_alive():
                server.shutdown()
                thread.join()
        self._close()

    def _close(self) -> None:
        for server in self._servers:
            server.server_close()
