"""perf_analyzer, Triton's load generator: each of its ways to ask, for a moment."""

from __future__ import annotations

import csv
import json
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

import cases
from cases import Servers

from corral_loadtest.generator import perf_analyzer

#: its idea of a stable measurement is not what is tested
_QUICK = ("-p", "400", "-s", "999", "-r", "3")


def binary(servers: Servers) -> Path:
    return Path(servers.home).parent / "perf_analyzer" / "perf_analyzer"


def analyze(servers: Servers, protocol: str, *arguments: str, model: str = "") -> dict[str, str]:
    """Runs it; the row of its report with the most clients."""
    where = servers.grpc if protocol == "grpc" else servers.http
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        done = subprocess.run(
            [
                str(binary(servers)), "-m", model or servers.model, "-u", where, "-i", protocol,
                "-f", str(report), *_QUICK, *arguments,
            ],
            env=perf_analyzer.environment(binary(servers), where),
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
        failed = re.search(r"(?i)failed request|error count: [1-9]", done.stdout)
        assert failed is None, done.stdout[-1500:]
        with report.open() as file:
            # They are in the order of their rates, which is not always that of the clients.
            rows = sorted(csv.DictReader(file), key=lambda row: int(row.get("Concurrency") or 0))
    for row in rows:
        assert float(row["Inferences/Second"]) > 1
    return rows[-1]


def works_grpc(servers: Servers) -> None:
    row = analyze(servers, "grpc", "--concurrency-range", "1:3:2")
    assert row["Concurrency"] == "3"
    # It reads the server's own account of the same requests.
    assert float(row["Server Compute Infer"]) > 0
    assert float(row["Server Queue"]) >= 0


def works_http(servers: Servers) -> None:
    row = analyze(servers, "http", "--concurrency-range", "3")
    assert float(row["Server Compute Infer"]) > 0


def works_batches(servers: Servers) -> None:
    for protocol in ("grpc", "http"):
        analyze(servers, protocol, "-b", "4", "--concurrency-range", "2")


def works_asynchronous(servers: Servers) -> None:
    for protocol in ("grpc", "http"):
        analyze(servers, protocol, "--async", "--concurrency-range", "4")


def works_streaming(servers: Servers) -> None:
    analyze(servers, "grpc", "--async", "--streaming", "--concurrency-range", "4")


def works_system_shared_memory(servers: Servers) -> None:
    for protocol in ("grpc", "http"):
        analyze(
            servers, protocol, "--shared-memory", "system", "--output-shared-memory-size", "4000",
            "--concurrency-range", "2",
        )  # fmt: skip


def works_a_request_rate_by_poisson(servers: Servers) -> None:
    for protocol in ("grpc", "http"):
        row = analyze(
            servers, protocol, "--request-rate-range", "60", "--request-distribution", "poisson"
        )
        assert 20 < float(row["Inferences/Second"]) < 140


def works_intervals_of_ones_own(servers: Servers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "intervals"
        file.write_text("20000\n" * 20)
        analyze(servers, "grpc", "--request-intervals", str(file))


def works_input_data_from_json(servers: Servers) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.json"
        pixels = [number % 256 for number in range(224 * 224 * 3)]
        file.write_text(json.dumps({"data": [{"input": pixels}]}))
        for protocol in ("grpc", "http"):
            analyze(
                servers, protocol, "--input-data", str(file), "--concurrency-range", "2",
                model=f"{servers.model}_uint8",
            )  # fmt: skip


def works_tensors_as_json_over_http(servers: Servers) -> None:
    analyze(
        servers, "http", "--input-tensor-format", "json", "--output-tensor-format", "json",
        "-p", "2000", model=f"{servers.model}_uint8",
    )  # fmt: skip


def works_compression_over_grpc(servers: Servers) -> None:
    analyze(
        servers, "grpc", "--grpc-compression-algorithm", "gzip", "--input-data", "zero",
        "-p", "1000",
    )  # fmt: skip


def works_collecting_the_metrics(servers: Servers) -> None:
    """It wants GPUs' metrics, warns that there are none, and measures on."""
    analyze(
        servers, "grpc", "--collect-metrics", "--metrics-url", f"{servers.metrics}/metrics",
        "--verbose-csv",
    )  # fmt: skip


def works_a_search_for_the_latency(servers: Servers) -> None:
    analyze(
        servers, "grpc", "--concurrency-range", "1:4", "--binary-search", "-l", "1000", "-a"
    )  # fmt: skip


def works_http_in_the_speed_class_of_grpc(servers: Servers) -> None:
    """Pairs in turns, each way round, and the median of their ratios: a slow moment meets both.

    On a machine that does nothing else it is about 1 (docs/rest.md); half leaves room for others.
    """
    model = f"{servers.model}_uint8"

    def rate(protocol: str) -> float:
        row = analyze(servers, protocol, "--concurrency-range", "8", model=model)
        return float(row["Inferences/Second"])

    ratios = []
    for pair in range(6):
        protocols = ("http", "grpc") if pair % 2 else ("grpc", "http")
        found = {protocol: rate(protocol) for protocol in protocols}
        ratios.append(found["http"] / found["grpc"])
    assert statistics.median(ratios) > 0.5, ratios


if __name__ == "__main__":
    cases.run(globals())
