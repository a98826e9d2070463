"""BentoML's service: the engine behind an ASGI route."""

from __future__ import annotations

import os

import bentoml
from engine import Engine
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def _infer(request: Request) -> Response:
    body = await request.body()
    answer = await run_in_threadpool(_engine().infer_bytes, body)
    return Response(answer, media_type="application/octet-stream")


_engines: list[Engine] = []


def _engine() -> Engine:
    return _engines[0]


@bentoml.service(
    workers=int(os.environ.get("PEER_WORKERS", "1")),
    traffic={"timeout": 120, "max_concurrency": None},
    metrics={"enabled": False},
)
@bentoml.asgi_app(Starlette(routes=[Route("/infer", _infer, methods=["POST"])]), path="/raw")
class ResNet50:
    """Each worker process makes one."""

    def __init__(self) -> None:
        _engines.append(Engine(os.environ["PEER_MODEL"], int(os.environ["PEER_THREADS"])))
