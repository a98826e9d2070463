"""What the server says of itself: metadata, configuration and statistics, as messages.

Pure: what is served and a copy of the counters in, protobuf messages out. The shapes of these
answers are those that Triton's clients and perf_analyzer go by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from corral import __version__
from corral.accuracy import AccuracyReport
from corral.errors import InvalidRequest, NotFound
from corral.ipc.messages import ModelFindings
from corral.metrics.counters import FAILURES, Counts
from corral.tensors import Datatype, Signature, TensorSpec, View
from corral_protos import open_inference_pb2 as pb

M = TypeVar("M", bound=Message)

#: the one version of every model
VERSION = "1"
#: what of Triton's extensions is true of corral
EXTENSIONS = ("classification", "model_configuration", "statistics")
#: batch sizes that the counters tell apart
_COUNTED_SIZES = range(1, 257)
#: a client's own words are quoted up to this length
_QUOTED_CHARS = 80


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What the pages tell of the model that is served under three names.

    Attributes:
        name: the base name; the views' names are made from it.
        signature: one item's shapes.
        max_items: items a request, shown as max_batch_size.
        workers: how many there are, in all cells.
        backend: "openvino", "null".
        precision: what came out, "fp32", "bf16" or "int8".
        weights: a person's description of the weights.
        synthetic: True when the weights carry no knowledge.
        mode: "rti" or "throughput".
        max_queue_delay_ms: the batcher's timer, 0 for none.
        queue_timeout_ms: how long a request may wait in the queue, 0 for ever.
        guard: what the precision guard found; None where FP32 was never in question.
        findings: what a worker found out of the model.
    """

    name: str
    signature: Signature
    max_items: int
    workers: int
    backend: str
    precision: str
    weights: str
    synthetic: bool
    mode: str
    max_queue_delay_ms: float = 0.0
    queue_timeout_ms: float = 0.0
    guard: AccuracyReport | None = None
    findings: ModelFindings = dataclasses.field(default_factory=ModelFindings)

    @property
    def platform(self) -> str:
        """The platform as clients see it, "corral_openvino"."""
        return f"corral_{self.backend}"


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """An input or output: its name, its datatype as the protocol has it, one item's shape."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def config_type(self) -> pb.DataType.ValueType:
        """The datatype as Triton's configuration names it."""
        kind = "STRING" if self.datatype == "BYTES" else self.datatype
        return pb.DataType.Value(f"TYPE_{kind}")


def _inputs(view: View, signature: Signature) -> list[_Tensor]:
    if view is View.IMAGE:
        return [_Tensor(signature.input_names[0], "BYTES", (1,))]
    datatype = signature.native if view is View.TENSOR else Datatype.UINT8
    return _tensors(signature.input_specs(datatype))


def _tensors(specs: Sequence[TensorSpec]) -> list[_Tensor]:
    return [_Tensor(spec.name, spec.datatype.name, spec.shape) for spec in specs]


#: channels of a picture
_CHANNELS = (1, 3)


def _layout(shape: tuple[int, ...]) -> pb.ModelInput.Format.ValueType:
    """How a picture lies in a tensor, for clients that fill it by themselves, told by its shape."""
    if len(shape) != 3 or (shape[0] in _CHANNELS) == (shape[2] in _CHANNELS):
        return pb.ModelInput.FORMAT_NONE
    return pb.ModelInput.FORMAT_NCHW if shape[0] in _CHANNELS else pb.ModelInput.FORMAT_NHWC


def view_names(base: str) -> dict[View, str]:
    """The model's names by view: NAME, NAME_uint8, NAME_image."""
    return {view: base + view.suffix for view in View}


def resolve_view(
    model_name: str, version: str, base: str, views: Collection[View] = tuple(View)
) -> View:
    """The view that a client's model name and version mean; the version may be empty.

    Args:
        model_name: what the client says.
        version: the same.
        base: the model's own name.
        views: those that it has, for the sentence.

    Raises:
        NotFound: this server has no such model or version; the sentence says what it has.
    """
    names = view_names(base)
    for view, name in names.items():
        if name == model_name:
            if version in {"", VERSION}:
                return view
            raise NotFound(
                f"model {name!r} has the version {VERSION!r} only, not {version[:_QUOTED_CHARS]!r}"
            )
    told = ", ".join(name for view, name in names.items() if view in views)
    raise NotFound(f"no model {model_name[:_QUOTED_CHARS]!r}; this server has: {told}")


