"""The gRPC service on a unix socket, beside its port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from support.certificates import Authority, private
from support.running_server import Server, StartServer, running, wait_until

from corral_loadtest.measure.running import run
from corral_loadtest.specification import ClosedLoop, Specification, Target
from corral_protos import open_inference_pb2 as pb

PIXELS = np.zeros((1, 224, 224, 3), np.uint8)
TOKEN = "first-token-0123456789"


@pytest.fixture(name="path")
def short_path() -> Iterator[Path]:
    """Pytest's own folders can be too deep for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        yield Path(folder) / "grpc.sock"


def _infer(address: str) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="input", datatype="UINT8", shape=PIXELS.shape
    )
    request = pb.ModelInferRequest(
        model_name="resnet50", inputs=[tensor], raw_input_contents=[PIXELS.tobytes()]
    )
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = call(request, timeout=20, wait_for_ready=True)
    found: bytes = answer.raw_output_contents[0]
    return found


def _frontend(server: Server) -> int:
    children = psutil.Process(server.pid).children()
    found = [c.pid for c in children if any("frontend" in word for word in c.cmdline())]
    return int(found[0])


def test_a_unix_socket_answers_as_the_port_does(server: StartServer, path: Path) -> None:
    with server("--unix-socket", str(path)) as s:
        assert _infer(f"unix:{path}") == _infer(f"127.0.0.1:{s.port}")
        found = run(
            Specification(
                target=Target(address=f"unix:{path}"),
                load=ClosedLoop(clients=2),
                duration_s=0.5,
                warm_up_limit_s=1.0,
            )
        )
        assert found.statuses == {"OK": found.sent}


def _ready(address: str, authority: Authority | None, token: str | None) -> grpc.StatusCode:
    """What somebody with these credentials is told who asks whether the server is ready."""
    if authority is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(
            address,
            grpc.ssl_channel_credentials(authority.file.read_bytes()),
            [("grpc.ssl_target_name_override", "localhost")],
        )
    metadata = None if token is None else (("authorization", f"Bearer {token}"),)
    with channel:
        try:
            ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
            ready(b"", timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            status: grpc.StatusCode = error.code()
            return status
    return grpc.StatusCode.OK


def test_the_socket_asks_for_tls_and_tokens_as_the_port_does(
    server: StartServer, path: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("server", "localhost", "127.0.0.1")
    tls = ("--tls-cert", str(identity.cert), "--tls-key", str(identity.key))
    tokens = private(tmp_path / "tokens", TOKEN)
    arguments = ("--unix-socket", str(path), *tls, "--auth-token-file", str(tokens))
    with server("--workers", "1", *arguments) as s:
        for address in (f"unix:{path}", f"127.0.0.1:{s.port}"):
            for trusted, token, expected in (
                (authority, TOKEN, grpc.StatusCode.OK),
                (authority, None, grpc.StatusCode.UNAUTHENTICATED),
                (authority, TOKEN[:-1], grpc.StatusCode.UNAUTHENTICATED),
                (None, TOKEN, grpc.StatusCode.UNAVAILABLE),
            ):
                assert _ready(address, trusted, token) is expected, (address, token)


def test_connections_to_the_socket_leave_descriptors_for_the_rest(
    path: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("server", "localhost", "127.0.0.1")
    tls = ("--tls-cert", str(identity.cert), "--tls-key", str(identity.key))
    arguments = ("--backend", "null", "--workers", "1", "--port", "0", "--metrics-port", "0")
    command = ["prlimit", "--nofile=256", sys.executable, "-m", "corral", "serve", *arguments]
    with running([*command, "--unix-socket", str(path), *tls]) as s, contextlib.ExitStack() as held:

        def is_refused() -> bool:
            one = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            try:
                one.connect(str(path))
                one.settimeout(0.05)
                return one.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_refused, "a connection to be one too many")
        before = s.workers()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: set(s.workers()) - set(before), "another worker")
        held.close()
        for address in (f"unix:{path}", f"127.0.0.1:{s.port}"):
            wait_until(partial(_is_ready, address, authority), address)
        assert "a server ended" not in s.stderr


def _is_ready(address: str, authority: Authority) -> bool:
    return _ready(address, authority, None) is grpc.StatusCode.OK


def test_a_frontend_that_died_comes_back_on_the_socket(server: StartServer, path: Path) -> None:
    with server("--unix-socket", str(path)) as s:
        before = _frontend(s)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: set(s.frontends()) - {before}, "another frontend")
        assert len(_infer(f"unix:{path}")) == 4000


def test_nothing_is_left_of_the_socket(server: StartServer, path: Path) -> None:
    with server("--unix-socket", str(path)) as s:
        assert path.is_socket()
        os.kill(s.pid, signal.SIGTERM)
        assert s.wait() == 0
    assert not path.exists()


def test_what_cannot_be_served_is_one_line(server: StartServer, path: Path) -> None:
    for wrong, said in (
        (("--cells", "2", "--workers", "2", "--oversubscribe"), "needs one cell"),
        (("--unix-socket", str(path) + "x" * 120), "at most 107 bytes"),
        (("--unix-socket", str(path / "absent")), "there is no folder"),
    ):
        with server("--unix-socket", str(path), *wrong, ready=False) as s:
            assert s.wait() == 2
            assert len(s.lines) == 1
            assert said in s.lines[0]
