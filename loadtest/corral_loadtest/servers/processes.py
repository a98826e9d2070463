"""Servers under test, as child processes on free ports of this machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

import grpc

from corral_client.addresses import proxy_options
from corral_protos import open_inference_pb2 as pb

_READY = "/inference.GRPCInferenceService/ServerReady"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(command: Sequence[str], port: int, timeout_s: float = 180.0) -> Iterator[int]:
    """Runs a server until the block ends; yields its pid once it says that it is ready.

    Raises:
        RuntimeError: it ended, or was not ready in time; with the last line that it wrote.
    """
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=said) as server,
    ):
        try:
            try:
                _wait(server, port, timeout_s)
            except RuntimeError as error:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(": ".join([str(error), *lines[-1:]])) from None
            yield server.pid
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait(server: subprocess.Popen[bytes], port: int, timeout_s: float) -> None:
    end_s = time.monotonic() + timeout_s
    address = f"127.0.0.1:{port}"
    with grpc.insecure_channel(address, options=proxy_options(address)) as channel:
        ask = channel.unary_unary(
            _READY,
            request_serializer=pb.ServerReadyRequest.SerializeToString,
            response_deserializer=pb.ServerReadyResponse.FromString,
        )
        while time.monotonic() < end_s:
            if server.poll() is not None:
                raise RuntimeError(f"the server ended with exit code {server.returncode}")
            with contextlib.suppress(grpc.RpcError):
                if ask(pb.ServerReadyRequest(), timeout=2.0, wait_for_ready=True).ready:
                    return
            time.sleep(0.1)
    raise RuntimeError(f"the server was not ready within {timeout_s:g} s")
