"""Modules of this package that run as programs beside a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: what a process needs on its path to find this package
TESTS = Path(__file__).parents[1]


def start(module: str, *args: str) -> subprocess.Popen[bytes]:
    """Starts ``python -m MODULE ARGS`` with pipes for standard input and output."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
