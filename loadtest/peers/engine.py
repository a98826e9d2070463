"""The same engine behind every peer: the artefact on OpenVINO, in compiled sizes of 1 to 8.

Every peer's own environment has openvino and numpy, so that what differs is the server alone.
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

ITEM = (3, 224, 224)
CLASSES = 1000
SIZES = (8, 4, 2, 1)
MAX_BATCH = SIZES[0]


class Engine:
    """FP32 [n,3,224,224] to FP32 [n,1000]; one batch at a time.

    Args:
        xml: path of the artefact.
        threads: that one batch is computed with.
    """

    def __init__(self, xml: str, threads: int) -> None:
        # Importing openvino would send a usage event.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        import openvino

        core = openvino.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        self._lock = threading.Lock()
        self._requests: dict[int, tuple[Any, NDArray[np.float32]]] = {}
        for size in SIZES:
            model = core.read_model(xml)
            model.reshape([size, *ITEM])
            request = core.compile_model(model, "CPU", options).create_infer_request()
            # A buffer of our own: what a server hands over may be read-only, or not aligned.
            items = np.zeros((size, *ITEM), np.float32)
            request.set_input_tensor(openvino.Tensor(items, shared_memory=True))
            self._requests[size] = (request, items)
            self._run(items)

    def infer(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs a batch of any size, cut into the compiled sizes."""
        with self._lock:
            parts: list[NDArray[np.float32]] = []
            at = 0
            for size in SIZES:
                while len(items) - at >= size:
                    parts.append(self._run(items[at : at + size]))
                    at += size
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def infer_bytes(self, body: bytes | bytearray | memoryview) -> bytes:
        """One item's little-endian FP32 bytes to its logits' bytes."""
        return self.infer(as_item(body)).tobytes()

    def _run(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        request, buffer = self._requests[len(items)]
        np.copyto(buffer, items)
        request.infer()
        return np.array(request.get_output_tensor(0).data)


def as_item(body: bytes | bytearray | memoryview) -> NDArray[np.float32]:
    """A request's body as FP32 [1,3,224,224], without a copy."""
    return np.frombuffer(body, "<f4").reshape(1, *ITEM)


def options() -> argparse.Namespace:
    """What every peer is started with: model, port, workers, threads (each), folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="path of the artefact's model.xml")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1, help="engines")
    parser.add_argument("--threads", type=int, default=1, help="of each engine")
    parser.add_argument("--folder", required=True, help="for what the server writes")
    return parser.parse_args()
