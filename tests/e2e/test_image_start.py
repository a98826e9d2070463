"""What ``corral prepare`` leaves behind is all that a start needs, also where less is installed.

As with deploy/Containerfile: a build stage that has torch and NNCF prepares, and an image without
them serves from a cache that it cannot write to.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.programs import TESTS
from support.running_server import environment, running

MODEL = TESTS / "data" / "models" / "colours.onnx"
WHAT = ["--model", str(MODEL), "--backend", "openvino"]
#: folders of the cache that hold what is made or measured before requests are taken
KEPT = ("artefacts", "guard", "profiles", "curves", "openvino")


@pytest.fixture(scope="module", params=["int8", "auto"])
def precision(request: pytest.FixtureRequest) -> str:
    """By name, and as the image is prepared where nothing is said."""
    return str(request.param)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, precision: str) -> Path:
    """A cache that was prepared."""
    folder = tmp_path_factory.mktemp("image")
    command = [sys.executable, "-m", "corral", "prepare", *WHAT, "--precision", precision]
    command += ["--cores-per-worker", "1", "--cache-dir", str(folder)]
    subprocess.run(command, env=environment(), check=True, timeout=300)
    return folder


def _content(cache: Path) -> dict[str, tuple[int, str]]:
    """Every file that is kept: when it was written, and what is in it."""
    return {
        str(file.relative_to(cache)): (
            file.stat().st_mtime_ns,
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for name in KEPT
        for file in (cache / name).rglob("*")
        if file.is_file()
    }


@pytest.mark.long
def test_prepare_measures_what_a_start_would(cache: Path) -> None:
    folders = {Path(name).parts[0] for name in _content(cache)}
    assert {"artefacts", "guard", "curves", "openvino"} <= folders


@pytest.mark.long
@pytest.mark.parametrize("backend", ["openvino", "auto"])
def test_a_start_measures_and_makes_nothing(cache: Path, precision: str, backend: str) -> None:
    """An engine need not be named where it is the only one that is installed."""
    if (precision, backend) == ("int8", "auto"):
        pytest.skip("nothing was searched for an engine and a precision that were named")
    before = _content(cache)
    command = [sys.executable, "-m", "corral", "serve", *WHAT, "--precision", precision]
    command += ["--backend", backend]
    command += ["--cores-per-worker", "1", "--port", "0", "--metrics-port", "0"]
    path = os.pathsep.join([str(TESTS / "support" / "without_makers"), str(TESTS)])
    with running([*command, "--cache-dir", str(cache)], environ={"PYTHONPATH": path}) as server:
        assert "preparing" not in server.stderr
        assert "measur" not in server.stderr
        assert "not cached" not in server.stderr
    assert _content(cache) == before


def test_without_a_prepared_model_it_says_what_is_missing(tmp_path: Path) -> None:
    """The test's interpreter has indeed no NNCF."""
    command = [sys.executable, "-m", "corral", "prepare", *WHAT, "--precision", "int8"]
    path = os.pathsep.join([str(TESTS / "support" / "without_makers"), str(TESTS)])
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path)],
        env={**environment(), "PYTHONPATH": path},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nncf is not installed" in done.stdout + done.stderr
