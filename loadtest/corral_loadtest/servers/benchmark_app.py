"""OpenVINO's own tool with its hint for throughput: the best arrangement of the engine alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import msgspec

#: importing openvino would send a usage event
_PROGRAM = (
    "import sys; sys.modules['openvino_telemetry'] = None; "
    "from openvino.tools.benchmark.main import main; sys.exit(main())"
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What it says of one model."""

    per_s: float
    p50_ms: float


def run(model: str, seconds: float) -> Report:
    """Runs a model on batches of one, in as many requests at once as OpenVINO thinks best.

    Raises:
        RuntimeError: its output is not what we know.
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        [
            sys.executable, "-c", _PROGRAM, "-m", model, "-d", "CPU", "-hint", "throughput",
            "-t", str(max(1, round(seconds))), "-shape", "[1,3,224,224]",
        ],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    return parse(done.stdout)


def parse(text: str) -> Report:
    """Throughput and median latency.

    Raises:
        RuntimeError: it is no report.
    """
    rate = re.search(r"Throughput:\s+([\d.]+) FPS", text)
    median = re.search(r"Median:\s+([\d.]+) ms", text)
    if rate is None or median is None:
        raise RuntimeError("benchmark_app's report has no throughput and median")
    return Report(per_s=float(rate[1]), p50_ms=float(median[1]))
