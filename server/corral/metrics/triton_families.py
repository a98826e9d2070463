"""The counters under Triton's names and labels, in Prometheus' text format.

Rendered here because prometheus_client appends ``_total`` to every counter, and the dashboards
and autoscalers that know Triton's names would not find them. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric, UnknownMetricFamily

from corral.metrics.counters import Counts
from corral.tensors import View

#: Triton's reasons for a failure, by what corral calls them
REASONS = {
    "REJECTED": ("refused",),
    "CANCELED": ("cancelled",),
    "BACKEND": ("failed",),
    "OTHER": ("invalid", "expired", "unavailable"),
}


@dataclasses.dataclass(frozen=True)
class _Family:
    """One metric: Triton's name and help, and the counters of a view that it shows.

    Attributes:
        series: by the labels between model and version, the counters to add up.
        divisor: what turns the counters' unit into the metric's.
    """

    name: str
    text: str
    series: dict[str, tuple[str, ...]]
    divisor: int = 1
    kind: str = "counter"


def _duration(part: str, text: str, counter: str) -> _Family:
    return _Family(f"nv_inference_{part}duration_us", text, {"": (counter,)}, divisor=1000)


_INCLUDED = "(includes cached requests)"
_NOT_INCLUDED = "(does not include cached requests)"
_FAMILIES = (
    _Family(
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        {"": ("succeeded",)},
    ),
    _Family(
        "nv_inference_request_failure",
        "Number of failed inference requests, all batch sizes",
        {
            f'reason="{reason}",': tuple(f"failure_{name}" for name in names)
            for reason, names in REASONS.items()
        },
    ),
    _Family(
        "nv_inference_count",
        f"Number of inferences performed {_NOT_INCLUDED}",
        {"": ("inferences",)},
    ),
    _Family(
        "nv_inference_exec_count",
        f"Number of model executions performed {_NOT_INCLUDED}",
        {"": ("executions",)},
    ),
    _duration(
        "request_",
        f"Cumulative inference request duration in microseconds {_INCLUDED}",
        "success_ns",
    ),
    _duration(
        "queue_",
        f"Cumulative inference queuing duration in microseconds {_INCLUDED}",
        "queue_ns",
    ),
    _duration(
        "compute_input_",
        f"Cumulative compute input duration in microseconds {_NOT_INCLUDED}",
        "compute_input_ns",
    ),
    _duration(
        "compute_infer_",
        f"Cumulative compute inference duration in microseconds {_NOT_INCLUDED}",
        "compute_infer_ns",
    ),
    _duration(
        "compute_output_",
        f"Cumulative inference compute output duration in microseconds {_NOT_INCLUDED}",
        "compute_output_ns",
    ),
    _Family(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        {"": ("pending",)},
        kind="gauge",
    ),
)


def render(counts: Counts, base: str) -> bytes:
    """The nv_inference_… families, a series for each of the model's three names.

    Args:
        counts: a copy of the counters; the cells are summed.
        base: the model's name.
    """
    return "".join(f"{line}\n" for line in _lines(counts, base)).encode()


def openmetrics_families(counts: Counts, base: str) -> Iterator[Metric]:
    """The same for OpenMetrics, where a counter's name has to end in ``_total``.

    The names stay Triton's, so the type is ``unknown``; queries ask for no type.
    """
    for family in _FAMILIES:
        kind = GaugeMetricFamily if family.kind == "gauge" else UnknownMetricFamily
        found: Metric = kind(family.name, family.text)
        for view, labels, value in _series(family, counts):
            reason = dict(pair.split("=") for pair in labels.split(",") if pair)
            named = {name: text.strip('"') for name, text in reason.items()}
            model = base + view.suffix
            found.add_sample(family.name, {"model": model, **named, "version": "1"}, value)
        yield found


def _lines(counts: Counts, base: str) -> Iterator[str]:
    for family in _FAMILIES:
        yield f"# HELP {family.name} {family.text}"
        yield f"# TYPE {family.name} {family.kind}"
        for view, labels, value in _series(family, counts):
            # A model's name is a module's name: there is nothing in it to escape.
            series = f'{family.name}{{model="{base}{view.suffix}",{labels}version="1"}}'
            yield f"{series} {value}"


def _series(family: _Family, counts: Counts) -> Iterator[tuple[View, str, int]]:
    for view in View:
        for labels, counters in family.series.items():
            value = sum(counts.read(f"view/{view}/{counter}") for counter in counters)
            yield view, labels, value // family.divisor
