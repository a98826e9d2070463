"""Real servers with real models: artefacts are made once a session, in a cache of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running_server import Server, StartServer, running

from corral.artifacts.build import prepare
from corral.planning import topology
from corral.settings import BackendName, Precision, Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def artefact_cache() -> Path:
    """A cache that outlives the run, so that a second run prepares nothing."""
    return Path(os.environ.get("CORRAL_TEST_CACHE", ROOT / ".cache" / "e2e"))


@pytest.fixture(scope="session")
def real_server(artefact_cache: Path) -> StartServer:
    """Starts ``corral serve ARGS`` with OpenVINO on free ports."""

    def start(*args: str, ready: bool = True) -> contextlib.AbstractContextManager[Server]:
        command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
        # Named, so that no test waits for a search; a later argument wins.
        engine = ["--backend", "openvino", "--precision", "fp32"]
        return running([*command, "--cache-dir", str(artefact_cache), *engine, *args], ready=ready)

    return start


@pytest.fixture(scope="session")
def cats(real_server: StartServer) -> Iterator[Server]:
    """EfficientNet-Lite0 with its real weights, in FP32, ready to tell what it sees."""
    with real_server("--model", "efficientnet_lite0", ready=False) as server:
        server.wait_until_ready(timeout_s=180)
        yield server


@pytest.fixture
def prepared_cache(artefact_cache: Path, tmp_path: Path) -> Path:
    """A cache with every artefact of EfficientNet-Lite0 that a quick search wants, and no more."""
    for backend, precision in (
        (BackendName.OPENVINO, Precision.FP32),
        (BackendName.OPENVINO, Precision.INT8),
        (BackendName.ONNXRUNTIME, Precision.FP32),
        (BackendName.ONNXRUNTIME, Precision.INT8),
    ):
        settings = Settings.flat(
            model="efficientnet_lite0",
            backend=backend,
            precision=precision,
            cache_dir=str(artefact_cache),
        )
        made = prepare(settings, lambda step, share: None, topology.read_machine().isa)
        folder = made.path.parent
        shutil.copytree(folder, tmp_path / "artefacts" / folder.name, dirs_exist_ok=True)
    return tmp_path
