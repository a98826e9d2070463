"""TLS, tokens and client certificates on both ports of a real server, with real certificates."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2
from support.certificates import Authority, Pair, private
from support.running_server import Server, StartServer, wait_until

from corral_client import AsyncClient, Client, PermissionDenied, Unauthenticated, cli
from corral_protos import open_inference_pb2 as pb

TOKEN, NEXT = "first-token-0123456789", "second-token-0123456789"
READY = "/inference.GRPCInferenceService/ServerReady"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
PIXELS = np.zeros((1, 224, 224, 3), np.uint8)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def identity(authority: Authority) -> Pair:
    return authority.issue("server", "localhost", "127.0.0.1")


def tls(pair: Pair, *more: str) -> list[str]:
    return ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key), *more]


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@contextlib.contextmanager
def channel(
    server: Server, authority: Authority | None = None, pair: Pair | None = None
) -> Iterator[Any]:
    target = f"127.0.0.1:{server.port}"
    options = [("grpc.use_local_subchannel_pool", 1)]
    if authority is None:
        made = grpc.insecure_channel(target, options)
    else:
        shown = (pair.key.read_bytes(), pair.cert.read_bytes()) if pair else (None, None)
        trusted = grpc.ssl_channel_credentials(authority.file.read_bytes(), *shown)
        made = grpc.secure_channel(target, trusted, options)
    with made:
        yield made


def ready(made: Any, metadata: Any = None) -> grpc.StatusCode:
    """The status of a call that asks for nothing but an answer."""
    try:
        made.unary_unary(READY)(b"", timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        status: grpc.StatusCode = error.code()
        return status
    return grpc.StatusCode.OK


def handshake(port: int, authority: Authority, pair: Pair | None = None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.file))
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


def served(port: int, authority: Authority) -> bytes:
    """The certificate that a new connection is shown, DER."""
    with handshake(port, authority) as connection:
        shown = connection.getpeercert(binary_form=True)
        assert shown
        return shown


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def page(
    server: Server,
    path: str,
    authority: Authority | None = None,
    pair: Pair | None = None,
    token: str | None = None,
) -> int:
    """The HTTP status of a page of the metrics port."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection: http.client.HTTPConnection
    if authority is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=10)
    else:
        context = ssl.create_default_context(cafile=str(authority.file))
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        connection = http.client.HTTPSConnection(
            "localhost", server.metrics_port, timeout=10, context=context
        )
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status


def test_tls_on_both_ports_and_a_new_certificate_without_a_lost_connection(
    server: StartServer, authority: Authority, identity: Pair
) -> None:
    with server("--workers", "1", *tls(identity)) as s, channel(s, authority) as old:
        assert ready(old) is grpc.StatusCode.OK
        with channel(s) as plain:
            assert ready(plain) is grpc.StatusCode.UNAVAILABLE
        first = der(identity)
        assert served(s.port, authority) == first
        assert served(s.metrics_port, authority) == first
        with Client(f"127.0.0.1:{s.port}", ca=authority.file) as client:
            assert client.infer(PIXELS).shape == (1, 1000)

        identity.cert.write_text("half a certif")
        assert served(s.port, authority) == first
        assert served(s.metrics_port, authority) == first
        s.wait_for_line("not used; the old content stays in force: --tls-cert")

        second = der(authority.issue("server", "localhost", "127.0.0.1"))
        assert second != first
        wait_until(lambda: served(s.port, authority) == second, "the new certificate")
        assert served(s.metrics_port, authority) == second
        state: list[Any] = []
        old.subscribe(state.append)
        assert ready(old) is grpc.StatusCode.OK
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in state
        assert s.stop() == 0


