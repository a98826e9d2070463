"""Engines by name."""

from __future__ import annotations

from corral.backends.base import Backend
from corral.errors import ConfigError
from corral.settings import BackendName


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
