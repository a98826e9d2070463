"""What grpc.health.v1 tells a watcher, with the times: for promises about how soon."""

from __future__ import annotations

import threading
import time
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.running_server import PATIENCE_S, wait_until


class HealthWatch:
    """A Watch stream in a thread of its own: ``with HealthWatch(port) as watch: ...``.

    Attributes:
        told: monotonic seconds and status, as they came.
    """

    def __init__(self, port: int) -> None:
        self.told: list[tuple[float, str]] = []
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        request = health_pb2.HealthCheckRequest(service="")
        self._stream = health_pb2_grpc.HealthStub(self._channel).Watch(request)
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.told, "the first word about health")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.cancel()
        self._thread.join()
        self._channel.close()

    def wait_for(self, status: str, since_s: float, timeout_s: float = PATIENCE_S) -> float:
        """Waits until it is told, after a time; returns how many seconds after."""

        def find() -> list[float]:
            return [at_s for at_s, told in self.told if told == status and at_s >= since_s]

        at_s: float = wait_until(find, f"health to say {status}; it said {self.told}", timeout_s)[0]
        return at_s - since_s

    def _run(self) -> None:
        try:
            for answer in self._stream:
                name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
                self.told.append((time.monotonic(), name))
        except grpc.RpcError:
            # The server or the test is done with it.
            return