def test_mutual_tls_and_names(server: StartServer, authority: Authority, identity: Pair) -> None:
    alice = authority.issue("alice", "alice.example")
    carol = authority.issue("carol", "other.example", common_name="carol")
    mallory = authority.issue("mallory", "mallory.example", common_name="m")
    stranger = Authority(alice.cert.parent, "strangers").issue("stranger", "alice.example")
    names = ("--allow-client", "alice.example", "--allow-client", "carol")
    arguments = tls(identity, "--tls-client-ca", str(authority.file), *names)
    with server("--workers", "1", *arguments) as s:
        for pair, expected in (
            (alice, grpc.StatusCode.OK),
            (carol, grpc.StatusCode.OK),
            (mallory, grpc.StatusCode.PERMISSION_DENIED),
            # Without a verified certificate the handshake fails already.
            (stranger, grpc.StatusCode.UNAVAILABLE),
            (None, grpc.StatusCode.UNAVAILABLE),
        ):
            with channel(s, authority, pair) as made:
                assert ready(made) is expected, pair
        url = f"127.0.0.1:{s.port}"
        with Client(url, ca=authority.file, cert=alice.cert, key=alice.key) as client:
            assert client.infer(PIXELS).shape == (1, 1000)
        with (
            Client(url, ca=authority.file, cert=mallory.cert, key=mallory.key) as client,
            pytest.raises(PermissionDenied),
        ):
            client.infer(PIXELS)
        with channel(s, authority, mallory) as made:
            assert code(lambda: next(iter(stream(made, WATCH)))) == "PERMISSION_DENIED"
        # Handshakes that fail are not worth a line each: anybody could fill the log with them.
        assert "Handshake failed" not in s.stderr
        assert page(s, "/metrics", authority, alice) == 200
        assert page(s, "/metrics", authority, mallory) == 403
        assert page(s, "/metrics", authority) == 401
        assert page(s, "/readyz", authority) == 200


def test_another_authority_takes_over_without_a_restart(
    server: StartServer, tmp_path: Path, authority: Authority, identity: Pair
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.file.read_bytes())
    other = Authority(tmp_path, "other")
    old, new = authority.issue("old", "alice"), other.issue("new", "alice")
    with server("--workers", "1", *tls(identity, "--tls-client-ca", str(trusted))) as s:

        def outcomes() -> list[grpc.StatusCode]:
            found = []
            for pair in (old, new):
                with channel(s, authority, pair) as made:
                    found.append(ready(made))
            return found

        assert outcomes() == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]
        # Emptied before it is written again: whoever connects in between finds the old one.
        trusted.write_text("")
        assert page(s, "/livez", authority) == 200
        assert outcomes() == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]
        private(trusted, other.file.read_text())
        swapped = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK]
        wait_until(lambda: outcomes() == swapped, "the other authority")
        assert page(s, "/metrics", authority, new) == 200


def stream(made: Any, method: str) -> Any:
    kind = made.unary_stream if method == WATCH else made.stream_stream
    return kind(method)(b"" if method == WATCH else iter([b""]), timeout=10)


