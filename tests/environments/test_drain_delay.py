"""A load balancer has time to hear that a server leaves: not ready first, refusals later."""

from __future__ import annotations

import http.client
import signal
import time

import numpy as np
import pytest
from support.running_server import null_server, wait_until

from corral_client import Client

_ITEM = np.zeros((1, 3, 224, 224), np.float32)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.mark.parametrize("delay_s", [2.0, 4.0])
def test_requests_are_taken_until_the_delay_is_over(delay_s: float) -> None:
    options = ["--workers", "1", "--drain-delay-s", f"{delay_s}"]
    with (
        null_server(*options) as server,
        Client(f"127.0.0.1:{server.port}", model="resnet50", deadline_s=30) as client,
    ):
        assert client.ready()
        assert _ready(server.metrics_port)
        began_s = time.monotonic()
        server.signal(signal.SIGTERM)
        wait_until(lambda: not client.ready(), "not ready by gRPC")
        assert not _ready(server.metrics_port)
        assert time.monotonic() - began_s < delay_s, "too late to prove anything"
        answers = 0
        while time.monotonic() - began_s < delay_s * 0.8:
            client.infer(_ITEM)
            answers += 1
        assert answers
        assert server.wait() == 0
        assert time.monotonic() - began_s >= delay_s


def test_a_second_signal_does_not_wait() -> None:
    with null_server("--workers", "1", "--drain-delay-s", "300") as server:
        server.signal(signal.SIGTERM)
        server.wait_for_line("taking requests for 300 s")
        # At once it would be the first one, delivered twice.
        time.sleep(0.1)
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
