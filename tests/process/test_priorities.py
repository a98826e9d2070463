"""Interactive requests before bulk, over real sockets: gRPC, REST and tokens."""

from __future__ import annotations

import functools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from support.counted_load import INFER, infer_message
from support.running_server import Server, StartServer, stopped_workers, wait_until
from support.scenarios.fault import wait_for_workers
from support.server_counters import Scrape

from corral_protos import open_inference_pb2 as pb

INTERACTIVE_TOKEN, BULK_TOKEN = "interactive-0123456789", "bulk-0123456789-0123"
ITEM_MS = 10


def message(priority: int | str | None) -> bytes:
    request = pb.ModelInferRequest.FromString(infer_message("x", 1, 2))
    if isinstance(priority, str):
        request.parameters["priority"].string_param = priority
    elif priority is not None:
        request.parameters["priority"].int64_param = priority
    return request.SerializeToString()


def are_under_way(server: Server, count: int, token: str | None) -> bool:
    found = Scrape(server.metrics_port, token)
    return found.total("corral_requests_inflight") == count


def order_of(server: Server, sent: Sequence[tuple[str, bytes, str | None]]) -> list[str]:
    """In which order one worker answers requests that wait: their names, from what was sent."""
    ended: list[str] = []
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(INFER)

        def send(name: str, body: bytes, token: str | None) -> grpc.Future:
            metadata = None if token is None else [("authorization", f"Bearer {token}")]
            future = call.future(body, timeout=30, metadata=metadata)
            future.add_done_callback(lambda _: ended.append(name))
            return future

        with stopped_workers(server):
            # The worker holds the first, the others wait in the order in which they come.
            futures = []
            for number, (name, body, token) in enumerate(sent, 1):
                futures.append(send(name, body, token))
                wait_until(functools.partial(are_under_way, server, number, token), "the request")
        for future in futures:
            assert future.code() is grpc.StatusCode.OK, future.details()
    wait_until(lambda: len(ended) == len(sent), "every answer to be told")
    return ended


def test_bulk_waits_for_interactive_requests(server: StartServer) -> None:
    with server("--workers", "1", "--null-batch-ms", str(ITEM_MS)) as s:
        wait_for_workers(s, 1)
        sent = [
            ("held", message(None), None),
            ("bulk", message(2), None),
            ("bulk, too", message(7), None),
            ("default", message(0), None),
            ("interactive", message(1), None),
        ]
        ended = order_of(s, sent)
        assert ended == ["held", "default", "interactive", "bulk", "bulk, too"]


def test_a_token_may_make_all_requests_bulk(server: StartServer, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{INTERACTIVE_TOKEN}\n{BULK_TOKEN} bulk\n")
    tokens.chmod(0o600)
    options = ("--workers", "1", "--null-batch-ms", str(ITEM_MS), "--auth-token-file", str(tokens))
    with server(*options) as s:
        wait_until(lambda: len(s.workers()) == 1, "the worker")
        sent = [
            ("held", message(None), INTERACTIVE_TOKEN),
            ("bulk by its token", message(1), BULK_TOKEN),
            ("interactive", message(None), INTERACTIVE_TOKEN),
        ]
        assert order_of(s, sent) == ["held", "interactive", "bulk by its token"]


def test_what_is_no_priority_is_refused(server: StartServer) -> None:
    with server("--workers", "1") as s:
        wait_for_workers(s, 1)
        with grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel:
            for wrong in ("high", -1):
                with pytest.raises(grpc.RpcError, match="priority") as caught:
                    channel.unary_unary(INFER)(message(wrong), timeout=30)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert rest_status(s, 2) == 200
        assert rest_status(s, "high") == 400


def rest_status(server: Server, priority: int | str) -> int:
    header = json.dumps(
        {
            "parameters": {"priority": priority},
            "inputs": [
                {
                    "name": "input",
                    "datatype": "UINT8",
                    "shape": [1, 224, 224, 3],
                    "parameters": {"binary_data_size": 224 * 224 * 3},
                }
            ],
        }
    ).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v2/models/resnet50/infer",
        header + bytes(224 * 224 * 3),
        {"Inference-Header-Content-Length": str(len(header))},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        assert b"priority" in error.read()
        return error.code


@pytest.mark.timing
def test_a_flood_of_bulk_leaves_interactive_requests_their_time(server: StartServer) -> None:
    options = ("--workers", "2", "--oversubscribe", "--null-batch-ms", str(ITEM_MS))
    with server(*options) as s:
        wait_for_workers(s, 2)
        # A machine that others keep busy may miss once what it keeps; a broken promise stays so.
        for _ in range(3):
            alone_s = p99_s(s, requests=200)
            with flood(s) as answered:
                flooded_s = p99_s(s, requests=200)
            # Bulk fills the worker that is left to it: 10 ms an item.
            assert answered() > 100
            if flooded_s <= 1.5 * alone_s:
                break
        assert flooded_s <= 1.5 * alone_s, (alone_s, flooded_s)


def p99_s(server: Server, *, requests: int) -> float:
    """Of interactive requests that come one after another."""
    taken_s = []
    body = message(1)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(INFER)
        for _ in range(requests):
            began_s = time.monotonic()
            call(body, timeout=30)
            taken_s.append(time.monotonic() - began_s)
    return float(np.quantile(taken_s, 0.99))


@contextmanager
def flood(server: Server) -> Iterator[Callable[[], int]]:
    """Eight clients with bulk; yields what tells how many of theirs were answered."""
    ended = threading.Event()
    answered: list[None] = []
    body = message(2)

    def client() -> None:
        with grpc.insecure_channel(
            f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.unary_unary(INFER)
            while not ended.is_set():
                call(body, timeout=30)
                answered.append(None)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for each in clients:
        each.start()
    try:
        wait_until(lambda: len(answered) > 8, "the flood")
        yield lambda: len(answered)
    finally:
        ended.set()
        for each in clients:
            each.join()
