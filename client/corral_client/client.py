"""The client for programs that use threads, or nothing of the kind."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import grpc
from numpy.typing import NDArray

from corral_client import calls, channels, pictures
from corral_client.calls import Call, Inputs
from corral_client.codec import Label, Parameter
from corral_client.errors import (
    CorralClientError,
    DeadlineExceeded,
    NotFound,
    Unavailable,
    from_rpc_error,
)
from corral_client.pages import ModelMetadata, ModelStatistics
from corral_client.pictures import Encoded, Picture, Pictures
from corral_client.security import PathLike, make_security
from corral_client.version import __version__

T = TypeVar("T")


class Client:
    """Talks to a server over several connections; may be used from many threads at once.

    Every method raises the errors of ``corral_client.errors``, all of them CorralClientError.

    Args:
        url: HOST:PORT of the server.
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
        ValueError: no connections, a certificate without its key, or a token that is none.
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
        self._security = make_security(tls=tls, ca=ca, cert=cert, key=key, token=token)
        options = channels.options(retry_overloaded, f"corral-client/{__version__}")
        credentials = self._security.credentials
        self._channels = [
            grpc.insecure_channel(url, options=options)
            if credentials is None
            else grpc.secure_channel(url, credentials, options=options)
            for _ in range(connections)
        ]
        self._turns = itertools.cycle(self._channels)
        self._closed = False

    @overload
    def infer(
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
    def infer(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
        classification: int,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> list[list[Label]]: ...

    def infer(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
        classification: int | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> NDArray[Any] | list[list[Label]]:
        """Runs the model.

        Args:
            inputs: float32 [n,3,224,224], normalised; uint8 [n,224,224,3], pixels; or encoded
                pictures as bytes, one or a list.
            model: its name.
            deadline_s: the answer is worth nothing after this.
            classification: the top k wanted instead of the output.
            request_id: sent along, for logs.
            parameters: the request's parameters.

        Returns:
            the output, float32 [n,classes]; with ``classification``, the labels of each item.
        """
        model = model or self.model
        if classification is None:
            return self._run(calls.infer(inputs, model, request_id, parameters), deadline_s)
        tensor = calls.as_tensor(inputs)
        return self._run(
            calls.classify(tensor, classification, model, request_id, parameters), deadline_s
        )

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is a Sequence[str], too
        self,
        picture: Encoded,
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Label]: ...

    @overload
    def classify(
        self,
        picture: Sequence[Picture],
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[list[Label]]: ...

    @overload
    def classify(
        self,
        picture: NDArray[Any],
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Any]: ...

    def classify(
        self,
        picture: Pictures,
        k: int = 5,
        *,
        model: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Label] | list[list[Label]]:
        """Says what is in a picture.

        Args:
            picture: a path or the bytes of a JPEG or PNG, or an array: uint8 [h,w,3] or float32
                [3,h,w] of the model's size. Several: a list of those, or an array with one
                dimension more, at most as many as the server takes in a request (32).
            k: how many labels.
            model: its name.
            deadline_s: the answer is worth nothing after this.

        Returns:
            the labels, best first; for several pictures a list of them each.

        Raises:
            OSError: a file cannot be read.
        """
        tensor = pictures.load(picture)
        rows = self._run(calls.classify(tensor, k, model or self.model), deadline_s)
        return rows[0] if pictures.is_single(picture) else rows

    def metadata(
        self, model: str | None = None, *, deadline_s: float | None = None
    ) -> ModelMetadata:
        """What a model takes and gives, and how it is run."""
        name = model or self.model
        found = self._run(calls.metadata(name), deadline_s)
        try:
            properties = self._run(calls.properties(name), deadline_s)
        except NotFound:
            # The protocol knows no such call: it is an extension of Triton's.
            return found
        return dataclasses.replace(found, properties=properties)

    def statistics(
        self, model: str = "", *, deadline_s: float | None = None
    ) -> list[ModelStatistics]:
        """What a model has done; all models when none is named."""
        return self._run(calls.statistics(model), deadline_s)

    def live(self, *, deadline_s: float | None = None) -> bool:
        """Whether the server is there at all."""
        return self._probe(calls.live(), deadline_s)

    def ready(self, *, deadline_s: float | None = None) -> bool:
        """Whether the server takes requests. False, too, when it cannot be reached."""
        return self._probe(calls.ready(), deadline_s)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Returns as soon as the server says on every connection that it is ready.

        Raises:
            DeadlineExceeded: it did not within ``timeout_s``.
        """
        patience = channels.Patience(f"{self.url} to be ready", timeout_s)
        for channel in self._channels:
            while (error := self._why_not_ready(channel, patience.attempt_s())) is not None:
                time.sleep(patience.pause_s(error))

    def close(self) -> None:
        """Closes the connections; calls under way end with an error."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        self.close()
        return False

    def _probe(self, call: Call[bool], deadline_s: float | None) -> bool:
        try:
            return self._run(call, deadline_s)
        except Unavailable:
            return False

    def _why_not_ready(self, channel: Any, attempt_s: float) -> CorralClientError | None:
        try:
            ready = self._run(calls.ready(), attempt_s, channel)
        except (Unavailable, DeadlineExceeded) as error:
            return error
        return None if ready else Unavailable(channels.NOT_READY)

    def _run(self, call: Call[T], deadline_s: float | None, channel: Any = None) -> T:
        if self._closed:
            raise CorralClientError("the client is closed")
        deadline_s = self.deadline_s if deadline_s is None else deadline_s
        channel = channel or next(self._turns)
        try:
            # No serialiser: the message is bytes already.
            method = channel.unary_unary(channels.method_path(call.method))
            answer = method(call.message, timeout=deadline_s, metadata=self._security.metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error, deadline_s) from None
        except ValueError:
            # That is how gRPC says that another thread has just closed the channel.
            if self._closed:
                raise CorralClientError("the client is closed") from None
            raise
        return call.read(answer)
