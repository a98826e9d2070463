"""A server keeps serving when the file of its model is gone: it is read once, at the start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
from support.matrix_model import write_matrix_model
from support.running_server import null_server, wait_until

from corral_client import Client
from corral_protos import health_pb2

_DATA = Path(__file__).parents[1] / "data" / "models"


def test_a_frontend_that_dies_comes_back_without_the_models_file(tmp_path: Path) -> None:
    for name in ("colours.onnx", "colours.toml", "colours.txt"):
        shutil.copy(_DATA / name, tmp_path / name)
    with null_server("--model", str(tmp_path / "colours.onnx"), "--workers", "1") as server:
        shutil.rmtree(tmp_path)
        (first,) = server.frontends()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: server.frontends() not in ([], [first]), "another frontend")
        with Client(f"127.0.0.1:{server.port}", model="colours") as client:
            wait_until(client.ready, "the new frontend serves")
            shape = client.metadata("colours").inputs[0].shape
            answer = client.infer(np.zeros((1, *shape[1:]), np.float32))
    assert answer.shape[0] == 1


def test_a_reload_whose_notes_do_not_fit_leaves_all_as_it_was(tmp_path: Path) -> None:
    for name in ("colours.onnx", "colours.toml", "colours.txt"):
        shutil.copy(_DATA / name, tmp_path / name)
    with null_server("--model", str(tmp_path / "colours.onnx"), "--workers", "1") as server:
        workers = server.workers()
        for notes, cause in (
            ('[preprocessing]\nlayout = "NHWC"\n', "is for pictures, [n,side,side,3]"),
            ("[shapes]\npixel = [3, 32, 32]\n", "a shape is given for 'pixel'"),
            ("[shapes]\npixels = [3, 33, 33]\n", "cannot be [3,33,33]"),
        ):
            (tmp_path / "colours.toml").write_text(notes)
            command = [sys.executable, "-m", "corral", "reload", "--port", str(server.port)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 2
            assert cause in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
        assert server.workers() == workers
        with Client(f"127.0.0.1:{server.port}", model="colours") as client:
            assert client.infer(np.zeros((1, 3, 32, 32), np.float32)).shape[0] == 1


def test_no_service_goes_by_a_name_that_the_model_does_not_have(tmp_path: Path) -> None:
    """A model that takes no pictures has one name, in health as elsewhere."""
    write_matrix_model(tmp_path / "matrix.onnx")
    with (
        null_server("--model", str(tmp_path / "matrix.onnx"), "--workers", "1") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        listed = channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=10)
        services = set(health_pb2.HealthListResponse.FromString(listed).statuses)
        assert services == {"", "inference.GRPCInferenceService", "matrix"}
