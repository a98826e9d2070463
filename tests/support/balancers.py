"""Load balancers in front of several null servers, each on a loopback address of its own.

The files of deploy/ are used as they are, but for their addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc.aio

from corral_protos import open_inference_pb2 as pb
from support.running_server import Server, running, wait_until
from support.serving_null import null_server_command

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "data" / "models" / "colours.onnx"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
_ITEM = pb.ModelInferRequest(
    model_name="colours",
    inputs=[
        pb.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[1, 3, 32, 32])
    ],
    raw_input_contents=[bytes(3 * 32 * 32 * 4)],
)


@dataclasses.dataclass(frozen=True)
class Balancer:
    """A program and its configuration.

    Attributes:
        name: as people call it.
        file: below deploy/.
        command: by the program's path and the configuration's.
        rest_port: where it takes REST over HTTP/1.1.
    """

    name: str
    file: str
    command: Callable[[str, str], list[str]]
    rest_port: int = 8001

    def program(self) -> str | None:
        """Its path; None where it is not installed."""
        beside = Path(sys.executable).with_name(self.name)
        return str(beside) if beside.exists() else shutil.which(self.name, path=_path())


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


ENVOY = Balancer(
    "envoy",
    "envoy/envoy.yaml",
    lambda program, file: [program, "-c", file, "--concurrency", "1", "--use-dynamic-base-id",
                           "--log-level", "warning"],
)  # fmt: skip
HAPROXY = Balancer(
    "haproxy", "haproxy/haproxy.cfg", lambda program, file: [program, "-db", "-f", file]
)
NGINX = Balancer(
    "nginx",
    "nginx/nginx.conf",
    lambda program, file: [program, "-c", file, "-p", str(Path(file).parent), "-e", "stderr",
                           "-g", "daemon off; user root; pid nginx.pid;"],
    rest_port=8000,
)  # fmt: skip


class Fleet:
    """Servers behind a balancer."""

    def __init__(self, servers: list[Server], hosts: list[str], front: str, rest_port: int) -> None:
        self.servers = servers
        self._hosts = hosts
        #: HOST:PORT of the balancer's gRPC and of its REST port
        self.grpc, self.rest = f"{front}:8001", f"{front}:{rest_port}"

    def answered(self, number: int) -> int:
        """Requests that a server has answered with a result."""
        with urllib.request.urlopen(f"http://{self._hosts[number]}:8002/metrics") as page:
            text = page.read().decode()
        found = re.search(r'^nv_inference_request_success{model="colours",[^}]*} (\S+)', text, re.M)
        return int(float(found[1])) if found else 0


@contextlib.contextmanager
def fleet(
    balancer: Balancer, folder: Path, *, slow_ms: float = 0.0, batch_ms: float = 4.0
) -> Iterator[Fleet]:
    """Three null servers behind a balancer; the last takes ``slow_ms`` more for a batch."""
    # A network of its own within 127.0.0.0/8, so that ports are as in the files.
    net = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
    hosts, front = [f"{net}.{n}" for n in (1, 2, 3)], f"{net}.100"
    program = balancer.program()
    assert program
    with contextlib.ExitStack() as stack:
        servers = []
        for number, host in enumerate(hosts):
            took = batch_ms + (slow_ms if number == 2 else 0.0)
            command = [
                *(null_server_command("--model", str(MODEL), "--workers", "1", "--max-batch", "1")),
                *("--null-batch-ms", f"{took}", "--drain-delay-s", "3", "--host", host),
                *("--metrics-host", host, "--port", "8001", "--http-port", "8000"),
                *("--metrics-port", "8002"),
            ]
            servers.append(stack.enter_context(running(command, ready=False)))
        for server in servers:
            server.wait_until_ready(timeout_s=60)
        stack.enter_context(_front(balancer, program, folder, hosts, front))
        yield Fleet(servers, hosts, front, balancer.rest_port)


@contextlib.contextmanager
def _front(
    balancer: Balancer, program: str, folder: Path, hosts: list[str], front: str
) -> Iterator[None]:
    text = (ROOT / "deploy" / balancer.file).read_text()
    for number, host in enumerate(hosts, 1):
        text = text.replace(f"10.0.0.{number}", host)
    file = folder / Path(balancer.file).name
    file.write_text(text.replace("0.0.0.0", front))
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        balancer.command(program, str(file)), stdout=log, stderr=log, process_group=0
    )
    try:
        wait_until(lambda: _listens(front) or process.poll() is not None, f"{balancer.name} up", 60)
        assert process.poll() is None, (folder / "log").read_text()
        # All servers are asked once before one may be thought to be gone.
        time.sleep(1.5)
        yield
    finally:
        process.terminate()
        # pytest shows it where the test failed.
        print((folder / "log").read_text()[-2000:])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        log.close()


def _listens(host: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, 8001), timeout=1):
        return True
    return False


_REST_ITEM = json.dumps(
    {
        "inputs": [
            {
                "name": "input",
                "datatype": "FP32",
                "shape": [1, 3, 32, 32],
                "data": [0.0] * (3 * 32 * 32),
            }
        ]
    }
)


def ask_by_rest(target: str, requests: int) -> list[int]:
    """Status codes of so many inferences, one after another over ONE connection of HTTP/1.1.

    Args:
        target: HOST:PORT.
        requests: how many.
    """
    host, _, port = target.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    found = []
    try:
        for _ in range(requests):
            connection.request("POST", "/v2/models/colours/infer", _REST_ITEM)
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
    finally:
        connection.close()
    return found


@dataclasses.dataclass
class Outcome:
    """What became of the requests."""

    answered: int = 0
    #: the others, by what was said
    failed: dict[str, int] = dataclasses.field(default_factory=dict)

    def fail(self, said: str) -> None:
        """Counts one."""
        self.failed[said] = self.failed.get(said, 0) + 1


async def load(
    target: str,
    *,
    seconds: float,
    clients: int = 12,
    retries: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Outcome:
    """Requests over ONE connection, each client the next one after its answer.

    Args:
        target: HOST:PORT.
        seconds: for how long.
        clients: requests under way.
        retries: whether UNAVAILABLE is tried again, as corral_client does.
        meanwhile: called after a third of the time.
    """
    outcome = Outcome()
    options: list[tuple[str, object]] = [("grpc.enable_http_proxy", 0)]
    if retries:
        policy = (
            '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": '
            '"0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": '
            '["UNAVAILABLE"]}}]}'
        )
        options.append(("grpc.service_config", policy))
    else:
        options.append(("grpc.enable_retries", 0))
    message = _ITEM.SerializeToString()
    until_s = time.monotonic() + seconds
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        infer = channel.unary_unary(METHOD)

        async def ask() -> None:
            while time.monotonic() < until_s:
                try:
                    await infer(message, timeout=20)
                    outcome.answered += 1
                except grpc.aio.AioRpcError as error:
                    outcome.fail(f"{error.code().name}: {error.details()}")

        tasks = [asyncio.create_task(ask()) for _ in range(clients)]
        await asyncio.sleep(seconds / 3)
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        await asyncio.gather(*tasks)
    return outcome


def stream(target: str, requests: int, items: int) -> int:
    """Sends requests of so many items on one stream; returns how many had an answer."""
    item = _ITEM.raw_input_contents[0]
    request = pb.ModelInferRequest(model_name="colours", raw_input_contents=[item * items])
    request.inputs.add(name="input", datatype="FP32", shape=[items, 3, 32, 32])
    sent = itertools.repeat(request, requests)
    with grpc.insecure_channel(target) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )
        return sum(1 for _ in call(sent, timeout=60))
