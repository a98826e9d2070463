"""Engines by name."""

from __future__ import annotations

from collections.abc import Mapping

from corral.backends.base import Backend
from corral.errors import ConfigError
from corral.settings import BackendName

#: How corral runs each engine. Raise an engine's number whenever its runtime changes what it
#: answers or how long it takes: what was measured before is measured again. They stand here
#: because the supervisor asks for them, which imports no runtime.
REVISIONS: Mapping[BackendName, int] = {
    BackendName.NULL: 1,
    BackendName.ONNXRUNTIME: 1,
    BackendName.TORCH: 1,
    BackendName.IPEX: 1,
    BackendName.OPENVINO: 1,
}


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
