"""NaN and infinities in a request: answered, and nobody else's answer changes by a bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.running_server import Server, StartServer

from corral_client import Client

MODEL = "efficientnet_lite0"


def items(seed: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 3, 224, 224)).astype(np.float32)


def poisoned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same, but every other item is made of NaN, infinities, or both."""
    found = values.copy()
    found[1] = math.nan
    found[3, 0] = math.inf
    found[3, 1] = -math.inf
    return found


def bits(values: NDArray[Any]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def test_nan_and_inf_leave_those_run_alone_as_they_were(cats: Server) -> None:
    # In rti a batch is 1.
    check(cats)


def test_nan_and_inf_leave_batch_mates_as_they_were(real_server: StartServer) -> None:
    batches = ("--max-batch", "4", "--workers", "1")
    with real_server("--model", MODEL, *batches, ready=False) as server:
        server.wait_until_ready(timeout_s=180)
        check(server)


def check(server: Server) -> None:
    """Four items with and without two mad ones among them, and two of them by themselves."""
    with Client(f"127.0.0.1:{server.port}", model=MODEL) as client:
        healthy = items(3, 4)
        among_sane = client.infer(healthy)
        among_mad = client.infer(poisoned(healthy))
        alone = [client.infer(healthy[n : n + 1])[0] for n in (0, 2)]
    for mate, by_itself in zip((0, 2), alone, strict=True):
        np.testing.assert_array_equal(bits(among_mad[mate]), bits(among_sane[mate]))
        np.testing.assert_array_equal(bits(among_mad[mate]), bits(by_itself))
    assert among_mad.shape == among_sane.shape
    assert np.isfinite(among_sane).all()
    assert not np.array_equal(bits(among_mad[1]), bits(among_sane[1]))
