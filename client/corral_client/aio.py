"""The client for asyncio; the twin of client.py, method for method."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import grpc
import grpc.aio
from numpy.typing import NDArray

from corral_client import calls, channels, pictures
from corral_client.addresses import grpc_target, parse_address
from corral_client.calls import Call, Inputs
from corral_client.codec import Label, Parameter
from corral_client.errors import (
    CorralClientError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Unavailable,
    from_rpc_error,
)
from corral_client.pages import ModelMetadata, ModelStatistics
from corral_client.pictures import Encoded, Picture, Pictures
from corral_client.security import PathLike, make_security
from corral_client.version import __version__

T = TypeVar("T")


class AsyncClient:
    """Talks to a server over several connections, from one event loop.

    It is ``Client`` with ``await``: the same methods, arguments, answers and errors. Cancelling
    a task cancels its call, in the server as well. It may be made outside of a running loop; it
    belongs to the loop in which it is used first.

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
        self.url = url
        self.model = model
        self.deadline_s = deadline_s
        address = parse_address(url, tls=bool(tls or ca or cert))
        self._security = make_security(
            tls=tls or address.tls, ca=ca, cert=cert, key=key, token=token
        )
        self._target = grpc_target(address.target)
        self._options = channels.options(address.target, f"corral-client/{__version__}")
        self._connections = connections
        self._channels: list[Any] = []
        self._turns = itertools.count()
        self._retry_overloaded = retry_overloaded
        self._closed = asyncio.Event()

    @overload
    async def infer(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
        classification: None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> NDArray[Any]: ...

    @overload
    async def infer(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
        classification: int,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> list[list[Label]]: ...

    async def infer(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
        classification: int | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> NDArray[Any] | list[list[Label]]:
        """Runs the model; see ``Client.infer``."""
        model = model or self.model
        if classification is None:
            return await self._run(calls.infer(inputs, model, request_id, parameters), deadline_s)
        tensor = calls.as_tensor(inputs)
        return await self._run(
            calls.classify(tensor, classification, model, request_id, parameters), deadline_s
        )

    async def infer_all(
        self,
        inputs: Inputs | Mapping[str, Inputs],
        *,
        outputs: Sequence[str] = (),
        model: str | None = None,
        deadline_s: float | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Runs a model of several inputs or outputs; see ``Client.infer_all``."""
        call = calls.infer_all(inputs, outputs, model or self.model, request_id, parameters)
        return await self._run(call, deadline_s)

    @overload
    async def classify(  # type: ignore[overload-overlap]  # a str is a Sequence[str], too
        self,
        picture: Encoded,
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Label]: ...

    @overload
    async def classify(
        self,
        picture: Sequence[Picture],
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[list[Label]]: ...

    @overload
    async def classify(
        self,
        picture: NDArray[Any],
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Any]: ...

    async def classify(
        self,
        picture: Pictures,
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Label] | list[list[Label]]:
        """Says what is in a picture; see ``Client.classify``. Files are read in a thread."""
        if pictures.on_disk(picture):
            tensor = await asyncio.to_thread(pictures.load, picture)
        else:
            tensor = pictures.load(picture)
        rows = await self._run(calls.classify(tensor, k, model or self.model), deadline_s)
        return rows[0] if pictures.is_single(picture) else rows

    async def metadata(
        self, model: str | None = None, *, deadline_s: float | None = None
    ) -> ModelMetadata:
        """What a model takes and gives, and how it is run."""
        name = model or self.model
        found = await self._run(calls.metadata(name), deadline_s)
        try:
            properties = await self._run(calls.properties(name), deadline_s)
        except NotFound:
            # The protocol knows no such call: it is an extension of Triton's.
            return found
        return dataclasses.replace(found, properties=properties)

    async def statistics(
        self, model: str = "", *, deadline_s: float | None = None
    ) -> list[ModelStatistics]:
        """What a model has done; all models when none is named."""
        return await self._run(calls.statistics(model), deadline_s)

    async def live(self, *, deadline_s: float | None = None) -> bool:
        """Whether the server is there at all."""
        return await self._probe(calls.live(), deadline_s)

    async def ready(self, *, deadline_s: float | None = None) -> bool:
        """Whether the server takes requests. False, too, when it cannot be reached."""
        return await self._probe(calls.ready(), deadline_s)

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Returns as soon as the server says on every connection that it is ready.

        Raises:
            DeadlineExceeded: it did not within ``timeout_s``.
        """
        patience = channels.Patience(f"{self.url} to be ready", timeout_s)
        for connection in range(self._connections):
            while True:
                error = await self._why_not_ready(connection, patience.attempt_s())
                if error is None:
                    break
                await asyncio.sleep(patience.pause_s(error))

    async def close(self) -> None:
        """Closes the connections; calls under way end with an error."""
        self._closed.set()
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        await self.close()
        return False

    async def _probe(self, call: Call[bool], deadline_s: float | None) -> bool:
        try:
            return await self._run(call, deadline_s)
        except Unavailable:
            return False

    async def _why_not_ready(self, connection: int, attempt_s: float) -> CorralClientError | None:
        try:
            ready = await self._run(calls.ready(), attempt_s, connection)
        except (Unavailable, DeadlineExceeded) as error:
            return error
        return None if ready else Unavailable(channels.NOT_READY)

    def _channel(self, connection: int | None) -> Any:
        if not self._channels:
            # Not in the constructor: a channel belongs to the loop that runs when it is made.
            credentials = self._security.credentials
            self._channels = [
                grpc.aio.insecure_channel(self._target, options=self._options)
                if credentials is None
                else grpc.aio.secure_channel(self._target, credentials, options=self._options)
                for _ in range(self._connections)
            ]
        turn = next(self._turns) if connection is None else connection
        return self._channels[turn % self._connections]

    async def _run(
        self, call: Call[T], deadline_s: float | None, connection: int | None = None
    ) -> T:
        deadline_s = channels.deadline_s(self.deadline_s if deadline_s is None else deadline_s)
        if not self._retry_overloaded or call.method not in channels.RETRIED:
            return await self._attempt(call, deadline_s, deadline_s, connection)
        retries = channels.OverloadRetries(deadline_s)
        while True:
            try:
                return await self._attempt(call, deadline_s, retries.left_s(), connection)
            except Overloaded as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise
            # Closing the client ends the pause, too.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), pause_s)

    async def _attempt(
        self, call: Call[T], deadline_s: float, left_s: float, connection: int | None
    ) -> T:
        """Sends once; ``left_s`` is what earlier attempts left of the deadline."""
        if self._closed.is_set():
            raise CorralClientError("the client is closed")
        # No serialiser: the message is bytes already.
        method = self._channel(connection).unary_unary(channels.method_path(call.method))
        try:
            answer = await method(call.message, timeout=left_s, metadata=self._security.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error, deadline_s) from None
        except asyncio.CancelledError:
            # gRPC reports a closed channel like this, too; only the task's own may pass.
            task = asyncio.current_task()
            if self._closed.is_set() and (task is None or not task.cancelling()):
                raise CorralClientError("the client was closed during the call") from None
            raise
        return call.read(answer)
