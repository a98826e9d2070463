"""Triton, from the wheel nvidia-pytriton: Python backend, dynamic batcher, gRPC."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig

import numpy as np
from engine import CLASSES, ITEM, MAX_BATCH, Engine, options
from numpy.typing import NDArray
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _use_own_libpython() -> None:
    """Starts again with this interpreter's libpython first.

    The patch that Triton's Python backend needs where the system has another libpython of the
    same minor version: its stub is linked to libpython3.11.so.1.0, finds the system's, and dies in
    a standard library that is newer ("RLock has no attribute _recursion_count").
    """
    folder = sysconfig.get_config_var("LIBDIR") or ""
    known = os.environ.get("LD_LIBRARY_PATH", "")
    if folder and folder not in known.split(":"):
        environment = {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{known}".rstrip(":")}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def main() -> None:
    """Serves until it is killed."""
    _use_own_libpython()
    given = options()

    def instance() -> object:
        engine = Engine(given.model, given.threads)

        def infer(requests: list[dict[str, NDArray[np.float32]]]) -> list[dict[str, object]]:
            arrays = [request["input"] for request in requests]
            found = engine.infer(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
            ends = np.cumsum([len(array) for array in arrays])[:-1]
            return [{"output": part} for part in np.split(found, ends)]

        return infer

    config = TritonConfig(
        grpc_port=given.port,
        grpc_address="127.0.0.1",
        http_port=_free_port(),
        http_address="127.0.0.1",
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="resnet50",
            infer_func=[instance() for _ in range(given.workers)],
            inputs=[Tensor(name="input", dtype=np.float32, shape=ITEM)],
            outputs=[Tensor(name="output", dtype=np.float32, shape=(CLASSES,))],
            config=ModelConfig(
                max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
