"""``corral doctor`` as a user runs it: on a running server, on a plan, and with wrong input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running_server import StartServer

ROW = {"id", "title", "status", "found", "wanted", "why", "fix", "workers", "source"}
NO_SERVER = ("--port", "1")


def corral(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, check=False, text=True, capture_output=True, timeout=60)


def by_id(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in report["checks"]}


def test_a_running_server_is_looked_at_by_its_processes(server: StartServer) -> None:
    with server("--workers", "1", "--allocator", "system") as s:
        table = s.wait_for_line(r"^doctor    (.*)$")[1]
        assert re.search(r"\d+ of \d+ checks are well", table)
        result = corral("doctor", "--port", str(s.port), "--json")
        report = json.loads(result.stdout)
        pid = s.workers()[0]
        assert report["machine"]["looked_at"] == "running server"
        rows = by_id(report)
        assert set(report["checks"][0]) == ROW
        assert rows["thread-affinity"]["status"] == "ok"
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        counted = f"{threads} thread{'s' * (threads != 1)} of 1 worker"
        assert rows["thread-affinity"]["found"] == counted
        assert rows["allocator"] == {**rows["allocator"], "status": "ok", "found": "system"}
        assert rows["swapped-workers"]["status"] in {"ok", "warning"}
        assert sum(report["summary"].values()) == len(report["checks"]) >= 30
        expected = 2 if report["summary"]["error"] else int(report["summary"]["warning"] > 0)
        assert result.returncode == expected


def test_the_mask_of_whoever_asks_is_not_the_servers(server: StartServer) -> None:
    with server("--workers", "2", "--cores-per-worker", "1", "--allocator", "system") as s:
        asked = corral("doctor", "--port", str(s.port), "--json")
        words = [sys.executable, "-m", "corral", "doctor", "--port", str(s.port), "--json"]
        narrow = subprocess.run(
            ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *words],
            check=False, text=True, capture_output=True, timeout=60,
        )  # fmt: skip
        rows = [by_id(json.loads(one.stdout))["cpuset"] for one in (asked, narrow)]
        assert rows[0] == rows[1]
        assert rows[0]["status"] != "error"


def test_a_server_that_was_named_and_is_not_there_is_told() -> None:
    named = corral("doctor", *NO_SERVER)
    assert named.stderr == (
        "corral: no server that we may ask is at port 1: the plan is looked at\n"
    )
    socket = corral("doctor", "--admin-socket", "/proc/none")
    assert "is at /proc/none: the plan is looked at" in socket.stderr


def test_without_a_server_the_plan_is_looked_at(tmp_path: Path) -> None:
    page = tmp_path / "doctor.html"
    result = corral("doctor", *NO_SERVER, "--fail-on", "error", "--html", str(page))
    assert "plan: " in result.stdout
    assert result.returncode in {0, 2}
    drawn = page.read_text()
    assert drawn.startswith("<!doctype html>")
    assert drawn.count('class="cpu') == os.cpu_count()


@pytest.mark.timing
def test_probes_measure_in_a_few_seconds() -> None:
    result = corral("doctor", *NO_SERVER, "--probe", "--json")
    rows = by_id(json.loads(result.stdout))
    units = {
        "bandwidth": "GB/s",
        "frequency": "GHz",
        "wake-up": "µs",
        "front": "messages of 150 KB",
    }
    for name, unit in units.items():
        assert unit in rows[f"probe-{name}"]["found"]
