"""The Ray Serve example on a cluster of two nodes: spread, one server killed, two again.

Real Ray, wherever CORRAL_TEST_RAY_PYTHON says that it is installed beside corral.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ray_serve"
PICTURE = ROOT / "server" / "corral" / "models" / "photographs" / "calibration" / "clock.jpg"
PYTHON = os.environ.get("CORRAL_TEST_RAY_PYTHON", "")

pytestmark = pytest.mark.skipif(
    not PYTHON and importlib.util.find_spec("ray") is None,
    reason="no Ray here; CORRAL_TEST_RAY_PYTHON names an interpreter with ray[serve] and corral",
)


def test_two_nodes_spread_and_a_killed_server_is_replaced() -> None:
    done = subprocess.run(
        [PYTHON or sys.executable, "try_two_nodes.py", str(PICTURE)],
        cwd=EXAMPLE, capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "CORRAL_OFFLINE": "1"},
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    spread, killed, again = (_by_server(done.stdout, name) for name in ("two", "one", "two again"))
    assert len(spread) == 2
    assert 0 not in spread
    # Requests of the dead server fail until Ray has seen it: no more than its share.
    assert killed.get(0, 0) <= 100
    assert sum(count for pid, count in killed.items() if pid) >= 100
    assert len(again) == 2
    assert 0 not in again
    assert set(again) != set(spread)


def _by_server(output: str, line: str) -> dict[int, int]:
    """Answers by the server's pid, of the line that begins so; 0 stands for failures."""
    (found,) = re.findall(rf"^{line}(?: nodes| server killed)?: ({{.*?}})", output, re.M)
    return {int(pid): int(count) for pid, count in re.findall(r"(\d+): (\d+)", found)}
