"""A command loads what it needs: a start is half imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: of the supervisor and of the commands that ask a running server
_NEVER = {
    "numpy",
    "PIL",
    "torch",
    "openvino",
    "onnxruntime",
    "h2corn",
    "grpc",
    "opentelemetry",
    "google",
}


@pytest.mark.parametrize("module", ["corral.cli.serve", "corral.cli.ask", "corral.cli.plan"])
def test_a_command_loads_no_more_than_it_needs(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert _NEVER & set(loaded.stdout.split()) == set()
