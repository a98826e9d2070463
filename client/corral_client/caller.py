"""What can be asked of a server, for programs that use threads or nothing of the kind.

How a call gets there and back is the part of those who inherit: client.py and http.py.
"""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from numpy.typing import NDArray

from corral_client import calls, channels, pictures
from corral_client.calls import Call, Inputs
from corral_client.codec import Label, Parameter
from corral_client.errors import CorralClientError, DeadlineExceeded, NotFound, Unavailable
from corral_client.pages import ModelMetadata, ModelStatistics
from corral_client.pictures import Encoded, Picture, Pictures

T = TypeVar("T")


class Caller(abc.ABC):
    """The calls.

    Args:
        url: of the server, for error messages.
        model: for calls that name none.
        deadline_s: for calls that name none.
    """

    def __init__(self, url: str, model: str, deadline_s: float) -> None:
        self.url = url
        self.model = model
        self.deadline_s = deadline_s

    @abc.abstractmethod
    def _run(self, call: Call[T], deadline_s: float | None, connection: Any = None) -> T:
        """The call's result; on one connection where that is given."""

    @abc.abstractmethod
    def _connections(self) -> Iterable[Any]:
        """What ``_run`` takes as a connection, each."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connections; calls under way end with an error."""

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

    def infer_all(
        self,
        inputs: Inputs | Mapping[str, Inputs],
        *,
        outputs: Sequence[str] = (),
        model: str | None = None,
        deadline_s: float | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Runs a model of several inputs or outputs.

        Args:
            inputs: arrays by the inputs' names, of any dtype that the protocol has, each with its
                batch dimension; or, of a model with one input, what ``infer`` takes.
            outputs: names of those that are wanted; all if empty.
            model: its name.
            deadline_s: the answer is worth nothing after this.
            request_id: sent along, for logs.
            parameters: the request's parameters.

        Returns:
            the outputs by name; of BF16 as float32.
        """
        call = calls.infer_all(inputs, outputs, model or self.model, request_id, parameters)
        return self._run(call, deadline_s)

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
        for connection in self._connections():
            while (error := self._why_not_ready(connection, patience.attempt_s())) is not None:
                time.sleep(patience.pause_s(error))

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

    def _why_not_ready(self, connection: Any, attempt_s: float) -> CorralClientError | None:
        try:
            ready = self._run(calls.ready(), attempt_s, connection)
        except (Unavailable, DeadlineExceeded) as error:
            return error
        return None if ready else Unavailable(channels.NOT_READY)
