"""A server for one request: everything starts as it would, is asked once, and ends.

It listens on free ports of loopback, so that it can be tried beside a server that runs.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
from pathlib import Path

from corral.errors import ConfigError, StartError
from corral.ipc.messages import ServedModel
from corral.ipc.status import ServerStatus, State, StatusBoard
from corral.security.credentials import parse_tokens
from corral.settings import SecuritySettings, Settings
from corral.supervisor import ports
from corral.supervisor.supervisor import Supervisor
from corral.supervisor.views import StartupView
from corral.telemetry import collector

#: for the last worker to be verified once all have reported, and for the answer
_PATIENCE_S = 60.0
_LOOK_S = 0.02
_OK = 200
_ERROR_CHARS = 300


def on_the_side(asked: Settings) -> Settings:
    """The same settings on free ports of loopback, for a client that has no certificate."""
    return asked.replace(
        host="127.0.0.1",
        port=0,
        http_port=0,
        metrics_host="127.0.0.1",
        metrics_port=0,
        unix_socket=None,
        admin_socket=None,
        drain_delay_s=0.0,
        tls_client_ca=None,
        allow_client=(),
        otlp_endpoint=None,
        trace_rate=None,
        access_log=None,
    )


def check_places(asked: Settings) -> None:
    """Looks at what a dry run does not use: hosts, sockets' places, the access log, traces.

    A server that runs may have those very ports and sockets, so none of them is bound.

    Raises:
        ConfigError: ``serve`` would refuse them.
    """
    listen = asked.listen
    ports.claim(listen.host, 0, "--port")
    ports.claim(listen.metrics_host, 0, "--metrics-port")
    for option, named in (
        ("--unix-socket", listen.unix_socket),
        ("--admin-socket", listen.admin_socket),
    ):
        if named is not None:
            ports.check_socket_folder(Path(named), option)
    collector.try_out(asked.telemetry)


class DryRun:
    """Waits for all workers, sends one request, and ends the server.

    Args:
        view: shows the table of workers.
        served: the model as it is served.
        security: the settings that the request has to fulfil.
    """

    def __init__(self, view: StartupView, served: ServedModel, security: SecuritySettings) -> None:
        self._view = view
        self._served = served
        self._security = security
        self._task: asyncio.Task[None] | None = None
        self.supervisor: Supervisor | None = None
        #: for standard output, once the server has ended
        self.said = ""

    def ready(self, board: StatusBoard) -> None:
        """Nothing yet: every worker is waited for."""

    def complete(self, board: StatusBoard) -> None:
        """Sends the request."""
        self._view.complete(board)
        self._task = asyncio.get_running_loop().create_task(self._try(board))

    async def _try(self, board: StatusBoard) -> None:
        assert self.supervisor
        error: StartError | None = None
        try:
            await _all_verified(board)
            took_s = await asyncio.to_thread(
                send_one, board.current(), self._served, self._security
            )
            self.said = sentence(board.current(), took_s)
        except StartError as failed:
            error = failed
        # A thread that cannot be had is a RuntimeError.
        except (OSError, http.client.HTTPException, ConfigError, RuntimeError) as failed:
            error = StartError(f"dry run: the request failed: {failed or type(failed).__name__}")
        self.supervisor.leave(error)


async def _all_verified(board: StatusBoard) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while late := [w.id for w in board.current().workers if w.state is not State.VERIFIED]:
        if time.monotonic() > until_s:
            raise StartError(f"dry run: worker {late[0]} does not get ready")
        await asyncio.sleep(_LOOK_S)


def sentence(status: ServerStatus, took_s: float) -> str:
    """What worked."""
    workers = f"{len(status.workers)} worker{'s' if len(status.workers) > 1 else ''}"
    return (
        f"dry run: {status.model}, {status.backend} {status.precision}, {workers}, ready after "
        f"{status.ready_after_s or 0:.1f} s; one request answered in {took_s * 1000:.1f} ms"
    )


def send_one(status: ServerStatus, served: ServedModel, security: SecuritySettings) -> float:
    """Sends one item of zeros over HTTP; returns the seconds to its answer.

    Raises:
        StartError: it was refused, with what was said.
        OSError, HTTPException, ConfigError: it could not be sent or answered.
    """
    body, head_bytes = _request(served)
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(head_bytes),
    }
    if security.auth_token_file:
        try:
            tokens = parse_tokens(Path(security.auth_token_file).read_text("ascii"))
        except ValueError as error:
            raise ConfigError(f"--auth-token-file: {error}") from None
        headers["Authorization"] = f"Bearer {next(iter(tokens))}"
    connection = _connection(status, secure=security.tls_cert is not None)
    began_s = time.monotonic()
    try:
        connection.request("POST", f"/v2/models/{served.name}/infer", body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != _OK:
        said = content.decode(errors="replace")[:_ERROR_CHARS]
        raise StartError(f"dry run: the request was answered with {answer.status}: {said}")
    return time.monotonic() - began_s


def _connection(status: ServerStatus, *, secure: bool) -> http.client.HTTPConnection:
    if not secure:
        return http.client.HTTPConnection(status.host, status.http_port, timeout=_PATIENCE_S)
    context = ssl.create_default_context()
    # It is this process's own server on loopback, whose name its certificate need not have.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(
        status.host, status.http_port, timeout=_PATIENCE_S, context=context
    )


def _request(served: ServedModel) -> tuple[bytes, int]:
    """A request's body with one item of binary zeros for each input, and the length of its JSON."""
    specs = served.signature.input_specs(served.signature.native)
    tensors = [
        {
            "name": spec.name,
            "shape": (1, *spec.shape),
            "datatype": spec.datatype.name,
            "parameters": {"binary_data_size": spec.item_bytes},
        }
        for spec in specs
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(sum(spec.item_bytes for spec in specs)), len(head)