def parse(kind: type[M], message: bytes) -> M:
    """The message that the bytes are.

    Raises:
        InvalidRequest: they are none of that kind.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.full_name}") from None


def server_metadata(*, shared_memory: bool = False) -> pb.ServerMetadataResponse:
    """Name, version and the extensions that are there."""
    extensions = (*EXTENSIONS, "system_shared_memory") if shared_memory else EXTENSIONS
    return pb.ServerMetadataResponse(name="corral", version=__version__, extensions=extensions)


def model_metadata(model: ModelDescription, view: View) -> pb.ModelMetadataResponse:
    """The inputs and outputs, batch dimension (-1) first."""
    make = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=view_names(model.name)[view],
        versions=[VERSION],
        platform=model.platform,
        inputs=[
            make(name=tensor.name, datatype=tensor.datatype, shape=(-1, *tensor.shape))
            for tensor in _inputs(view, model.signature)
        ],
        outputs=[
            make(name=tensor.name, datatype=tensor.datatype, shape=(-1, *tensor.shape))
            for tensor in _tensors(model.signature.output_specs)
        ],
    )


def _parameters(model: ModelDescription) -> dict[str, str]:
    return {
        "backend": model.backend,
        "mode": model.mode,
        "precision": model.precision,
        "synthetic": "true" if model.synthetic else "false",
        "weights": model.weights,
        **_guard_parameters(model.guard),
        # What nobody found out is not said.
        **{key: value for key, value in msgspec.structs.asdict(model.findings).items() if value},
    }


def _guard_parameters(report: AccuracyReport | None) -> dict[str, str]:
    if report is None:
        return {}
    properties = {"guard": report.verdict, "guard_candidate": report.candidate}
    fidelity = report.fidelity
    if fidelity is None:
        return properties
    properties["accuracy_snr_db"] = f"{fidelity.snr_db:.1f}"
    for measure in ("loss", "loss_most", "top1", "kl"):
        value = getattr(fidelity, measure)
        if value is not None:
            properties[f"accuracy_{measure}"] = f"{value:.4f}"
    return properties


def model_config(
    model: ModelDescription, view: View, batch_sizes: Sequence[int]
) -> pb.ModelConfigResponse:
    """Triton's model configuration, dims without the batch dimension.

    Args:
        model: what is served.
        view: the signature asked for.
        batch_sizes: the compiled sizes, that is what one execution takes.
    """
    name = view_names(model.name)[view]
    config = pb.ModelConfig(
        name=name,
        platform=model.platform,
        backend=model.backend,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        max_batch_size=model.max_items,
        input=[
            pb.ModelInput(
                name=tensor.name,
                data_type=tensor.config_type,
                format=_layout(tensor.shape),
                dims=tensor.shape,
            )
            for tensor in _inputs(view, model.signature)
        ],
        output=[
            pb.ModelOutput(name=tensor.name, data_type=tensor.config_type, dims=tensor.shape)
            for tensor in _tensors(model.signature.output_specs)
        ],
        instance_group=[
            pb.ModelInstanceGroup(
                name=f"{name}_0", count=model.workers, kind=pb.ModelInstanceGroup.KIND_CPU
            )
        ],
        dynamic_batching=pb.ModelDynamicBatching(
            # Triton's clients take a preferred size above max_batch_size for a broken server.
            preferred_batch_size=sorted({n for n in batch_sizes if n <= model.max_items}),
            max_queue_delay_microseconds=round(model.max_queue_delay_ms * 1000),
            default_queue_policy=_queue_policy(model),
        ),
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )
    for key, value in _parameters(model).items():
        config.parameters[key].string_value = value
    return pb.ModelConfigResponse(config=config)


def _queue_policy(model: ModelDescription) -> pb.ModelQueuePolicy | None:
    """What becomes of requests that wait: as in Triton, a request may shorten its wait."""
    if not model.queue_timeout_ms:
        return None
    return pb.ModelQueuePolicy(
        default_timeout_microseconds=round(model.queue_timeout_ms * 1000),
        allow_timeout_override=True,
    )


def model_statistics(
    counts: Counts, base: str, views: Iterable[View]
) -> pb.ModelStatisticsResponse:
    """Statistics since the server started, all cells summed.

    Args:
        counts: a copy of the counters.
        base: the name of the model that is served.
        views: those that were asked for.
    """
    batches = _batch_statistics(counts)
    return pb.ModelStatisticsResponse(
        model_stats=[_statistics(counts, base, view, batches) for view in views]
    )


def _statistics(
    counts: Counts, base: str, view: View, batches: list[pb.InferBatchStatistics]
) -> pb.ModelStatistics:
    def read(key: str) -> int:
        return counts.read(f"view/{view}/{key}")

    succeeded = read("succeeded")

    def spent(key: str) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=succeeded, ns=read(key))

    failures = sum(read(f"failure_{reason}") for reason in FAILURES)
    return pb.ModelStatistics(
        name=view_names(base)[view],
        version=VERSION,
        last_inference=counts.latest(f"view/{view}/last_inference_ms"),
        inference_count=read("inferences"),
        execution_count=read("executions"),
        inference_stats=pb.InferStatistics(
            success=spent("success_ns"),
            fail=pb.StatisticDuration(count=failures, ns=read("fail_ns")),
            queue=spent("queue_ns"),
            compute_input=spent("compute_input_ns"),
            compute_infer=spent("compute_infer_ns"),
            compute_output=spent("compute_output_ns"),
        ),
        batch_stats=batches,
    )


def _batch_statistics(counts: Counts) -> list[pb.InferBatchStatistics]:
    """The workers' batches by size. The views share workers and batches, so they share these."""
    batches = []
    for size in _COUNTED_SIZES:
        executions = counts.read(f"size/{size}/executions")
        if executions:
            batches.append(
                pb.InferBatchStatistics(
                    batch_size=size,
                    compute_infer=pb.StatisticDuration(
                        count=executions, ns=counts.read(f"size/{size}/infer_ns")
                    ),
                )
            )
    return batches
