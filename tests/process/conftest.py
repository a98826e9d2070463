"""Servers as subprocesses, on free ports, with the null backend.

``server`` starts the real thing. ``supervisor`` starts it with a plan made by hand and a frontend
that speaks the protocol but no gRPC: for tests of supervision alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running_server import Server, StartServer, StartSupervisor, null_server, running

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def server() -> StartServer:
    """Starts ``corral serve --backend null ARGS`` on free ports: ``with server(*args) as s:``."""
    return null_server


@pytest.fixture
def supervisor() -> StartSupervisor:
    """Starts the supervisor with the fake frontend and a plan of ``cells`` of ``workers`` each.

    ``worker`` changes fields of every planned worker, ``frontend`` is run as one; other keywords
    are settings.
    """

    def start(
        *,
        cells: int = 1,
        workers: int = 2,
        worker: dict[str, Any] | None = None,
        model: str = "resnet50",
        frontend: str = "support.fake_frontend",
        ready: bool = True,
        **settings: Any,
    ) -> contextlib.AbstractContextManager[Server]:
        cpu = min(os.sched_getaffinity(0))
        planned = {"cpus": [cpu], "cores": 1, "memory_node": None, "env": {}, **(worker or {})}
        pens = [
            {
                "node": 0,
                "frontend_cpus": sorted(os.sched_getaffinity(0)),
                "workers": [{**planned, "id": cell * workers + n} for n in range(workers)],
            }
            for cell in range(cells)
        ]
        plan = {
            "mode": "rti",
            "machine": {"packages": 1, "nodes": 1, "cores": 2, "cpus": 2},
            "allowed_cpus": [cpu],
            "cpu_budget": 1,
            "cells": pens,
            "idle_cpus": [],
            "reasons": [],
            "warnings": [],
        }
        defaults = {"backend": "null", "port": 0, "metrics-port": 0, "allocator": "system"}
        named = {name.replace("_", "-"): value for name, value in settings.items()}
        order = {"settings": {**defaults, **named}, "plan": plan, "model": model}
        order["frontend"] = frontend
        script = str(SUPPORT / "serve_with_fake.py")
        return running([sys.executable, script, json.dumps(order)], ready=ready)

    return start
