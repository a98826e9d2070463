"""``corral-loadtest settings`` on servers of the null backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from corral_loadtest.settings.verdict import Report

# Of the tools that measure.
pytestmark = pytest.mark.long


def test_the_faster_settings_keep_the_higher_rate(tmp_path: Path) -> None:
    for name, item_ms in (("slow", 40), ("fast", 5)):
        (tmp_path / f"{name}.toml").write_text(
            f'backend = "null"\nallocator = "system"\nworkers = 1\nnull-item-ms = {item_ms}\n'
        )
    done = subprocess.run(
        [
            sys.executable, "-m", "corral_loadtest", "settings", "slow.toml", "fast.toml",
            "--p99-ms", "400", "--rates", "60,5", "--rounds", "1", "--round-s", "2",
            "--json", "found.json",
        ],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Report)
    assert found.complete
    assert found.rates == [5.0, 60.0]
    slow, fast = found.rows
    # One worker of 40 ms makes 25 a second.
    assert (slow.highest_per_s, fast.highest_per_s) == (5.0, 60.0)
    assert fast.ratio is not None
    assert fast.ratio.median == 12.0
    assert "| fast.toml | 60 | 60 | 12.00 (12.00 to 12.00) |" in done.stdout
