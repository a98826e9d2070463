"""LitServe: its bodies are JSON and forms, so the tensor travels as base64 in JSON."""

from __future__ import annotations

import base64
from typing import Any

import litserve
import numpy as np
from engine import MAX_BATCH, Engine, as_item, options
from numpy.typing import NDArray


class ResNet50(litserve.LitAPI):  # type: ignore[misc]
    """The engine; LitServe makes one a worker process.

    Args:
        model: path of the artefact.
        threads: of the engine.
    """

    def __init__(self, model: str, threads: int) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=0.0)
        self._model = model
        self._threads = threads

    def setup(self, device: str) -> None:
        """Compiles the model."""
        self._engine = Engine(self._model, self._threads)

    def decode_request(self, request: dict[str, str]) -> NDArray[np.float32]:
        """One item."""
        return as_item(base64.b64decode(request["tensor"]))

    def batch(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Items to a batch."""
        return inputs[0] if len(inputs) == 1 else np.concatenate(inputs)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs the batch."""
        return self._engine.infer(x)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """One answer a request."""
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Logits as base64 in JSON."""
        return {"logits": base64.b64encode(output.tobytes()).decode()}


def main() -> None:
    """Serves until it is killed."""
    given = options()
    server = litserve.LitServer(
        ResNet50(given.model, given.threads),
        accelerator="cpu",
        workers_per_device=given.workers,
        timeout=120,
    )
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
