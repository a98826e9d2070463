"""R1 and R7 with a real engine, and with clients that are not ours and know nothing of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from support.running_server import BUSY_S, Server, StartServer, wait_until
from support.scenarios.end import family, gone
from support.scenarios.fault import is_back, wait_for_workers
from support.server_counters import CounterWatch, Scrape

from corral_loadtest.generator import perf_analyzer

ROOT = Path(__file__).parents[2]
MODEL = "efficientnet_lite0"
TWO_WORKERS = ("--model", MODEL, "--workers", "2", "--cores-per-worker", "1", "--oversubscribe")


@pytest.fixture(scope="module")
def pair(real_server: StartServer) -> Iterator[Server]:
    """A real model behind two workers."""
    with real_server(*TWO_WORKERS, ready=False) as server:
        server.wait_until_ready(timeout_s=180)
        wait_for_workers(server, 2)
        yield server


def kill_one(server: Server) -> float:
    """Kills a worker; returns how many seconds later its slot is filled again."""
    worker, pid = sorted(server.workers_by_id().items())[0]
    killed_s = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_back(server, worker, pid), f"worker {worker} to be back")
    return time.monotonic() - killed_s


def test_r1_tritonclient_notices_no_death_and_gets_the_same_answers(pair: Server) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), np.uint8)
    tensor = triton.InferInput("input", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    stop = threading.Event()

    def ask_on(client: triton.InferenceServerClient) -> int:
        answered = 0
        while not stop.is_set():
            output = client.infer(MODEL, [tensor]).as_numpy("output")
            np.testing.assert_array_equal(output, expected)
            answered += 1
        return answered

    before = Scrape(pair.metrics_port).total("corral_requests_total", outcome="succeeded")
    with (
        triton.InferenceServerClient(f"127.0.0.1:{pair.port}") as client,
        CounterWatch(pair.metrics_port) as watch,
        ThreadPoolExecutor(3) as pool,
    ):
        expected = client.infer(MODEL, [tensor]).as_numpy("output")
        loops = [pool.submit(ask_on, client) for _ in range(3)]
        try:
            seconds = kill_one(pair)
        finally:
            stop.set()
        answered = 1 + sum(loop.result() for loop in loops)
    assert seconds < 15
    assert not watch.went_down
    after = Scrape(pair.metrics_port)
    assert after.total("corral_requests_total", outcome="succeeded") - before == answered
    assert after.total("nv_inference_request_failure_total") == 0
    # As a rule it held a batch when it died.
    assert after.total("corral_items_retried_total") <= 1


def test_r1_perf_analyzer_notices_no_death(pair: Server) -> None:
    try:
        binary = perf_analyzer.install(ROOT / ".cache" / "perf_analyzer")
    except perf_analyzer.Missing as reason:
        pytest.skip(str(reason))
    before = Scrape(pair.metrics_port)
    worker_is_back = threading.Event()

    def measure_until_back() -> list[float]:
        """On a slow machine one run is over before the worker is back."""
        rates: list[float] = []
        while not rates or not worker_is_back.is_set():
            found = perf_analyzer.measure(
                binary, f"127.0.0.1:{pair.port}", f"{MODEL}_uint8", 3, 2000
            )
            rates.append(found.requests_per_s)
        return rates

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(measure_until_back)
        try:
            wait_until(
                lambda: (
                    Scrape(pair.metrics_port).total("corral_requests_received_total")
                    > before.total("corral_requests_received_total") + 5
                ),
                "perf_analyzer's requests",
            )
            assert kill_one(pair) < 15
        finally:
            worker_is_back.set()
        # It ends with an error when a single request fails.
        assert min(running.result()) > 1
    after = Scrape(pair.metrics_port)
    for outcome in ("failed", "unavailable", "refused", "expired"):
        assert after.total("corral_requests_total", outcome=outcome) == 0


def test_r7_a_killed_supervisor_takes_workers_along_that_compute(real_server: StartServer) -> None:
    tensor = triton.InferInput("input", [1, 224, 224, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 224, 224, 3), np.uint8))
    with real_server(*TWO_WORKERS, ready=False) as server:
        server.wait_until_ready(timeout_s=180)
        wait_for_workers(server, 2)
        processes = family(server)
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            for _ in range(16):
                client.async_infer(MODEL, [tensor], callback=lambda result, error: None)
            client.infer(MODEL, [tensor])
            server.signal(signal.SIGKILL)
            wait_until(lambda: gone(processes), "the children to be gone", 5 + BUSY_S)
