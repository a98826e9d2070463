"""Sessions that only look into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_as_is(file: Path) -> Any:
    """A session of a file, its graph left as it is, which is quick."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
