"""``corral-loadtest bars`` against real servers: everything is told, also what failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from corral_loadtest.bars.bar import Report

pytestmark = pytest.mark.long


def _run(folder: Path, *options: str) -> tuple[Report, subprocess.CompletedProcess[str]]:
    done = subprocess.run(
        [
            sys.executable, "-m", "corral_loadtest", "bars", "--own-generator",
            "--rounds", "1", "--seconds", "0.3", "--overload-seconds", "1",
            "--output", str(folder), *options,
        ],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    (file,) = folder.glob("bars-*.json")
    return msgspec.json.decode(file.read_bytes(), type=Report), done


def test_rows_are_measured_and_written(tmp_path: Path) -> None:
    rows = ["connections", "overload"]
    found, done = _run(tmp_path, "--rows", *rows)
    assert not found.failed, done.stderr
    assert list(dict.fromkeys(one.row for one in found.bars)) == rows
    assert [len(one.values) for one in found.bars] == [1, 1, 1]
    assert all(one.judged > 0 for one in found.bars)
    assert done.returncode == any(one.cleared is False for one in found.bars)
    (page,) = tmp_path.glob("bars-*.md")
    for one in found.bars:
        assert f"| {one.name} |" in page.read_text()
        assert f"| {one.name} |" in done.stdout
    assert "corral-loadtest's own generator" in page.read_text()


def test_a_row_that_fails_is_told_and_the_next_is_tried(tmp_path: Path) -> None:
    found, done = _run(tmp_path, "--rows", "connections", "overload", "--corral", "/bin/false")
    assert done.returncode == 1
    assert found.failed == dict.fromkeys(
        ("connections", "overload"), "the server ended with exit code 1"
    )
    assert done.stdout.count("not measured: ") == 2