def code(act: Any) -> str:
    try:
        act()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_tokens_and_deny_by_default(server: StartServer, tmp_path: Path) -> None:
    tokens = private(tmp_path / "tokens", f"# ours\n{TOKEN}\n")
    with server("--workers", "1", "--auth-token-file", str(tokens)) as s, channel(s) as made:
        assert ready(made, bearer(TOKEN)) is grpc.StatusCode.OK
        for wrong in (None, bearer(NEXT), bearer(TOKEN) * 2, (("authorization", TOKEN),)):
            assert ready(made, wrong) is grpc.StatusCode.UNAUTHENTICATED
        # Whatever there is to call asks for a token; all but the probe that carries none.
        service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        for method in service.methods:
            call = made.unary_unary(f"/{service.full_name}/{method.name}")
            status = code(lambda call=call: call(b"", timeout=10))
            assert status in {"UNAUTHENTICATED", "UNIMPLEMENTED"}, method.name
        for path in (WATCH, REFLECT):
            assert code(lambda path=path: list(stream(made, path))) == "UNAUTHENTICATED"
        answer = made.unary_unary(CHECK, None, health_pb2.HealthCheckResponse.FromString)
        assert answer(b"", timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        assert page(s, "/metrics") == 401
        assert page(s, "/metrics", token=NEXT) == 401
        assert page(s, "/metrics", token=TOKEN) == 200
        assert page(s, "/livez") == page(s, "/readyz") == 200

        private(tokens, f"{NEXT}\n")
        wait_until(lambda: ready(made, bearer(NEXT)) is grpc.StatusCode.OK, "the new token")
        assert ready(made, bearer(TOKEN)) is grpc.StatusCode.UNAUTHENTICATED
        wait_until(lambda: page(s, "/metrics", token=NEXT) == 200, "the same for metrics")
        assert s.stderr.count("calls refused for want of valid credentials: 1;") == 1
        assert TOKEN not in s.stderr
        assert NEXT not in s.stderr


def test_clients_with_tokens(
    server: StartServer, tmp_path: Path, authority: Authority, identity: Pair
) -> None:
    tokens = private(tmp_path / "tokens", TOKEN)
    with server("--workers", "1", *tls(identity, "--auth-token-file", str(tokens))) as s:
        url = f"127.0.0.1:{s.port}"
        with Client(url, ca=authority.file) as stranger, pytest.raises(Unauthenticated):
            stranger.infer(PIXELS)

        async def ask() -> Any:
            async with AsyncClient(url, ca=authority.file, token=TOKEN) as client:
                return (await client.infer(PIXELS)).shape

        assert asyncio.run(ask()) == (1, 1000)
        command = ["infer", "--random", "uint8", "--url", url, "--ca", str(authority.file)]
        assert cli.run([*command, "--token-file", str(tokens)]) == 0
        assert cli.run(command) == 1
        # Not ours, and unmodified.
        with triton.InferenceServerClient(
            url, ssl=True, root_certificates=str(authority.file)
        ) as client:
            given = triton.InferInput("input", [1, 224, 224, 3], "UINT8")
            given.set_data_from_numpy(PIXELS)
            headers = {"authorization": f"Bearer {TOKEN}"}
            answer = client.infer("resnet50_uint8", [given], headers=headers)
            assert answer.as_numpy("output").shape == (1, 1000)


def test_a_refused_message_is_not_received_first(server: StartServer, tmp_path: Path) -> None:
    tokens = private(tmp_path / "tokens", TOKEN)
    with server("--workers", "1", "--auth-token-file", str(tokens)) as s, channel(s) as made:
        # As unary calls are answered only once their message is complete, this one would wait.
        endless = made.stream_unary("/inference.GRPCInferenceService/ModelInfer")

        def never() -> Iterator[bytes]:
            stop.wait(10)
            yield b""

        stop = threading.Event()
        assert code(lambda: endless(never(), timeout=5)) == "UNAUTHENTICATED"
        assert not stop.is_set()
        stop.set()


def test_limits_on_connections_metadata_and_messages(server: StartServer) -> None:
    limits = ("--max-connections", "3", "--max-metadata-bytes", "4096", "--max-message-bytes")
    with server("--workers", "1", *limits, "200000") as s, contextlib.ExitStack() as stack:
        made = [stack.enter_context(channel(s)) for _ in range(3)]
        assert [ready(one) for one in made] == [grpc.StatusCode.OK] * 3
        with channel(s) as one_too_many:
            assert ready(one_too_many) is grpc.StatusCode.UNAVAILABLE
        made[0].close()
        with channel(s) as late:
            wait_until(lambda: ready(late) is grpc.StatusCode.OK, "a place that became free")
        assert ready(made[1], (("x", "y" * 3000),)) is grpc.StatusCode.OK
        assert ready(made[1], (("x", "y" * 5000),)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        infer = made[1].unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert code(lambda: infer(bytes(200_001), timeout=10)) == "RESOURCE_EXHAUSTED"


def test_limits_on_streams_and_requests_at_once(server: StartServer) -> None:
    limits = ("--workers", "1", "--max-streams", "1", "--max-requests", "2")
    with (
        server(*limits) as s,
        channel(s) as first,
        channel(s) as second,
        channel(s) as third,
    ):
        one = first.unary_stream(WATCH)(b"", timeout=30)
        assert next(one)
        # The second stream of a connection waits in the client for the first one's end.
        with pytest.raises(grpc.RpcError) as caught:
            first.unary_unary(READY)(b"", timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        two = second.unary_stream(WATCH)(b"", timeout=30)
        assert next(two)
        assert ready(third) is grpc.StatusCode.RESOURCE_EXHAUSTED
        one.cancel()
        wait_until(lambda: ready(third) is grpc.StatusCode.OK, "a place that became free")
        # What was answered last may still be on its way out, and counted.
        wait_until(lambda: ready(first) is grpc.StatusCode.OK, "the first connection's turn")
        two.cancel()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tls-cert", "/no/such.pem", "--tls-key", "/no/such.key"), "no such file"),
        (("--auth-token-file", "/no/such"), "no such file"),
        (("--worker-user", "nobody-of-that-name"), "no such user"),
        (("--allow-client", "alice"), "needs --tls-client-ca"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_2(
    server: StartServer, arguments: tuple[str, ...], sentence: str
) -> None:
    with server(*arguments, ready=False) as s:
        assert s.wait() == 2
    assert len(s.lines) == 1
    assert sentence in s.stderr


def test_what_is_open_to_everybody_is_said(server: StartServer) -> None:
    with server("--workers", "1", "--host", "0.0.0.0") as s:
        s.wait_for_line("everybody who can reach 0.0.0.0 may use the server")
