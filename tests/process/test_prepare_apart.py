"""Preparing on another interpreter, which may not be able to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _prepare(tmp_path: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """``corral prepare`` with a shell script for an interpreter."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    command = [sys.executable, "-m", "corral", "prepare", "--worker-python", str(python)]
    cache = ["--cache-dir", str(tmp_path / "cache"), "--weights", "synthetic"]
    return subprocess.run(
        [*command, *cache, *options],
        env={**os.environ, "CORRAL_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("backend", ["ipex", "openvino"])
def test_prepare_runs_on_the_workers_interpreter(tmp_path: Path, backend: str) -> None:
    # It is asked first whether it is a Python that is new enough.
    script = f"""case "$*" in *" -c "*) exec {sys.executable} "$@";; esac
case "$*" in *prepare_entry*) echo "asked to run corral.tuning.prepare_entry"; exit 2;; esac
exit 3"""
    done = _prepare(tmp_path, script, "--backend", backend)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "corral: asked to run corral.tuning.prepare_entry\n"


def test_an_interpreter_without_corrals_packages_is_one_line(tmp_path: Path) -> None:
    done = _prepare(tmp_path, f'exec {sys.executable} -S "$@"', "--backend", "openvino")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("corral: --worker-python ")
    assert "is not installed there" in line
    assert "-m pip install " in line
    assert "[serve]'" in line
