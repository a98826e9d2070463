"""Sessions that only look into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_as_is(model: Path | bytes) -> Any:
    """A session of a file, or of what is in one, its graph left as it is, which is quick."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    content = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
