"""Engines, behind five methods. A backend is imported only when a worker asks for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corral.errors import ConfigError
from corral.ipc.messages import WorkerBoot
from corral.settings import BackendName
from corral.tensors import Datatype


class Backend(Protocol):
    """One engine in one worker, used from one thread."""

    def load(self, boot: WorkerBoot) -> None:
        """Reads the model. Raises ModelError or ConfigError when that can never work."""

    def compile(
        self,
        datatype: Datatype,
        inputs: NDArray[np.generic],
        outputs: NDArray[np.float32],
    ) -> None:
        """Readies batches of exactly ``len(inputs)`` items of ``datatype``.

        The arrays lie in the worker's region: ``run`` reads and writes them, without a copy.
        """

    def run(self, datatype: Datatype, count: int) -> None:
        """Runs the batch that lies in the input array that was compiled for these two."""

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets what ``compile`` made for these two, and frees its memory."""

    def describe(self) -> dict[str, str]:
        """Engine, version, precision, threads: what the start-up table shows."""


def create(name: BackendName) -> Backend:
    """The backend of that name, its framework imported."""
    match name:
        case BackendName.NULL:
            from corral.backends.null.runtime import NullBackend

            return NullBackend()
        case BackendName.ONNXRUNTIME:
            from corral.backends.onnxruntime.runtime import OnnxRuntimeBackend

            return OnnxRuntimeBackend()
        case BackendName.TORCH | BackendName.IPEX:
            from corral.backends.torch.runtime import TorchBackend

            return TorchBackend()
        case BackendName.OPENVINO:
            from corral.backends.openvino.runtime import OpenVINOBackend

            return OpenVINOBackend()
        case BackendName.AUTO:
            raise ConfigError("--backend auto is settled before a worker starts")
