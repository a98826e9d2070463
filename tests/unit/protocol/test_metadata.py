"""Metadata, configuration and statistics, read back with the classes of Triton's client."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st
from support.described import describe
from tritonclient.grpc import model_config_pb2, service_pb2

from corral import __version__
from corral.accuracy import AccuracyReport
from corral.errors import NotFound
from corral.frontend.pages import as_dict
from corral.ipc.messages import ModelFindings
from corral.metrics import counters
from corral.protocol import metadata as protocol_pages
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb

MODEL = describe(
    workers=3,
    backend="openvino",
    precision="int8",
    weights="torchvision IMAGENET1K_V2",
    synthetic=False,
    mode="throughput",
    max_queue_delay_ms=1.5,
)
#: by view: its name, the protocol's datatype, Triton's, one item's shape
VIEWS = {
    View.TENSOR: ("resnet50", "FP32", model_config_pb2.TYPE_FP32, [3, 224, 224]),
    View.UINT8: ("resnet50_uint8", "UINT8", model_config_pb2.TYPE_UINT8, [224, 224, 3]),
    View.IMAGE: ("resnet50_image", "BYTES", model_config_pb2.TYPE_STRING, [1]),
}


def unknown_fields(message: Message) -> list[int]:
    """Numbers of the fields that the message's class does not know."""
    fields = UnknownFieldSet(message)
    return [fields[i].field_number for i in range(len(fields))]


def seen_by_triton(message: Message, kind: Any) -> Any:
    """The message as Triton's client parses it."""
    return kind.FromString(message.SerializeToString())


def counts(*pages: dict[str, int]) -> counters.Counts:
    """A copy of the counters with a page for each argument."""
    layout = counters.make_layout(2)
    fd = counters.create_memory(layout, len(pages))
    memory = counters.Pages(fd, layout, len(pages))
    os.close(fd)
    for cell, numbers in enumerate(pages):
        for key, value in numbers.items():
            memory.page(cell)[layout.index[key]] = value
    return memory.snapshot()


def test_server_metadata_lists_only_extensions_that_are_there() -> None:
    page = seen_by_triton(protocol_pages.server_metadata(), service_pb2.ServerMetadataResponse)
    assert (page.name, page.version) == ("corral", __version__)
    assert list(page.extensions) == ["classification", "model_configuration", "statistics"]


@pytest.mark.parametrize("view", VIEWS)
def test_metadata_has_the_batch_dimension_first(view: View) -> None:
    name, datatype, _, shape = VIEWS[view]
    message = protocol_pages.model_metadata(MODEL, view)
    page = seen_by_triton(message, service_pb2.ModelMetadataResponse)
    assert unknown_fields(page) == []
    assert (page.name, list(page.versions)) == (name, ["1"])
    assert page.platform == "corral_openvino"
    [tensor] = page.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("input", datatype, [-1, *shape])
    [tensor] = page.outputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("output", "FP32", [-1, 1000])


def parameters(model: protocol_pages.ModelDescription) -> dict[str, str]:
    config = protocol_pages.model_config(model, View.TENSOR, [1]).config
    return {name: parameter.string_value for name, parameter in config.parameters.items()}


@pytest.mark.parametrize("synthetic", [True, False])
def test_config_says_whether_the_weights_know_anything(synthetic: bool) -> None:
    model = dataclasses.replace(MODEL, synthetic=synthetic)
    assert parameters(model) == {
        "backend": "openvino",
        "mode": "throughput",
        "precision": "int8",
        "synthetic": str(synthetic).lower(),
        "weights": "torchvision IMAGENET1K_V2",
    }


def test_config_says_what_workers_found_out() -> None:
    found = ModelFindings(output_kind="probabilities", batch_limit="it takes no batch of 2 (…)")
    told = parameters(dataclasses.replace(MODEL, findings=found))
    assert told["output_kind"] == "probabilities"
    assert told["batch_limit"] == "it takes no batch of 2 (…)"
    assert not {"output_kind", "batch_limit"} & parameters(MODEL).keys()


def test_config_says_that_a_precision_was_not_compared() -> None:
    blind = AccuracyReport(candidate="openvino bf16", fidelity=None, faults=[])
    model = dataclasses.replace(MODEL, guard=blind)
    found = {name: text for name, text in parameters(model).items() if name.startswith("guard")}
    assert found == {"guard": "not compared", "guard_candidate": "openvino bf16"}


