"""A server keeps serving when the file of its model is gone: it is read once, at the start."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
from support.running_server import null_server, wait_until

from corral_client import Client

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
