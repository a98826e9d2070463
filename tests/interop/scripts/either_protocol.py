"""What both scripts of tritonclient share: a client of either protocol, and a tensor for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from cases import Servers

SHAPE = (1, 3, 224, 224)
BOTH = (over_grpc, over_http)


@contextlib.contextmanager
def client_of(servers: Servers, library: Any, *, cats: bool = False) -> Iterator[Any]:
    if library is over_grpc:
        where = servers.cats_grpc if cats else servers.grpc
    else:
        where = servers.cats_http if cats else servers.http
    with library.InferenceServerClient(where) as client:
        yield client


def tensor(library: Any, value: float, **options: Any) -> Any:
    array = np.full(SHAPE, value, np.float32)
    found = library.InferInput("input", list(SHAPE), "FP32")
    found.set_data_from_numpy(array, **options)
    return found
