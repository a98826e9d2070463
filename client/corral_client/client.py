"""The client for programs that use threads, or nothing of the kind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import Any, TypeVar

import grpc

from corral_client import channels
from corral_client.addresses import grpc_target, parse_address
from corral_client.caller import Caller
from corral_client.calls import Call
from corral_client.errors import CorralClientError, Overloaded, from_rpc_error
from corral_client.security import PathLike, make_security
from corral_client.version import __version__

T = TypeVar("T")


class Client(Caller):
    """Talks to a server over several connections; may be used from many threads at once.

    Every method raises the errors of ``corral_client.errors``, all of them CorralClientError.

    Args:
        url: HOST:PORT of the server; unix:PATH; grpc:// or http:// before it, with an s: encrypted.
        model: for calls that name none.
        deadline_s: for calls that name none; every call has a deadline.
        connections: how many, used in turn.
        retry_overloaded: whether a refusal for want of room (Overloaded) is retried when the
            server suggests it. What is UNAVAILABLE is always retried, up to four times.
        tls: encrypt the connections; implied by ``ca`` and ``cert``.
        ca: file of the PEM certificates to trust; gRPC's own list if None.
        cert: file of the client's certificate chain, PEM, for servers that want one.
        key: file of its private key, PEM.
        token: bearer token, for servers that want one.

    Raises:
        OSError: a file cannot be read.
        ValueError: no connections, a certificate without its key, a file that holds none, a token
            or an address that is none.
    """

    def __init__(
        self,
        url: str = channels.DEFAULT_URL,
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
        address = parse_address(url, tls=bool(tls or ca or cert))
        self._security = make_security(
            tls=tls or address.tls, ca=ca, cert=cert, key=key, token=token
        )
        options = channels.options(address.target, f"corral-client/{__version__}")
        credentials = self._security.credentials
        self._channels = [
            grpc.insecure_channel(grpc_target(address.target), options=options)
            if credentials is None
            else grpc.secure_channel(grpc_target(address.target), credentials, options=options)
            for _ in range(connections)
        ]
        self._turns = itertools.cycle(self._channels)
        self._retry_overloaded = retry_overloaded
        self._closed = threading.Event()

    def close(self) -> None:
        """Closes the connections; calls under way end with an error."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def _connections(self) -> Iterable[Any]:
        return self._channels

    def _run(self, call: Call[T], deadline_s: float | None, connection: Any = None) -> T:
        deadline_s = channels.deadline_s(self.deadline_s if deadline_s is None else deadline_s)
        if not self._retry_overloaded or call.method not in channels.RETRIED:
            return self._attempt(call, deadline_s, deadline_s, connection)
        retries = channels.OverloadRetries(deadline_s)
        while True:
            try:
                return self._attempt(call, deadline_s, retries.left_s(), connection)
            except Overloaded as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise
            # Closing the client ends the pause, too.
            self._closed.wait(pause_s)

    def _attempt(self, call: Call[T], deadline_s: float, left_s: float, connection: Any) -> T:
        """Sends once; ``left_s`` is what earlier attempts left of the deadline."""
        if self._closed.is_set():
            raise CorralClientError("the client is closed")
        channel = connection or next(self._turns)
        try:
            # No serialiser: the message is bytes already.
            method = channel.unary_unary(channels.method_path(call.method))
            answer = method(call.message, timeout=left_s, metadata=self._security.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error, deadline_s) from None
        except ValueError:
            # That is how gRPC says that another thread has just closed the channel.
            if self._closed.is_set():
                raise CorralClientError("the client is closed") from None
            raise
        return call.read(answer)
