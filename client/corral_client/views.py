"""What ``corral-client`` prints: values in, text out. Pure."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_client import codec
from corral_client.codec import Label, Tensor
from corral_client.pages import ModelMetadata, ModelStatistics, TensorMetadata

SYNTHETIC_WARNING = (
    "warning: {} runs on synthetic weights, which know nothing: its labels mean nothing"
)

_SHOWN_AS_THEY_ARE = ("probabilities", "independent_probabilities")
#: how far from 1 probabilities may add up to: scores travel with few digits
_SUM_TOLERANCE = 1e-3
#: scores travel with six digits after the point: half of the last one each
_ROUNDING = 0.5e-6


def probabilities(labels: Sequence[Label], output_kind: str | None = None) -> list[float]:
    """The probability of each class; true only if ``labels`` are all the classes there are.

    Args:
        labels: with the model's outputs as scores.
        output_kind: "probabilities", "percentages", "independent_probabilities" or "logits", as
            the server says; None where it does not. Then scores that are none of them negative and
            add up to 1 are probabilities already; all others are logits, whose softmax it is.
    """
    scores = [label.score for label in labels]
    if output_kind in _SHOWN_AS_THEY_ARE or (output_kind is None and _add_up(scores)):
        return scores
    if output_kind == "percentages":
        return [score / 100 for score in scores]
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


def _add_up(scores: Sequence[float]) -> bool:
    return min(scores) >= 0 and abs(sum(scores) - 1) <= _SUM_TOLERANCE + _ROUNDING * len(scores)


def labels_text(picture: str, labels: Sequence[Label], chances: Sequence[float] | None) -> str:
    """A picture's labels for a person: percentages where they are known, else scores."""
    lines = [picture]
    for place, label in enumerate(labels):
        value = f"{label.score:9.4f}" if chances is None else f"{chances[place]:8.1%}"
        lines.append(f"  {value}  {label.index:4d}  {label.label}".rstrip())
    return "\n".join(lines)


def labels_json(picture: str, labels: Sequence[Label], chances: Sequence[float] | None) -> str:
    """A picture's labels in one line of JSON; ``probability`` only where it is known."""
    entries = [dataclasses.asdict(label) for label in labels]
    if chances is not None:
        for entry, chance in zip(entries, chances, strict=False):
            entry["probability"] = chance
    return json.dumps({"picture": picture, "labels": entries}, ensure_ascii=False)


def inference_text(
    inputs: Mapping[str, Tensor], outputs: Mapping[str, NDArray[Any]], took_s: float
) -> str:
    """Shapes and the time; of one output the best class of each item, of several their ranges."""
    lines = [
        f"input   {f'{name}  ' if len(inputs) > 1 else ''}{_shape_text(_dtype(given), given.shape)}"
        for name, given in inputs.items()
    ]
    for name, values in outputs.items():
        shown = _shape_text(_dtype(values), values.shape)
        if len(outputs) > 1:
            shown = f"{name}  {shown}{_range_text(values)}"
        lines.append(f"output  {shown}")
    if len(outputs) == 1:
        lines += _best_text(*outputs.values())
    lines.append(f"time    {took_s * 1e3:.1f} ms")
    return "\n".join(lines)


def _best_text(values: NDArray[Any]) -> list[str]:
    if not values.size or not values.ndim or values.dtype == object:
        return []
    lines = []
    for item, row in enumerate(values.reshape((len(values), -1))):
        best = int(np.argmax(row))
        lines.append(f"item {item}  top-1 is index {best}, score {row[best]:.4f}")
    return lines


def _range_text(values: NDArray[Any]) -> str:
    if not values.size or values.dtype.kind not in "fiu":
        return ""
    return f"  from {values.min():.4g} to {values.max():.4g}"


def inference_json(
    model: str,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, NDArray[Any]],
    took_s: float,
) -> str:
    """The same in one line of JSON, with all values in their order; null is no number."""
    shown = {
        "model": model,
        "inputs": {
            name: {"datatype": given.datatype, "shape": given.shape}
            for name, given in inputs.items()
        },
        "outputs": {
            name: {"datatype": _datatype(values), "shape": values.shape, "data": _plain(values)}
            for name, values in outputs.items()
        },
        "ms": round(took_s * 1e3, 3),
    }
    return json.dumps(shown, ensure_ascii=False)


def _plain(values: NDArray[Any]) -> list[Any]:
    flat = values.ravel().tolist()
    if values.dtype == object:
        return [element.decode(errors="replace") for element in flat]
    if values.dtype.kind == "f":
        return [value if math.isfinite(value) else None for value in flat]
    return flat


def metadata_text(metadata: ModelMetadata) -> str:
    """A model's metadata for a person."""
    rows = [
        ("model", metadata.name),
        ("versions", ", ".join(metadata.versions)),
        ("platform", metadata.platform),
        *(("input", _tensor_text(tensor)) for tensor in metadata.inputs),
        *(("output", _tensor_text(tensor)) for tensor in metadata.outputs),
        *sorted(metadata.properties.items()),
    ]
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


def statistics_text(models: Sequence[ModelStatistics]) -> str:
    """The models' statistics for a person, a line each; times are means."""
    head = ("model", "items", "batches", "answered", "failed", "request", "queue", "inference")
    rows = [head]
    rows += [
        (
            model.name,
            str(model.inference_count),
            str(model.execution_count),
            str(model.success.count),
            str(model.fail.count),
            f"{model.success.mean_ms:.2f} ms",
            f"{model.queue.mean_ms:.2f} ms",
            f"{model.compute_infer.mean_ms:.2f} ms",
        )
        for model in models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def json_text(value: Any) -> str:
    """A dataclass, or a list of them, as indented JSON."""
    plain = (
        [dataclasses.asdict(v) for v in value]
        if isinstance(value, list)
        else (dataclasses.asdict(value))
    )
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _datatype(given: Tensor | NDArray[Any]) -> str:
    if isinstance(given, Tensor):
        return given.datatype
    return "BYTES" if given.dtype == object else codec.DATATYPES[given.dtype.newbyteorder("<")]


def _dtype(given: Tensor | NDArray[Any]) -> str:
    """As numpy names it."""
    datatype = _datatype(given)
    kind = codec.NUMPY_DTYPES.get(datatype)
    return np.dtype(kind).name if kind else {"BF16": "bfloat16"}.get(datatype, datatype.lower())


def _shape_text(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype} [{','.join(map(str, shape))}]"


def _tensor_text(tensor: TensorMetadata) -> str:
    shape = ",".join("n" if size < 0 else str(size) for size in tensor.shape)
    return f"{tensor.name}  {tensor.datatype} [{shape}]"
