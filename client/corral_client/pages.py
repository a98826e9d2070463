"""What a server says of itself, read into plain values. Pure."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from corral_client.errors import InternalError
from corral_protos import open_inference_pb2 as pb

M = TypeVar("M", bound=Message)


@dataclasses.dataclass(frozen=True, slots=True)
class TensorMetadata:
    """An input or output of a model; -1 in ``shape`` is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


#: "independent_probabilities" are of classes that do not exclude one another, as a sigmoid's
OUTPUT_KINDS = ("logits", "probabilities", "percentages", "independent_probabilities")


@dataclasses.dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives.

    Attributes:
        name: the model's.
        versions: those that are there.
        platform: "corral_openvino".
        inputs: what it takes.
        outputs: what it gives.
        properties: what else corral tells: "weights", "precision", "backend", "mode",
            "synthetic", "output_kind"; empty with other servers.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    properties: dict[str, str]

    @property
    def synthetic(self) -> bool:
        """True when the weights carry no knowledge, so that labels mean nothing."""
        return self.properties.get("synthetic") == "true"

    @property
    def output_kind(self) -> str | None:
        """What the outputs are, one of ``OUTPUT_KINDS``; None when the server does not say."""
        kind = self.properties.get("output_kind")
        return kind if kind in OUTPUT_KINDS else None

    @property
    def classes(self) -> int | None:
        """Values of the first output for an item, the number of classes; None when not fixed.

        Servers flatten what has more sides for a classification, [n,1000,1,1], say.
        """
        shape = self.outputs[0].shape if self.outputs else ()
        sides = shape[1:] or shape
        return math.prod(sides) if sides and min(sides) > 0 else None


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """Time that was spent on something.

    Attributes:
        count: how often.
        ns: in all, nanoseconds.
    """

    count: int
    ns: int

    @property
    def mean_ms(self) -> float:
        """Milliseconds each time; 0 when there was none."""
        return self.ns / self.count / 1e6 if self.count else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What a model has done since the server started.

    Attributes:
        name: the model's.
        version: its version.
        inference_count: items answered.
        execution_count: batches run.
        last_inference_ms: time of the latest, milliseconds since the epoch.
        success: whole requests that were answered.
        fail: whole requests that were not.
        queue: waiting.
        compute_input: making inputs ready.
        compute_infer: the model.
        compute_output: making answers.
        batches: the model's time by batch size.
    """

    name: str
    version: str
    inference_count: int
    execution_count: int
    last_inference_ms: int
    success: Spent
    fail: Spent
    queue: Spent
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent
    batches: dict[int, Spent]


def read_metadata(message: bytes) -> ModelMetadata:
    """Reads a ModelMetadataResponse, without properties; raises InternalError when it is none."""
    page = parse(pb.ModelMetadataResponse, message)
    return ModelMetadata(
        name=page.name,
        versions=tuple(page.versions),
        platform=page.platform,
        inputs=tuple(_tensor(tensor) for tensor in page.inputs),
        outputs=tuple(_tensor(tensor) for tensor in page.outputs),
        properties={},
    )


def read_properties(message: bytes) -> dict[str, str]:
    """Reads a ModelConfigResponse's parameters; raises InternalError when it is none."""
    parameters = parse(pb.ModelConfigResponse, message).config.parameters
    return {name: parameter.string_value for name, parameter in parameters.items()}


def read_statistics(message: bytes) -> list[ModelStatistics]:
    """Reads a ModelStatisticsResponse; raises InternalError when it is none."""
    return [_statistics(stats) for stats in parse(pb.ModelStatisticsResponse, message).model_stats]


def read_live(message: bytes) -> bool:
    """Reads a ServerLiveResponse; raises InternalError when it is none."""
    return parse(pb.ServerLiveResponse, message).live


def read_ready(message: bytes) -> bool:
    """Reads a ServerReadyResponse; raises InternalError when it is none."""
    return parse(pb.ServerReadyResponse, message).ready


def parse(kind: type[M], message: bytes) -> M:
    """Reads any message of the protocol.

    Raises:
        InternalError: the server sent something else.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InternalError(f"the server's answer is no {kind.DESCRIPTOR.name}") from None


def _tensor(tensor: pb.ModelMetadataResponse.TensorMetadata) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape))


def _statistics(stats: pb.ModelStatistics) -> ModelStatistics:
    spent = stats.inference_stats
    return ModelStatistics(
        name=stats.name,
        version=stats.version,
        inference_count=stats.inference_count,
        execution_count=stats.execution_count,
        last_inference_ms=stats.last_inference,
        success=_spent(spent.success),
        fail=_spent(spent.fail),
        queue=_spent(spent.queue),
        compute_input=_spent(spent.compute_input),
        compute_infer=_spent(spent.compute_infer),
        compute_output=_spent(spent.compute_output),
        batches={batch.batch_size: _spent(batch.compute_infer) for batch in stats.batch_stats},
    )


def _spent(duration: pb.StatisticDuration) -> Spent:
    return Spent(duration.count, duration.ns)