@pytest.mark.parametrize("view", VIEWS)
def test_config_has_no_batch_dimension(view: View) -> None:
    name, _, datatype, shape = VIEWS[view]
    message = protocol_pages.model_config(MODEL, view, [8, 1, 2, 4, 64])
    config = seen_by_triton(message, service_pb2.ModelConfigResponse).config
    assert not unknown_fields(config)
    assert (config.name, config.platform, config.backend) == (name, "corral_openvino", "openvino")
    assert config.max_batch_size == 32
    [tensor] = config.input
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("input", datatype, shape)
    [tensor] = config.output
    assert (tensor.name, list(tensor.dims)) == ("output", [1000])
    assert tensor.data_type == model_config_pb2.TYPE_FP32
    [group] = config.instance_group
    assert (group.count, group.kind) == (3, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    # perf_analyzer looks for the field; 64 would contradict max_batch_size.
    assert config.HasField("dynamic_batching")
    assert list(config.dynamic_batching.preferred_batch_size) == [1, 2, 4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert config.parameters["precision"].string_value == "int8"


@pytest.mark.parametrize(
    ("view", "layout"),
    [(View.TENSOR, "FORMAT_NCHW"), (View.UINT8, "FORMAT_NHWC"), (View.IMAGE, "FORMAT_NONE")],
)
def test_config_names_the_layout_of_pictures(view: View, layout: str) -> None:
    """Triton's image_client refuses a model whose input's layout it is not told."""
    message = protocol_pages.model_config(MODEL, view, [1])
    [tensor] = seen_by_triton(message, service_pb2.ModelConfigResponse).config.input
    assert model_config_pb2.ModelInput.Format.Name(tensor.format) == layout
    assert as_dict(message)["config"]["input"][0]["format"] == layout
    if layout != "FORMAT_NONE":
        channels = 0 if layout == "FORMAT_NCHW" else 2
        assert len(tensor.dims) == 3
        assert tensor.dims[channels] == 3


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((3, 64, 48), "FORMAT_NCHW"),
        ((1, 28, 28), "FORMAT_NCHW"),
        ((28, 28, 1), "FORMAT_NHWC"),
        ((64, 48, 3), "FORMAT_NHWC"),
        ((3, 64, 3), "FORMAT_NONE"),
        ((7, 9, 11), "FORMAT_NONE"),
        ((3, 224), "FORMAT_NONE"),
        ((128,), "FORMAT_NONE"),
    ],
)
def test_layout_of_an_own_model(shape: tuple[int, ...], layout: str) -> None:
    signature = Signature({Datatype.FP32: shape}, (10,), None)
    model = dataclasses.replace(MODEL, signature=signature)
    [tensor] = protocol_pages.model_config(model, View.TENSOR, [1]).config.input
    assert pb.ModelInput.Format.Name(tensor.format) == layout


def test_config_shows_the_queue_policy_only_where_there_is_one() -> None:
    def policy(model: protocol_pages.ModelDescription) -> Any:
        message = protocol_pages.model_config(model, View.TENSOR, [1])
        config = seen_by_triton(message, service_pb2.ModelConfigResponse).config
        batching = config.dynamic_batching
        return batching.default_queue_policy if batching.HasField("default_queue_policy") else None

    assert policy(MODEL) is None
    shown = policy(dataclasses.replace(MODEL, queue_timeout_ms=2.5))
    assert (shown.default_timeout_microseconds, shown.allow_timeout_override) == (2500, True)
    assert shown.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT


@pytest.mark.parametrize("view", list(View))
def test_config_tells_every_field_that_clients_read_of_an_input(view: View) -> None:
    """tritony reads the JSON without asking whether a field is there: false is said, too."""
    config = protocol_pages.model_config(MODEL, view, [1, 2]).config
    page = as_dict(config)
    (given,), (made,), (group,) = page["input"], page["output"], page["instance_group"]
    (_, _, _, _, *flags) = given.values()
    assert flags == [False] * 4
    assert {"is_shape_tensor", "allow_ragged_batch", "optional"} < set(given)
    assert (made["label_filename"], made["is_shape_tensor"]) == ("", False)
    assert (group["gpus"], group["passive"]) == ([], False)
    assert page["model_transaction_policy"] == {"decoupled": False}
    assert page["version_policy"] == {"latest": {"num_versions": 1}}
    seen = seen_by_triton(config, model_config_pb2.ModelConfig)
    assert not unknown_fields(seen)
    assert seen.HasField("model_transaction_policy")
    assert seen.version_policy.latest.num_versions == 1
    # Every field of ours is Triton's, with its number.
    for name, ours in pb.DESCRIPTOR.message_types_by_name.items():
        if name.startswith("Model") and name in model_config_pb2.DESCRIPTOR.message_types_by_name:
            theirs = model_config_pb2.DESCRIPTOR.message_types_by_name[name]
            numbers = {field.name: field.number for field in theirs.fields}
            assert {field.name: field.number for field in ours.fields}.items() <= numbers.items()


def test_metadata_and_config_agree_for_perf_analyzer() -> None:
    """It takes metadata's shape less its first dimension where max_batch_size is positive."""
    for view in VIEWS:
        metadata = protocol_pages.model_metadata(MODEL, view)
        config = protocol_pages.model_config(MODEL, view, [1]).config
        assert list(metadata.inputs[0].shape)[1:] == list(config.input[0].dims)
        assert list(metadata.outputs[0].shape)[1:] == list(config.output[0].dims)
        assert metadata.inputs[0].name == config.input[0].name


