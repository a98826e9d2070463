"""The server's pages read, what the command prints of them, and how calls are paced."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import subprocess
import sys

import numpy as np
import pytest

import corral_client
from corral_client import calls, channels, codec, options, pages, views
from corral_client.codec import Label
from corral_client.errors import DeadlineExceeded, InternalError, Overloaded, Unavailable
from corral_protos import open_inference_pb2 as pb

Tensor = pb.ModelMetadataResponse.TensorMetadata
METADATA = pb.ModelMetadataResponse(
    name="resnet50",
    versions=["1"],
    platform="corral_null",
    inputs=[Tensor(name="input", datatype="FP32", shape=[-1, 3, 224, 224])],
    outputs=[Tensor(name="output", datatype="FP32", shape=[-1, 1000])],
).SerializeToString()
CONFIG = pb.ModelConfigResponse(
    config=pb.ModelConfig(
        parameters={
            "synthetic": pb.ModelParameter(string_value="true"),
            "mode": pb.ModelParameter(string_value="rti"),
        }
    )
).SerializeToString()
STATISTICS = pb.ModelStatisticsResponse(
    model_stats=[
        pb.ModelStatistics(
            name="resnet50",
            version="1",
            inference_count=12,
            execution_count=3,
            last_inference=99,
            inference_stats=pb.InferStatistics(
                success=pb.StatisticDuration(count=4, ns=10_000_000),
                queue=pb.StatisticDuration(count=12, ns=1_200),
            ),
            batch_stats=[
                pb.InferBatchStatistics(
                    batch_size=4, compute_infer=pb.StatisticDuration(count=3, ns=9)
                )
            ],
        )
    ]
).SerializeToString()


def found() -> pages.ModelMetadata:
    """As the clients put it together, of two calls."""
    return dataclasses.replace(
        pages.read_metadata(METADATA), properties=pages.read_properties(CONFIG)
    )


def test_metadata_is_read() -> None:
    metadata = found()
    assert metadata.inputs == (pages.TensorMetadata("input", "FP32", (-1, 3, 224, 224)),)
    assert metadata.properties == {"synthetic": "true", "mode": "rti"}
    assert metadata.synthetic
    assert metadata.classes == 1000


def test_metadata_of_a_server_without_properties_or_sizes() -> None:
    message = pb.ModelMetadataResponse(outputs=[Tensor(shape=[-1, -1])]).SerializeToString()
    metadata = pages.read_metadata(message)
    assert not metadata.synthetic
    assert metadata.classes is None
    assert pages.read_metadata(b"").classes is None


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((-1, 1000), 1000),
        ((-1, 4, 1, 1), 4),
        ((-1, 4, 8, 8), 256),
        ((-1, -1), None),
        ((-1, 4, -1), None),
        ((1000,), 1000),
        ((), None),
    ],
)
def test_classes_are_all_values_of_an_item(shape: tuple[int, ...], classes: int | None) -> None:
    output = pages.TensorMetadata("y", "FP32", shape)
    assert pages.ModelMetadata("m", (), "", (), (output,), {}).classes == classes


def test_statistics_are_read() -> None:
    (stats,) = pages.read_statistics(STATISTICS)
    assert (stats.name, stats.inference_count, stats.execution_count) == ("resnet50", 12, 3)
    assert stats.success == pages.Spent(4, 10_000_000)
    assert stats.success.mean_ms == 2.5
    assert stats.fail.mean_ms == 0
    assert stats.batches == {4: pages.Spent(3, 9)}


def test_a_page_that_is_none_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="no ModelMetadataResponse"):
        pages.read_metadata(b"\xff\xff")


def test_calls_name_the_model() -> None:
    assert pb.ModelMetadataRequest.FromString(calls.metadata("m").message).name == "m"
    assert pb.ModelStatisticsRequest.FromString(calls.statistics("").message).name == ""


def test_probabilities_are_a_softmax_that_large_scores_do_not_break() -> None:
    chances = views.probabilities([Label(1e4, 0, "a"), Label(1e4 - 1, 1, "b")])
    assert math.isclose(sum(chances), 1)
    assert math.isclose(chances[0] / chances[1], math.e)


SOFTMAXED = [0.994, 0.003, 0.002, 0.001]


def labels_of(scores: list[float]) -> list[Label]:
    return [Label(score, index, "") for index, score in enumerate(scores)]


@pytest.mark.parametrize(
    "scores",
    [
        SOFTMAXED,
        [1.0, 0.0, 0.0],
        [0.25] * 4,
        [1.0],
        # Scores travel with six digits after the point.
        [round(1 / 3000, 6)] * 3000,
        [round(1 / 21843, 6)] * 21843,
        [0.9945, 0.003, 0.002, 0.001],
    ],
)
def test_probabilities_are_shown_as_they_are(scores: list[float]) -> None:
    assert views.probabilities(labels_of(scores)) == scores


@pytest.mark.parametrize(
    "scores",
    [
        [4.0, 1.0, 0.5, 0.1],
        [0.9, 0.11, 0.0, -0.01],
        [0.994, 0.003, 0.001],
        [0.6, 0.402],
        [0.0, 0.0],
        [math.nan, 1.0],
    ],
)
def test_anything_else_is_taken_for_logits(scores: list[float]) -> None:
    shown = views.probabilities(labels_of(scores))
    powers = [math.exp(score) for score in scores]
    expected = [power / sum(powers) for power in powers]
    assert shown == pytest.approx(expected, nan_ok=True)
    assert shown != scores


def test_what_the_server_says_of_its_outputs_counts() -> None:
    logits = views.probabilities(labels_of([0.5, 0.5]), "logits")
    assert logits == [0.5, 0.5]
    sure = views.probabilities(labels_of(SOFTMAXED), "logits")
    assert sure[0] == pytest.approx(0.474, abs=0.001)
    unusual = [0.7, 0.1]
    assert views.probabilities(labels_of(unusual), "probabilities") == unusual
    assert views.probabilities(labels_of([99.4, 0.6]), "percentages") == pytest.approx(
        [0.994, 0.006]
    )
    several = [0.9, 0.8, 0.1]
    assert views.probabilities(labels_of(several), "independent_probabilities") == several


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("logits", "logits"),
        ("probabilities", "probabilities"),
        ("percentages", "percentages"),
        ("independent_probabilities", "independent_probabilities"),
        ("embedding", None),
        (None, None),
    ],
)
def test_the_metadata_says_what_the_outputs_are(said: str | None, kind: str | None) -> None:
    properties = {} if said is None else {"output_kind": said}
    found = pages.read_metadata(pb.ModelMetadataResponse().SerializeToString())
    assert dataclasses.replace(found, properties=properties).output_kind == kind


def test_labels_show_percentages_where_they_are_known_else_scores() -> None:
    labels = [Label(12.5, 282, "tiger cat"), Label(-1.0, 3, "")]
    assert views.labels_text("cat.jpg", labels, [0.75, 0.25]).splitlines() == [
        "cat.jpg",
        "     75.0%   282  tiger cat",
        "     25.0%     3",
    ]
    assert "12.5000   282  tiger cat" in views.labels_text("cat.jpg", labels, None)
    plain = json.loads(views.labels_json("cat.jpg", labels, None))
    assert plain["labels"][0] == {"score": 12.5, "index": 282, "label": "tiger cat"}
    known = json.loads(views.labels_json("cat.jpg", labels, [0.75, 0.25]))
    assert [entry["probability"] for entry in known["labels"]] == [0.75, 0.25]


def test_pages_are_printed() -> None:
    text = views.metadata_text(found())
    assert "input      input  FP32 [n,3,224,224]" in text.splitlines()
    assert "synthetic  true" in text.splitlines()
    head, row = views.statistics_text(pages.read_statistics(STATISTICS)).splitlines()
    assert head.split()[:3] == ["model", "items", "batches"]
    assert row.split()[:7] == ["resnet50", "12", "3", "4", "0", "2.50", "ms"]
    assert json.loads(views.json_text(pages.read_statistics(STATISTICS)))[0]["batches"] == {
        "4": {"count": 3, "ns": 9}
    }


def test_an_inference_is_printed() -> None:
    outputs = np.zeros((2, 10), np.float32)
    outputs[1, 7] = 3.5
    inputs = {"input": codec.from_array(np.zeros((2, 4), np.uint8))}
    text = views.inference_text(inputs, {"output": outputs}, 0.0123)
    assert text.splitlines() == [
        "input   uint8 [2,4]",
        "output  float32 [2,10]",
        "item 0  top-1 is index 0, score 0.0000",
        "item 1  top-1 is index 7, score 3.5000",
        "time    12.3 ms",
    ]


def test_grpc_retries_what_is_unavailable_and_no_probes() -> None:
    (usual,) = json.loads(channels.service_config())["methodConfig"]
    # RESOURCE_EXHAUSTED is a message above the limit, too, which must be sent once.
    assert usual["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    methods = {name["method"] for name in usual["name"]}
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert methods < {method.name for method in service.methods}
    assert methods.isdisjoint({"ServerReady", "ServerLive"})
    assert service.full_name == channels.SERVICE


def test_patience_waits_longer_each_time_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("corral_client.channels.time.monotonic", lambda: now_s)
    patience = channels.Patience("it", 10)
    no = Unavailable("still no")
    pauses_s = [patience.pause_s(no) for _ in range(30)]
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[0] < 0.1
    assert pauses_s[-1] == 0.5
    now_s = 109.75
    assert patience.pause_s(no) == 0.25
    assert patience.attempt_s() == 0.25
    now_s = 110.0
    with pytest.raises(DeadlineExceeded, match="waited 10 s for it in vain: still no"):
        patience.pause_s(DeadlineExceeded("no answer within 0.25 s"))


def test_a_refusal_is_answered_four_times_and_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("corral_client.channels.time.monotonic", lambda: now_s)
    full = Overloaded("full")
    retries = channels.OverloadRetries(10)
    pauses_s = [retries.pause_s(full) for _ in range(5)]
    assert pauses_s[4] is None
    for pause_s, about_s in zip(pauses_s, (0.1, 0.2, 0.4, 0.8), strict=False):
        assert pause_s == pytest.approx(about_s, rel=0.2)
    retries = channels.OverloadRetries(10)
    assert retries.pause_s(Overloaded("full", 3000)) == 3.0
    now_s = 108.0
    assert retries.left_s() == 2.0
    assert retries.pause_s(Overloaded("full", 2000)) is None, "the deadline would pass"
    retries = channels.OverloadRetries(10)
    assert retries.pause_s(Overloaded("full", may_retry=False)) is None


def test_patience_has_no_better_reason_than_silence() -> None:
    with pytest.raises(DeadlineExceeded, match="in vain: no answer"):
        channels.Patience("it", 0).pause_s(DeadlineExceeded("no answer within 1 s"))


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["classify"],
        ["classify", "x.jpg", "-k", "0"],
        ["infer"],
        ["infer", "x.npy", "--random", "uint8"],
        ["wait", "--timeout-s", "-1"],
        ["wait", "--timeout-s", "nan"],
        ["dance"],
        ["wait", "--nonsense"],
        ["--nonsense", "wait"],
        ["wait", "a\nb"],
    ],
)
def test_wrong_usage_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options.make_parser().parse_args(argv)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("corral-client")
    assert line.endswith(" --help)")


def test_the_version_is_the_distributions() -> None:
    assert corral_client.__version__ == importlib.metadata.version("corral")


def test_the_client_needs_nothing_of_the_server() -> None:
    script = (
        "import sys, corral_client, corral_client.cli\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "assert tops.isdisjoint({'corral', 'msgspec', 'rich', 'PIL', 'tritonclient'}), tops\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
