"""Model Analyzer against a server that runs already (its "remote" mode)."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cases
from cases import Servers


def profile(
    servers: Servers, *arguments: str, protocol: str = "grpc"
) -> tuple[str, list[list[str]]]:
    """Runs ``model-analyzer profile``: what it said, and the rows of its table."""
    program = Path(sys.executable).with_name("model-analyzer")
    analyzer = Path(servers.home).parent / "perf_analyzer"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                str(program), "profile", "--triton-launch-mode", "remote",
                "--triton-grpc-endpoint", servers.grpc, "--triton-http-endpoint", servers.http,
                "--triton-metrics-url", f"http://{servers.metrics}/metrics",
                "--client-protocol", protocol, "--profile-models", f"{servers.model}_uint8",
                "--run-config-search-disable", "-b", "1", "-c", "2",
                "--perf-analyzer-path", str(analyzer / "perf_analyzer"),
                "--perf-analyzer-cpu-util", "1600",
                "--skip-detailed-reports",
                "--export-path", folder, "--checkpoint-directory", folder,
                "--filename-model-inference", "inference.csv",
                *arguments,
            ],
            cwd=folder,
            env={**os.environ, "LD_LIBRARY_PATH": str(analyzer)},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-3000:]
        tables = list(Path(folder).rglob("inference.csv"))
        assert tables, said[-3000:]
        with tables[0].open() as file:
            rows = [row for row in csv.reader(file) if row]
    return said, rows


def check(rows: list[list[str]], model: str) -> None:
    head, *found = rows
    assert found, rows
    row = dict(zip(head, found[0], strict=False))
    assert row["Model"] == model
    assert float(row["Throughput (infer/sec)"]) > 1


def works_profiling(servers: Servers) -> None:
    said, rows = profile(servers)
    check(rows, f"{servers.model}_uint8")
    assert "load failed" not in said


def works_profiling_over_http_without_loading(servers: Servers) -> None:
    _, rows = profile(servers, "--reload-model-disable", protocol="http")
    check(rows, f"{servers.model}_uint8")


if __name__ == "__main__":
    cases.run(globals(), longest_s=240)
