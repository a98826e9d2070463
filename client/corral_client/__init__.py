"""Talks to corral, or to any other server of the Open Inference Protocol.

    with Client() as client:
        for label in client.classify("cat.jpg"):
            print(label.score, label.label)

It needs grpcio, protobuf and numpy, and nothing of the server.
"""

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
from corral_client.version import __version__

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
