"""A model of one's own, with tensors in clients' memory."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from support.matrix_model import write_matrix_model
from support.running_server import StartServer


@pytest.fixture
def shared() -> Iterator[shared_memory.SharedMemory]:
    """A client's shared memory, as Triton's clients make it."""
    memory = shared_memory.SharedMemory(create=True, size=4096)
    yield memory
    memory.close()
    memory.unlink()


def test_a_strangers_model_takes_tensors_out_of_clients_memory(
    real_server: StartServer, tmp_path: Path, shared: shared_memory.SharedMemory
) -> None:
    matrix = write_matrix_model(tmp_path / "iris.onnx")
    rows = np.random.default_rng(2).normal(size=(2, 5)).astype(np.float32)
    assert shared.buf is not None
    shared.buf[: rows.nbytes] = rows.tobytes()
    options = ["--model", str(tmp_path / "iris.onnx"), "--backend", "onnxruntime"]
    with real_server(*options, "--workers", "1", "--client-shared-memory", ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            client.register_system_shared_memory("memory", f"/{shared.name}", 4096)
            tensor = triton.InferInput("input", list(rows.shape), "FP32")
            tensor.set_shared_memory("memory", rows.nbytes)
            output = triton.InferRequestedOutput("output")
            output.set_shared_memory("memory", 24, 1024)
            client.infer("iris", [tensor], outputs=[output])
            found = np.frombuffer(bytes(shared.buf[1024:1048]), np.float32).reshape(2, 3)
            np.testing.assert_allclose(found, rows @ matrix, rtol=1e-5, atol=1e-5)
            tensor.set_shared_memory("memory", rows.nbytes - 4)
            with pytest.raises(triton.InferenceServerException, match="36 bytes"):
                client.infer("iris", [tensor])
