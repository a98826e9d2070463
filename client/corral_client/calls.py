"""Every call as a value: where it goes, its message, and how its answer is read. Pure.

The two clients only carry these out; what a call means is said here, once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from corral_client import codec, pages
from corral_client.codec import Label, Parameter, Tensor
from corral_client.errors import InvalidArgument
from corral_protos import open_inference_pb2 as pb

#: what ``infer`` takes: an array with its batch dimension, encoded pictures, or a ready tensor
Inputs = NDArray[Any] | bytes | Sequence[bytes] | Tensor

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One unary call.

    Attributes:
        method: of the service, "ModelInfer".
        message: the serialised request.
        read: makes the result from the serialised answer.
    """

    method: str
    message: bytes
    read: Callable[[bytes], T]


def infer(
    inputs: Inputs, model: str, request_id: str | None, parameters: Mapping[str, Parameter] | None
) -> Call[NDArray[Any]]:
    """ModelInfer for the logits."""
    message = codec.infer_request(
        as_tensor(inputs), model=model, request_id=request_id, parameters=parameters
    )
    return Call("ModelInfer", message, codec.read_output)


def infer_all(
    inputs: Inputs | Mapping[str, Inputs],
    outputs: Sequence[str],
    model: str,
    request_id: str | None,
    parameters: Mapping[str, Parameter] | None,
) -> Call[dict[str, NDArray[Any]]]:
    """ModelInfer for several outputs by name; all where none is named."""
    tensors: Tensor | dict[str, Tensor]
    if isinstance(inputs, Mapping):
        tensors = {name: as_tensor(given, every=True) for name, given in inputs.items()}
    else:
        tensors = as_tensor(inputs, every=True)
    message = codec.infer_request(
        tensors, model=model, outputs=outputs, request_id=request_id, parameters=parameters
    )
    return Call("ModelInfer", message, codec.read_outputs)


def classify(
    tensor: Tensor,
    k: int,
    model: str,
    request_id: str | None = None,
    parameters: Mapping[str, Parameter] | None = None,
) -> Call[list[list[Label]]]:
    """ModelInfer for the ``k`` best labels of each item."""
    message = codec.infer_request(
        tensor, model=model, classification=k, request_id=request_id, parameters=parameters
    )
    return Call("ModelInfer", message, codec.read_labels)


def metadata(model: str) -> Call[pages.ModelMetadata]:
    """ModelMetadata, which says nothing of how the model is run; see ``properties``."""
    message = pb.ModelMetadataRequest(name=model).SerializeToString()
    return Call("ModelMetadata", message, pages.read_metadata)


def properties(model: str) -> Call[dict[str, str]]:
    """ModelConfig for its parameters: what corral tells of how the model is run."""
    message = pb.ModelConfigRequest(name=model).SerializeToString()
    return Call("ModelConfig", message, pages.read_properties)


def statistics(model: str) -> Call[list[pages.ModelStatistics]]:
    """ModelStatistics; of all models when ``model`` is empty."""
    message = pb.ModelStatisticsRequest(name=model).SerializeToString()
    return Call("ModelStatistics", message, pages.read_statistics)


def live() -> Call[bool]:
    """ServerLive."""
    return Call("ServerLive", b"", pages.read_live)


def ready() -> Call[bool]:
    """ServerReady."""
    return Call("ServerReady", b"", pages.read_ready)


def as_tensor(inputs: Inputs, *, every: bool = False) -> Tensor:
    """What ``infer`` was given, as an input; ``every``: see ``codec.from_array``.

    Raises:
        InvalidArgument: it is neither an array of a known dtype nor encoded pictures.
    """
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, np.ndarray):
        return codec.from_array(inputs, every=every)
    pictures = [inputs] if isinstance(inputs, bytes) else list(inputs)
    if not all(isinstance(picture, bytes) for picture in pictures):
        raise InvalidArgument("infer takes a numpy array, or encoded pictures as bytes")
    return codec.from_pictures(pictures)
