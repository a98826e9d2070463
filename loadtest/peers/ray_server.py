"""Ray Serve: a deployment behind its HTTP proxy, with the tensor's bytes as the body."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
from engine import MAX_BATCH, Engine, as_item, options
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment
class ResNet50:
    """The engine; Ray makes one a replica.

    Args:
        model: path of the artefact.
        threads: of the engine.
    """

    def __init__(self, model: str, threads: int) -> None:
        self._engine = Engine(model, threads)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator]
    async def infer(self, bodies: list[bytes]) -> list[bytes]:
        """Runs a batch."""
        found = self._engine.infer(np.concatenate([as_item(body) for body in bodies]))
        return [logits.tobytes() for logits in found]

    async def __call__(self, request: Request) -> Response:
        """One request."""
        answer = await self.infer(await request.body())
        return Response(answer, media_type="application/octet-stream")


def main() -> None:
    """Serves until it is killed."""
    given = options()
    # Not in the folder that was given: a unix socket's path below a deep checkout is too long.
    folder = tempfile.mkdtemp(prefix="ray-")
    ray.init(
        include_dashboard=False,
        num_cpus=2,
        object_store_memory=256 * 2**20,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=folder,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    deployment_class: Any = ResNet50
    deployment = deployment_class.options(
        num_replicas=given.workers,
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": 0.1},
    )
    serve.run(deployment.bind(given.model, given.threads), name="resnet50", route_prefix="/infer")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
