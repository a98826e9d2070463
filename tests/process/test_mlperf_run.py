"""MLPerf's LoadGen against a server: its logs are kept, and its verdict is what is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running_server import StartServer

pytestmark = pytest.mark.long

pytest.importorskip("mlperf_loadgen")


def _run(port: int, folder: Path, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [
            sys.executable, "-m", "corral_loadtest", "mlperf",
            "--target", f"127.0.0.1:{port}",
            "--input", "uint8", "--model", "resnet50_uint8", "--samples", "4",
            "--logs", str(folder / "logs"), "--json", str(folder / "found.json"), *options,
        ],
        capture_output=True, text=True, check=False, timeout=100,
        # A proxy that is not there: nothing of this goes to it.
        env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    file = folder / "found.json"
    return done.returncode, json.loads(file.read_text()) if file.exists() else [], done.stderr


def test_every_scenario_runs_and_keeps_loadgens_logs(server: StartServer, tmp_path: Path) -> None:
    with server() as running:
        # A bound that a busy machine keeps too; the null backend answers at once.
        status, found, said = _run(
            running.port, tmp_path, "--duration-s", "1", "--qps", "300", "--latency-ms", "5000"
        )
    assert [one["scenario"] for one in found] == [
        "SingleStream",
        "MultiStream",
        "Server",
        "Offline",
    ]
    assert [one["valid"] for one in found] == [True] * 4, found
    assert status == 0, said
    for one in found:
        assert any("1 s where the rules ask for 600 s" in reason for reason in one["short_of"])
        summary = (Path(one["folder"]) / "mlperf_log_summary.txt").read_text()
        assert "Result is : VALID" in summary
        assert f"Scenario : {one['scenario']}" in summary
        assert (Path(one["folder"]) / "mlperf_log_detail.txt").stat().st_size > 0


def test_the_search_finds_what_the_workers_can_carry(server: StartServer, tmp_path: Path) -> None:
    # One worker that sleeps 2 ms a batch of one answers at most 500 a second.
    with server("--workers", "1", "--max-batch", "1", "--null-batch-ms", "2") as running:
        _, found, said = _run(
            running.port, tmp_path, "--scenario", "Server", "--find-qps", "--qps", "150",
            "--search-s", "1", "--duration-s", "1", "--tolerance", "0.3", "--latency-ms", "200",
        )  # fmt: skip
    assert len(found) == 1, said
    assert "beyond the bound" in said
    assert 1 <= float(found[0]["figures"]["Completed samples per second"]) <= 500
    assert len(list((tmp_path / "logs" / "search").iterdir())) >= 2


def test_refused_requests_spoil_the_verdict(server: StartServer, tmp_path: Path) -> None:
    options = ("--workers", "1", "--max-queue", "1", "--max-batch", "1", "--null-batch-ms", "20")
    with server(*options) as running:
        status, found, _ = _run(
            running.port, tmp_path, "--scenario", "Offline", "--duration-s", "1", "--window", "32"
        )
    assert status == 1
    assert not found[0]["valid"]
    assert found[0]["statuses"]["RESOURCE_EXHAUSTED"] > 0


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    status, found, said = _run(1, tmp_path, "--scenario", "Offline")
    assert status == 2
    assert not found
    assert len(said.strip().splitlines()) == 1


def test_one_command_serves_runs_and_writes_the_page(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "corral_loadtest", "mlperf", "--serve", "--backend null",
            "--scenario", "Offline", "--duration-s", "1", "--input", "uint8", "--samples", "4",
            "--logs", str(tmp_path / "logs"), "--output", str(tmp_path / "out"),
        ],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (page,) = (tmp_path / "out").glob("mlperf-*.md")
    assert "| Offline | VALID |" in page.read_text()
    assert "`corral serve --backend null`" in page.read_text()
    assert "Result is : VALID" in (page.with_suffix("") / "Offline.txt").read_text()


def test_options_that_cannot_be_served_are_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "corral_loadtest", "mlperf", "--serve", "--backend none",
            "--logs", str(tmp_path / "logs"),
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("corral-loadtest mlperf: the server ended with exit code 2: ")
    assert "invalid choice: 'none'" in done.stderr
    assert done.stderr.count("\n") == 1