def test_statistics_add_up_the_cells() -> None:
    first = {
        "view/tensor/succeeded": 10,
        "view/tensor/success_ns": 5_000,
        "view/tensor/failure_refused": 2,
        "view/tensor/failure_expired": 1,
        "view/tensor/fail_ns": 700,
        "view/tensor/inferences": 14,
        "view/tensor/executions": 6,
        "view/tensor/queue_ns": 900,
        "view/tensor/compute_input_ns": 30,
        "view/tensor/compute_infer_ns": 4_000,
        "view/tensor/compute_output_ns": 20,
        "view/tensor/last_inference_ms": 1_700_000_000_500,
        "size/1/executions": 2,
        "size/1/infer_ns": 100,
        "size/256/executions": 1,
        "size/256/infer_ns": 9_000,
    }
    second = {key: value for key, value in first.items() if key != "size/256/executions"}
    second["view/tensor/last_inference_ms"] = 1_700_000_000_400
    message = protocol_pages.model_statistics(counts(first, second), "resnet50", [View.TENSOR])
    [page] = seen_by_triton(message, service_pb2.ModelStatisticsResponse).model_stats
    assert not unknown_fields(page)
    assert (page.name, page.version, int(page.version)) == ("resnet50", "1", 1)
    assert (page.inference_count, page.execution_count) == (28, 12)
    assert page.last_inference == 1_700_000_000_500
    spent = {
        field.name: (value.count, value.ns) for field, value in page.inference_stats.ListFields()
    }
    assert spent == {
        "success": (20, 10_000),
        "fail": (6, 1_400),
        "queue": (20, 1_800),
        "compute_input": (20, 60),
        "compute_infer": (20, 8_000),
        "compute_output": (20, 40),
    }
    sizes = [(b.batch_size, b.compute_infer.count, b.compute_infer.ns) for b in page.batch_stats]
    assert sizes == [(1, 4, 200), (256, 1, 18_000)]


def test_statistics_of_the_views_are_apart_and_their_batches_shared() -> None:
    taken = counts({"view/uint8/succeeded": 3, "size/2/executions": 5})
    pages = protocol_pages.model_statistics(taken, "resnet50", View).model_stats
    assert [page.name for page in pages] == ["resnet50", "resnet50_uint8", "resnet50_image"]
    assert [page.inference_stats.success.count for page in pages] == [0, 3, 0]
    assert [[b.batch_size for b in page.batch_stats] for page in pages] == [[2]] * 3


def test_statistics_grow_by_what_was_counted_between_two_readings() -> None:
    """perf_analyzer subtracts two readings and divides by the growth of queue.count."""
    before, after = ({"view/tensor/succeeded": n, "view/tensor/queue_ns": 50 * n} for n in (4, 9))
    queues = [
        protocol_pages.model_statistics(counts(page), "resnet50", [View.TENSOR]).model_stats[0]
        for page in (before, after)
    ]
    growth = [page.inference_stats.queue for page in queues]
    assert growth[1].count - growth[0].count == 5
    assert growth[1].ns - growth[0].ns == 250


@pytest.mark.parametrize(("name", "view"), [(VIEWS[view][0], view) for view in VIEWS])
@pytest.mark.parametrize("version", ["", "1"])
def test_names_resolve_to_views(name: str, version: str, view: View) -> None:
    assert protocol_pages.resolve_view(name, version, "resnet50") == view


def test_an_unknown_model_is_told_what_there_is() -> None:
    with pytest.raises(NotFound, match=r"'resnet'.*: resnet50, resnet50_uint8, resnet50_im"):
        protocol_pages.resolve_view("resnet", "", "resnet50")
    with pytest.raises(NotFound, match=r"this server has: words$"):
        protocol_pages.resolve_view("resnet", "", "words", [View.TENSOR])


@pytest.mark.parametrize("version", ["2", "01", "one", " 1"])
def test_an_unknown_version_is_told_which_there_is(version: str) -> None:
    with pytest.raises(NotFound, match=r"'resnet50' has the version '1' only, not "):
        protocol_pages.resolve_view("resnet50", version, "resnet50")


@given(name=st.text(max_size=300), version=st.text(max_size=300))
def test_whatever_a_client_asks_for_resolves_or_is_answered_in_one_short_line(
    name: str, version: str
) -> None:
    try:
        view = protocol_pages.resolve_view(name, version, "resnet50")
    except NotFound as error:
        # A quoted character may take ten ("\\U0001f40e").
        assert len(str(error)) < 1000
        assert str(error).isprintable()
    else:
        assert name == VIEWS[view][0]
        assert version in {"", "1"}
