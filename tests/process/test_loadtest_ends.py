"""A load test that is ended leaves nothing behind that it started."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.running_server import environment, wait_until

#: stands in for corral: notes its pid, and works for longer than any test
_WORKS_ON = """#!/bin/sh
echo $$ > {pid}
exec sleep 600
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "words", [["bars", "--rows", "poisson"], ["compare"]], ids=["bars", "compare"]
)
def test_what_it_started_ends_with_it(
    words: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    pid, corral = tmp_path / "pid", tmp_path / "corral"
    corral.write_text(_WORKS_ON.format(pid=pid))
    corral.chmod(0o755)
    command = [sys.executable, "-m", "corral_loadtest", *words]
    places = ["--corral", str(corral), "--output", str(tmp_path)]
    with subprocess.Popen(
        [*command, *places], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    ) as running:  # fmt: skip
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"), "it has started corral")
        running.send_signal(number)
        _, stderr = running.communicate(timeout=30)
    assert "Traceback" not in stderr
    assert running.returncode in {1, 130}
    child = Path("/proc", pid.read_text().strip())
    wait_until(lambda: not child.exists(), "corral has ended")
