"""The examples' scripts without the packages that they need: one line with what installs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: run by a person; serve_corral.py is loaded by Ray
SCRIPTS = sorted(path for path in EXAMPLES.glob("*/*.py") if "__main__" in path.read_text("utf-8"))


def _run(script: Path, *words: str, packages: bool) -> subprocess.CompletedProcess[str]:
    options = [] if packages else ["-S"]
    return subprocess.run(
        [sys.executable, *options, str(script), *words], cwd="/", env={},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_missing_package_is_one_line_with_the_command(script: Path) -> None:
    done = _run(script, packages=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script.name}: ")
    assert " is not installed" in line
    assert f"{sys.executable} -m pip install " in line


@pytest.mark.parametrize("script", [p for p in SCRIPTS if p.name == "ask.py"], ids=str)
def test_a_word_too_few_is_the_usage(script: Path) -> None:
    if script.parent.name == "tritonclient":
        pytest.importorskip("tritonclient.grpc")
    done = _run(script, "127.0.0.1:8001", packages=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"usage: {script} HOST:PORT MODEL")
