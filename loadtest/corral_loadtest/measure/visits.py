"""A closed loop that stays connected and loads a server in short visits, in this process.

A run of the generator's own processes takes seconds to begin; what is compared in turns of half a
second has its connection and its requests beforehand.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec

from corral_loadtest.generator import channel
from corral_loadtest.generator.payload import messages
from corral_loadtest.servers import process_tree
from corral_loadtest.specification import Payload, Target


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What a visit found.

    Attributes:
        requests: that were answered.
        seconds: from the first request to the last answer.
        parent_us: CPU that the server's first process took for a request.
        children_us: CPU that all others of the server took for a request.
    """

    requests: int
    seconds: float
    parent_us: float
    children_us: float

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU of the whole server for a request."""
        return self.parent_us + self.children_us


class Visitor:
    """Clients on one connection, each with one request under way while a visit lasts.

    Args:
        address: HOST:PORT.
        pid: of the server's first process.
        clients: requests under way.
        payload: what is sent.

    Raises:
        WrongInput: nobody answers there, or takes no such request.
    """

    def __init__(self, address: str, pid: int, clients: int, payload: Payload) -> None:
        target = Target(address=address)
        self._pid = pid
        self._clients = clients
        self._channel = channel.open_channel(target)
        channel.wait_connected(self._channel, target)
        page = channel.model_metadata(self._channel, target)
        self._message = messages(page, payload, target)[0]
        channel.try_request(self._channel, target, self._message)
        self._infer = channel.infer_method(self._channel)
        self._lock = threading.Lock()

    def ask(self) -> float:
        """Sends one request; seconds until its answer.

        Raises:
            grpc.RpcError: it failed.
        """
        began_s = time.perf_counter()
        self._infer(self._message, timeout=60.0)
        return time.perf_counter() - began_s

    def visit(self, seconds: float) -> Visit:
        """Loads the server for a while, and waits for every answer.

        Raises:
            RuntimeError: a request failed.
        """
        before = process_tree.cpu_by_process_s(self._pid)
        done = threading.Event()
        counts = {"answered": 0, "left": self._clients}
        failures: list[str] = []
        began_s = time.perf_counter()
        end_s = began_s + seconds

        def send() -> None:
            self._infer.future(self._message, timeout=60.0).add_done_callback(ended)

        def ended(call: Any) -> None:
            with self._lock:
                if call.code().value[0]:
                    failures.append(f"{call.code().name}: {call.details()}")
                counts["answered"] += 1
                over = bool(failures) or time.perf_counter() >= end_s
                counts["left"] -= over
                if not counts["left"]:
                    done.set()
            if not over:
                send()

        for _ in range(self._clients):
            send()
        if not done.wait(seconds + 70.0):
            raise RuntimeError("requests were not answered within 70 s")
        took_s = time.perf_counter() - began_s
        if failures:
            raise RuntimeError(failures[0])
        used_us = {
            pid: 1e6 * (used_s - before.get(pid, 0.0)) / counts["answered"]
            for pid, used_s in process_tree.cpu_by_process_s(self._pid).items()
        }
        parent_us = used_us.pop(self._pid)
        return Visit(
            requests=counts["answered"],
            seconds=took_s,
            parent_us=parent_us,
            children_us=sum(used_us.values()),
        )

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()
