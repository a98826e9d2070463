"""R12 with a real engine: a cache on a disk that is full when a server starts, or is reloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from support.matrix_model import write_matrix_model
from support.running_server import Server, environment, running
from support.scenarios.reload import ask_admin
from support.starved import can_mount, with_tmpfs

_FULL = "No space left on device"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder where a file system can be mounted."""
    folder = tmp_path / "cache"
    folder.mkdir()
    if not can_mount(folder):
        pytest.skip("this user may not mount a file system")
    return folder


def _command(model: Path, cache: Path) -> list[str]:
    engine = ["--backend", "onnxruntime", "--precision", "fp32", "--model", str(model)]
    ports = ["--port", "0", "--metrics-port", "0", "--workers", "1"]
    corral = [sys.executable, "-m", "corral", "serve", "--cache-dir", str(cache)]
    return [*corral, *engine, *ports]


def _reload(server: Server) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corral", "reload", "--port", str(server.port)],
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_r12_a_start_on_a_full_disk_is_one_line_and_exit_code_2(
    cache: Path, tmp_path: Path
) -> None:
    model = tmp_path / "iris.onnx"
    write_matrix_model(model, 1)
    # A page: for the model, and not for what is said about it.
    with running(with_tmpfs(cache, "size=4k", _command(model, cache)), ready=False) as server:
        assert server.wait() == 2
        assert server.lines[-1].startswith("corral: ")
        assert str(cache) in server.lines[-1]
        assert _FULL in server.lines[-1]
        assert "Traceback" not in server.stderr


def test_r12_a_reload_on_a_full_disk_changes_nothing_and_works_once_there_is_room(
    cache: Path, tmp_path: Path
) -> None:
    model = tmp_path / "iris.onnx"
    rows = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    before = rows @ write_matrix_model(model, 1)
    with running(with_tmpfs(cache, "size=1m", _command(model, cache)), ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        # Such a file system is everybody's to write to, unless told otherwise.
        server.wait_for_line(f"{cache} can be written to by everybody: ")
        after = rows @ write_matrix_model(model, 2)
        # The server's own view: here the folder is empty.
        ballast = Path(f"/proc/{server.pid}/root{cache}/ballast")
        with pytest.raises(OSError, match=_FULL), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            tensor = triton.InferInput("input", list(rows.shape), "FP32")
            tensor.set_data_from_numpy(rows)

            def answer() -> NDArray[np.float32]:
                found: NDArray[np.float32] = client.infer("iris", [tensor]).as_numpy("output")
                return found

            workers = server.workers()
            refused = _reload(server)
            assert refused.returncode == 2
            assert len(refused.stderr.splitlines()) == 1
            assert _FULL in refused.stderr
            assert server.workers() == workers
            np.testing.assert_allclose(answer(), before, rtol=1e-5, atol=1e-5)
            ballast.unlink()
            reply = ask_admin(server, "reload")
            assert reply.exit_code == 0, reply.text
            np.testing.assert_allclose(answer(), after, rtol=1e-5, atol=1e-5)
        assert server.stop() == 0
