"""A server to look at that is made of data: status, machine, counters."""

from __future__ import annotations

import os
from typing import Any

from corral.console.sample import Place, Sample, take
from corral.ipc.status import Cause, CellStatus, Phase, ServerStatus, State, WorkerStatus
from corral.metrics import counters
from corral.planning.machine import Core, Machine, Node

#: two packages of a node each; two cores of two CPUs share an L3
MACHINE = Machine(
    cores=tuple(
        Core(cpus=(2 * core, 2 * core + 1), package=core // 2, node=core // 2, l3=core // 2)
        for core in range(4)
    ),
    nodes=tuple(
        Node(id=node, cpus=tuple(range(4 * node, 4 * node + 4)), memory_bytes=2**36)
        for node in range(2)
    ),
    affinity_cpus=tuple(range(7)),
)


def worker(number: int, cell: int = 0, slot: int | None = None, **changes: Any) -> WorkerStatus:
    fields: dict[str, Any] = {
        "id": number,
        "cell": cell,
        "slot": number if slot is None else slot,
        "state": State.VERIFIED,
        "pid": 4711 + number,
        "restarts": dict.fromkeys(Cause, 0),
        "cpus": [2 * number],
        "cores": 1,
        "memory_node": None,
        "boot_s": 1.0,
        "memory_bytes": 250 * 2**20,
        "engine": {"engine": "OpenVINO", "version": "2026.4", "precision": "int8"},
        "checks": {},
        "warnings": [],
        "sizes": [1, 2, 4],
        "costs_s": {"FP32:1": 0.020, "FP32:2": 0.030},
    }
    return WorkerStatus(**{**fields, **changes})


def cell(number: int, **changes: Any) -> CellStatus:
    fields: dict[str, Any] = {
        "cell": number,
        "state": State.VERIFIED,
        "pid": 3000 + number,
        "restarts": dict.fromkeys(Cause, 0),
        "cpus": [5],
        "ready": True,
    }
    return CellStatus(**{**fields, **changes})


def status(**changes: Any) -> ServerStatus:
    """Two cells of a worker each."""
    fields: dict[str, Any] = {
        "phase": Phase.SERVING,
        "ready": True,
        "started_at_s": 1_000.0,
        "ready_after_s": 1.25,
        "host": "127.0.0.1",
        "port": 8001,
        "http_port": 8000,
        "metrics_host": "::1",
        "metrics_port": 8002,
        "mode": "rti",
        "model": "resnet50",
        "backend": "openvino",
        "precision": "int8",
        "allocator": "tcmalloc",
        "weights": "a file",
        "synthetic": False,
        "cells": [cell(0), cell(1)],
        "workers": [worker(0), worker(1, cell=1, slot=0)],
        "warnings": [],
        "admin_socket": "/run/user/1000/corral/8001.sock",
    }
    return ServerStatus(**{**fields, **changes})


PLACES = [Place(0, 0, 0), Place(1, 1, 0)]


class Numbers:
    """Counters of two cells of two slots, to be changed and looked at."""

    def __init__(self) -> None:
        layout = counters.make_layout(2)
        fd = counters.create_memory(layout, 2)
        self.pages = counters.Pages(fd, layout, 2)
        os.close(fd)

    def add(self, key: str, amount: int, cell: int = 0) -> None:
        self.pages.page(cell)[self.pages.layout.index[key]] += amount

    def answer(self, requests: int, bucket: int, cell: int = 0) -> None:
        """Requests for tensors that took as long as the bucket of TIME_BUCKETS_S says."""
        self.add("view/tensor/received", requests, cell)
        self.add("view/tensor/succeeded", requests, cell)
        self.add("view/tensor/inferences", requests, cell)
        self.add(f"hist/request_seconds/{bucket}", requests, cell)

    def run(self, batches: int, size: int, busy_s: float, cell: int = 0) -> None:
        """Batches of a cell's worker in slot 0."""
        self.add("slot/0/batches", batches, cell)
        self.add("slot/0/items", batches * size, cell)
        self.add("slot/0/busy_ns", int(busy_s * 1e9), cell)
        self.add(f"size/{size}/executions", batches, cell)

    def sample(self, at_s: float) -> Sample:
        return take(self.pages.snapshot(), PLACES, cells=2, at_s=at_s)
