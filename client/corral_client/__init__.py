"""Talks to corral, or to any other server of the Open Inference Protocol.

    with Client() as client:
        for label in client.classify("cat.jpg"):
            print(label.score, label.label)

It needs grpcio, protobuf and numpy, and nothing of the server.
"""

import importlib
from typing import TYPE_CHECKING, Any

from corral_client.version import __version__

if TYPE_CHECKING:
    from corral_client.aio import AsyncClient
    from corral_client.client import Client
    from corral_client.codec import Label
    from corral_client.errors import (
        CorralClientError,
        DeadlineExceeded,
        InternalError,
        InvalidArgument,
        NotFound,
        Overloaded,
        PermissionDenied,
        Unauthenticated,
        Unavailable,
    )
    from corral_client.http import HttpClient
    from corral_client.pages import ModelMetadata, ModelStatistics, Spent, TensorMetadata

__all__ = [
    "AsyncClient",
    "Client",
    "CorralClientError",
    "DeadlineExceeded",
    "HttpClient",
    "InternalError",
    "InvalidArgument",
    "Label",
    "ModelMetadata",
    "ModelStatistics",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Spent",
    "TensorMetadata",
    "Unauthenticated",
    "Unavailable",
    "__version__",
]

_MODULES = {
    "AsyncClient": "corral_client.aio",
    "Client": "corral_client.client",
    "Label": "corral_client.codec",
    "HttpClient": "corral_client.http",
    "CorralClientError": "corral_client.errors",
    "DeadlineExceeded": "corral_client.errors",
    "InternalError": "corral_client.errors",
    "InvalidArgument": "corral_client.errors",
    "NotFound": "corral_client.errors",
    "Overloaded": "corral_client.errors",
    "PermissionDenied": "corral_client.errors",
    "Unauthenticated": "corral_client.errors",
    "Unavailable": "corral_client.errors",
    "ModelMetadata": "corral_client.pages",
    "ModelStatistics": "corral_client.pages",
    "Spent": "corral_client.pages",
    "TensorMetadata": "corral_client.pages",
}


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: the console script settles NumPy's threads before.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found
