"""The client over the REST form: the standard library's HTTP, threads, and no gRPC connection."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from corral_client import channels, rest
from corral_client.addresses import on_this_machine, resolves_here
from corral_client.caller import Caller
from corral_client.calls import Call
from corral_client.errors import (
    CorralClientError,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    Unavailable,
)
from corral_client.security import PathLike, bearer, check_pair, make_context
from corral_client.version import __version__

T = TypeVar("T")

#: as gRPC's retries: after about 0.1, 0.2, 0.4 and 0.8 s
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_MAX_ANSWER_BYTES = 64 * 2**20
_MAYBE_PLAIN = "; does the server have TLS?"
#: who asks whether a server is there wants to know now
_PROBES = ("ServerLive", "ServerReady")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Opens the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Broken(Unavailable):
    """The connection cannot be made, or ended before the answer."""


class HttpClient(Caller):
    """Talks to a server in the REST form; may be used from many threads at once.

    It is ``Client`` with another wire: the same methods, arguments, answers and errors. A proxy
    that the environment names is used, but not for loopback and unix sockets.

    Args:
        url: HOST:PORT of the server, http://HOST:PORT, https://HOST:PORT or unix:PATH.
        model: for calls that name none.
        deadline_s: for calls that name none; the server is told, and no wait lasts longer.
        connections: how many are kept open for the next calls.
        retry_overloaded: whether a refusal for want of room (Overloaded) is tried again. What is
            Unavailable always is, up to four times.
        tls: encrypt the connections; implied by ``ca``, ``cert`` and https.
        ca: file of the PEM certificates to trust; the system's if None.
        cert: file of the client's certificate chain, PEM, for servers that want one.
        key: file of its private key, PEM.
        token: bearer token, for servers that want one.

    Raises:
        OSError: a file cannot be read.
        ValueError: no connections, a certificate without its key, a token or URL that is none.
    """

    def __init__(
        self,
        url: str = channels.DEFAULT_HTTP_URL,
        *,
        model: str = channels.DEFAULT_MODEL,
        deadline_s: float = channels.DEFAULT_DEADLINE_S,
        connections: int = channels.DEFAULT_CONNECTIONS,
        retry_overloaded: bool = False,
        tls: bool = False,
        ca: PathLike | None = None,
        cert: PathLike | None = None,
        key: PathLike | None = None,
        token: str | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError("a client needs at least one connection")
        super().__init__(url, model, deadline_s)
        self._path = url.removeprefix("unix:") if url.startswith("unix:") else None
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        odd = parts.scheme not in {"http", "https"} or not parts.hostname or port == -1
        # A name and password would be left out without a word.
        odd = odd or parts.username is not None
        if self._path == "":
            raise ValueError(f"{url!r} has no path")
        if self._path is None and (port == 0 or parts.netloc.endswith(":")):
            given = "" if port is None else str(port)
            raise ValueError(f"{url!r}: a port from 1 to 65535 is needed, not {given!r}")
        if self._path is None and (odd or parts.path not in {"", "/"} or parts.query):
            raise ValueError(f"{url!r} is no HOST:PORT, no http:// or https:// and no unix:PATH")
        self._host = parts.hostname or ""
        try:
            self._host.encode("idna")
        except UnicodeError:
            raise ValueError(f"{url!r}: {self._host!r} is no name of a host") from None
        secure = tls or ca is not None or cert is not None or parts.scheme == "https"
        self._port = port or (443 if secure else 80)
        check_pair(cert, key)
        self._context = make_context(ca=ca, cert=cert, key=key) if secure else None
        #: host and port of the proxy that the environment names; None: it goes direct
        self.proxy = None if self._path else _proxy(self._host, "https" if secure else "http")
        self._fields = {"User-Agent": f"corral-client/{__version__}", **dict(bearer(token) or ())}
        self._retried = (Unavailable, Overloaded) if retry_overloaded else (Unavailable,)
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue(connections)
        self._closed = False

    def close(self) -> None:
        """Closes the connections that are idle; the others end with their calls."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _connections(self) -> Iterable[Any]:
        # Each is made when it is needed: one that gets through tells for all.
        return (None,)

    def _run(self, call: Call[T], deadline_s: float | None, _connection: Any = None) -> T:
        if self._closed:
            raise CorralClientError("the client is closed")
        deadline_s = channels.deadline_s(self.deadline_s if deadline_s is None else deadline_s)
        end_s = time.monotonic() + deadline_s
        before: CorralClientError | None = None
        for attempt in range(_ATTEMPTS):
            try:
                return call.read(self._ask(call, end_s, deadline_s))
            except DeadlineExceeded as error:
                # Why it came to several attempts says more than that they took too long.
                raise (
                    error if before is None else DeadlineExceeded(f"{error}: {before}")
                ) from None
            except self._retried as error:
                before = error
                pause_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
                if isinstance(error, Overloaded) and error.retry_after_ms is not None:
                    pause_s = error.retry_after_ms / 1000
                left_s = end_s - time.monotonic()
                if call.method in _PROBES or attempt + 1 == _ATTEMPTS or pause_s >= left_s:
                    raise
            time.sleep(pause_s)
        raise AssertionError("the last attempt raises")

    def _ask(self, call: Call[Any], end_s: float, deadline_s: float) -> bytes:
        left_s = end_s - time.monotonic()
        asked = rest.request(call.method, call.message, max(left_s, 0.0))
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._open()
        else:
            # The server may have closed it meanwhile, which shows only now.
            try:
                return self._exchange(connection, call.method, asked, end_s, deadline_s)
            except _Broken:
                connection = self._open()
        return self._exchange(connection, call.method, asked, end_s, deadline_s)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        asked: rest.HttpCall,
        end_s: float,
        deadline_s: float,
    ) -> bytes:
        """One request and its answer; raises what the answer or the connection says."""
        # No wait for the network takes longer than what is left now.
        connection.timeout = left_s = max(end_s - time.monotonic(), 0.001)
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        body = asked.body if asked.verb == "POST" else None
        try:
            connection.request(asked.verb, asked.path, body, {**self._fields, **asked.fields})
            answer = connection.getresponse()
            content = answer.read(_MAX_ANSWER_BYTES + 1)
        except TimeoutError:
            connection.close()
            raise DeadlineExceeded(f"no answer within {deadline_s:g} s") from None
        except OSError as error:
            secured = isinstance(connection.sock, ssl.SSLSocket)
            connection.close()
            reason = error.strerror or str(error)
            # A server without TLS may say so by a reset, before there is any.
            cut_off = isinstance(error, ConnectionResetError) and self._context and not secured
            if isinstance(error, ssl.SSLError) or cut_off:
                reason += _MAYBE_PLAIN
            raise _Broken(f"{self.url} cannot be reached: {reason}") from None
        except http.client.HTTPException as error:
            connection.close()
            raise _Broken(f"{self.url} does not speak HTTP: {error!r}") from None
        if len(content) > _MAX_ANSWER_BYTES:
            connection.close()
            raise InternalError(f"the server's answer has more than {_MAX_ANSWER_BYTES} bytes")
        self._keep(connection)
        return rest.answer(method, answer.status, answer.headers.get, content, deadline_s)

    def _open(self) -> http.client.HTTPConnection:
        if self._path is not None:
            return _UnixConnection(self._path)
        host, port = self.proxy or (self._host, self._port)
        connection = (
            http.client.HTTPConnection(host, port)
            if self._context is None
            else http.client.HTTPSConnection(host, port, context=self._context)
        )
        if self.proxy is not None:
            connection.set_tunnel(self._host, self._port)
        return connection

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()
        if self._closed:
            self.close()


def _proxy(host: str, scheme: str) -> tuple[str, int] | None:
    """The proxy that the environment names for a host; None: none, or it is this machine."""
    url = urllib.request.getproxies().get(scheme)
    if url is None or on_this_machine(host) or urllib.request.proxy_bypass(host):
        return None
    if resolves_here(host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return (parts.hostname, parts.port or 80) if parts.hostname else None
