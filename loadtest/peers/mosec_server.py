"""mosec: its Rust front, with the tensor's bytes as the body."""

from __future__ import annotations

import os
import sys

import numpy as np
from engine import MAX_BATCH, Engine, as_item, options
from mosec import Server, Worker
from numpy.typing import NDArray


class ResNet50(Worker):  # type: ignore[misc]
    """The engine; mosec makes one a worker process."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        self._engine = Engine(os.environ["PEER_MODEL"], int(os.environ["PEER_THREADS"]))

    def deserialize(self, data: bytes) -> NDArray[np.float32]:
        """One item."""
        return as_item(data)

    def serialize(self, data: NDArray[np.float32]) -> bytes:
        """Its logits."""
        return data.tobytes()

    def forward(self, data: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Runs a batch."""
        return list(self._engine.infer(data[0] if len(data) == 1 else np.concatenate(data)))


def main() -> None:
    """Serves until it is killed."""
    given = options()
    # mosec reads its own options from argv.
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(given.port), "--timeout", "120000"]
    sys.argv += ["--log-level", "warning"]
    server = Server()
    server.append_worker(
        ResNet50,
        num=given.workers,
        max_batch_size=MAX_BATCH,
        max_wait_time=1,
        env=[{"PEER_MODEL": given.model, "PEER_THREADS": str(given.threads)}] * given.workers,
    )
    server.run()


if __name__ == "__main__":
    main()
