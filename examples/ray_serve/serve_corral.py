"""Ray Serve with a corral on each node: Ray spreads requests over nodes, corral over cores.

    serve run serve_corral:app

Ray counts CPUs and pins nothing. corral takes the CPUs that the replica may run on, and pins its
workers there: give a replica all CPUs of its node (``num_cpus``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ray import serve
from starlette.requests import Request

from corral_client import AsyncClient

#: of a node: what one replica takes
NUM_CPUS = float(os.environ.get("CORRAL_RAY_CPUS", "2"))
REPLICAS = int(os.environ.get("CORRAL_RAY_REPLICAS", "2"))
#: further words on corral's command line
OPTIONS = os.environ.get("CORRAL_RAY_OPTIONS", "--mode rti").split()
MODEL = os.environ.get("CORRAL_RAY_MODEL", "resnet50")
#: seconds: a model that is prepared first takes minutes
START_S = 600.0


@serve.deployment(
    num_replicas=REPLICAS,
    # One replica has the node to itself: corral inside it uses all cores.
    max_replicas_per_node=1,
    ray_actor_options={"num_cpus": NUM_CPUS},
    # Beyond these Ray asks another replica; corral bounds its own queue as well.
    max_ongoing_requests=64,
    health_check_period_s=2.0,
    health_check_timeout_s=10.0,
    graceful_shutdown_timeout_s=40.0,
)
class Corral:
    """One replica: a corral of its own behind a unix socket, and a client to it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="corral-"))
        socket = self._folder / "socket"
        command = [sys.executable, "-m", "corral", "serve", "--model", MODEL, "--cells", "1"]
        ports = ["--port", "0", "--metrics-port", "0", "--unix-socket", str(socket)]
        self._server = subprocess.Popen([*command, *ports, *OPTIONS])
        self._client = AsyncClient(f"unix:{socket}", model=MODEL, deadline_s=30)
        self._ready = False

    async def _wait(self) -> None:
        until_s = asyncio.get_running_loop().time() + START_S
        while not self._ready:
            if self._server.poll() is not None:
                raise RuntimeError(f"corral ended with {self._server.returncode}; see its log")
            if asyncio.get_running_loop().time() > until_s:
                raise RuntimeError(f"corral is not ready after {START_S:g} s")
            try:
                self._ready = await self._client.ready()
            # Whatever a server that is not there yet makes of a question.
            except Exception:
                self._ready = False
            await asyncio.sleep(0 if self._ready else 0.1)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """POST a JPEG or PNG; its best labels, and the process that found them."""
        await self._wait()
        labels = await self._client.classify(await request.body(), k=5)
        answers = [{"label": found.label, "score": found.score} for found in labels]
        return {"labels": answers, "server": self._server.pid}

    async def infer(self, pixels: Any) -> Any:
        """For other deployments: an array [n, …] to logits [n, classes]."""
        await self._wait()
        return await self._client.infer(pixels)

    async def check_health(self) -> None:
        """Ray replaces the replica where this raises: its server has ended."""
        if self._server.poll() is not None:
            raise RuntimeError(f"corral ended with {self._server.returncode}")

    def __del__(self) -> None:
        self._server.terminate()
        self._server.wait(35)
        shutil.rmtree(self._folder, ignore_errors=True)


app = Corral.bind()
