"""Certificates and connections that are replaced while clients use them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed448
from support.certificates import Authority, Pair, write_self_signed
from support.running_server import Server, StartServer, wait_until

PATH = "/v2/models/resnet50/ready"
IDENTITIES = ("localhost", "127.0.0.1")


def tls(pair: Pair) -> list[str]:
    return ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]


def context(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


def served(port: int, authority: Authority) -> bytes:
    """The certificate that a new connection is shown, DER."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context(authority).wrap_socket(plain, server_hostname="localhost") as connection:
        shown = connection.getpeercert(binary_form=True)
        assert shown
        return shown


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


class Asking(threading.Thread):
    """A client that asks again and again on a connection, and makes no second try.

    Attributes:
        answers: statuses, and what went wrong.
    """

    def __init__(self, server: Server, authority: Authority | None) -> None:
        super().__init__(daemon=True)
        self.answers: list[int | str] = []
        self.stop = threading.Event()
        where = ("localhost", server.http_port)
        self._connection: http.client.HTTPConnection
        if authority is None:
            self._connection = http.client.HTTPConnection(*where, timeout=10)
        else:
            trusted = context(authority)
            self._connection = http.client.HTTPSConnection(*where, timeout=10, context=trusted)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._connection.request("GET", PATH)
                answer = self._connection.getresponse()
                answer.read()
                self.answers.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(repr(error))
                self._connection.close()


@contextlib.contextmanager
def asking(server: Server, authority: Authority | None) -> Iterator[list[Asking]]:
    clients = [Asking(server, authority) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(20)


def lost(clients: list[Asking]) -> list[int | str]:
    return [answer for client in clients for answer in client.answers if answer != 200]


def test_no_request_over_http_is_lost_when_the_certificate_changes(
    server: StartServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", *IDENTITIES)
    with server("--workers", "1", *tls(pair)) as s, asking(s, authority) as clients:
        for _ in range(4):
            fresh = der(authority.issue("server", *IDENTITIES))
            wait_until(partial(is_served, s, authority, fresh, 1), "the new one")
            wait_until(partial(is_served, s, authority, fresh, 12), "the end of the one before")
    assert min(len(client.answers) for client in clients) > 10
    assert lost(clients) == []


def test_no_request_over_http_is_lost_when_connections_grow_old(server: StartServer) -> None:
    with server("--workers", "1", "--max-connection-age-s", "1") as s, asking(s, None) as clients:
        ports: set[object] = set()

        def renewed() -> bool:
            for client in clients:
                sock = client._connection.sock
                with contextlib.suppress(OSError, AttributeError):
                    ports.add(sock.getsockname())
            return len(ports) > 12

        wait_until(renewed, "connections to be renewed")
    assert lost(clients) == []


def is_served(server: Server, authority: Authority, certificate: bytes, times: int) -> bool:
    return all(served(server.http_port, authority) == certificate for _ in range(times))


def write_ed448(pair: Pair) -> None:
    """A certificate and a key that OpenSSL reads, and the HTTP server does not."""
    write_self_signed(pair, ed448.Ed448PrivateKey.generate())


def test_a_key_of_a_kind_that_is_not_known_does_not_end_the_watch(
    server: StartServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", *IDENTITIES)
    with server("--workers", "1", *tls(pair), "--max-connection-age-s", "1") as s:
        first = der(pair)
        write_ed448(pair)
        s.wait_for_line("not used; the old content stays in force: --tls-cert")
        assert served(s.port, authority) == first
        # The metrics port, which OpenSSL serves, goes with the others.
        assert served(s.metrics_port, authority) == first
        # Connections grow old as before, with what there was.
        with asking(s, authority) as clients:
            wait_until(lambda: len(clients[0].answers) > 20, "answers")
        assert lost(clients) == []
        second = der(authority.issue("server", *IDENTITIES))
        wait_until(lambda: served(s.port, authority) == second, "the new certificate")
        said = [line for line in s.lines if "frontend" in line and "not used" in line]
        # Once for the key, and once where it was looked at between a key and its certificate.
        assert 1 <= len(said) <= 3, said


def test_such_a_key_at_the_start_is_one_line(server: StartServer, tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("server", *IDENTITIES)
    write_ed448(pair)
    with server("--workers", "1", *tls(pair), ready=False) as s:
        assert s.wait() == 2
    assert len(s.lines) == 1, s.stderr
    assert "--tls-key" in s.stderr


def test_a_certificate_that_is_not_valid_now_is_said(server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", *IDENTITIES, valid_days=(2, 3))
    with server("--workers", "1", *tls(pair)) as s:
        s.wait_for_line("--tls-cert: the certificate is not valid before")
        authority.issue("server", *IDENTITIES, valid_days=(-3, -1))
        s.wait_for_line("used nevertheless: --tls-cert: the certificate expired on")
        said = [line for line in s.lines if "WARNING" in line and "is not valid before" in line]
        assert len(said) == 1
