"""The generator of a search's load, whose starter may be ended at any moment."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "heard",
    [
        b"",
        b'{"port": 1, "length": 9, "offsets": [0.0]}\n',
        b'{"port": 1, "length": 9, "offsets": [0.0]}\nhalf',
    ],
)
def test_it_ends_in_silence_where_nobody_orders(heard: bytes) -> None:
    command = [sys.executable, "-m", "corral.slo.load"]
    done = subprocess.run(command, input=heard, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
