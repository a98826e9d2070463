"""Which addresses lie on this machine."""

from __future__ import annotations

import socket

import pytest

from corral_client.addresses import Address, on_this_machine, parse_address, proxy_options


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8001",
        "127.8.8.8:8001",
        "127.0.0.1",
        "localhost:8001",
        "LOCALHOST.:8001",
        "corral.localhost:8001",
        "ip6-localhost:8001",
        "[::1]:8001",
        "::1",
        "[::ffff:127.0.0.1]:8001",
        "0.0.0.0:8001",
        "[::]:8001",
        "unix:/run/grpc.sock",
        "unix:///run/grpc.sock",
        "unix-abstract:corral",
        "dns:///localhost:8001",
        "dns:localhost:8001",
        "dns://8.8.8.8/localhost:8001",
        "ipv4:127.0.0.1:8001,127.0.0.2:8001",
        "ipv6:[::1]:8001",
    ],
)
def test_unix_sockets_and_loopback_are_here(address: str) -> None:
    assert on_this_machine(address)
    assert proxy_options(address) == [("grpc.enable_http_proxy", 0)]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "192.0.2.1:8001",
        "10.0.0.1:8001",
        "[2001:db8::1]:8001",
        "[fe80::1%eth0]:8001",
        "localhost.example.com:8001",
        "mylocalhost:8001",
        "127.0.0.1.example.com:8001",
        "dns://127.0.0.1/server:8001",
        "ipv4:127.0.0.1:8001,192.0.2.1:8001",
        "[::ffff:192.0.2.1]:8001",
    ],
)
def test_everything_else_is_elsewhere(address: str) -> None:
    assert not on_this_machine(address)
    assert proxy_options(address) == []


@pytest.mark.parametrize(
    ("text", "target", "tls"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001", False),
        ("[::1]:9", "[::1]:9", False),
        ("http://server:8001", "server:8001", False),
        ("http://server:8001/", "server:8001", False),
        ("grpc://server:8001", "server:8001", False),
        ("https://server:8443", "server:8443", True),
        ("grpcs://server", "server:443", True),
        ("localhost", "localhost:8001", False),
        ("[::1]", "[::1]:8001", False),
        ("127.1:8001", "127.0.0.1:8001", False),
        ("unix:/run/\udcff.sock", "unix:/run/\udcff.sock", False),
        ("dns:///server:8001", "dns:///server:8001", False),
        ("ipv4:127.0.0.1:8001,127.0.0.2:8001", "ipv4:127.0.0.1:8001,127.0.0.2:8001", False),
    ],
)
def test_what_people_mean_by_an_address(text: str, target: str, *, tls: bool) -> None:
    assert parse_address(text) == Address(target, tls)


def test_a_host_alone_has_the_port_of_its_security() -> None:
    assert parse_address("server").target == "server:8001"
    assert parse_address("server", tls=True).target == "server:443"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no HOST:PORT"),
        (" ", "no HOST:PORT"),
        ("a b:1", "no HOST:PORT"),
        ("a:1\n", "no HOST:PORT"),
        (":8001", "has no host"),
        ("8001", "has no host"),
        ("::1:8001", "in brackets"),
        ("::1", "in brackets"),
        ("[::1", "no [HOST]:PORT"),
        ("[nonsense]:1", "no IPv6 address"),
        ("[::1]8001", "no [HOST]:PORT"),
        ("server:", "a port from 1 to 65535"),
        ("server:0", "a port from 1 to 65535"),
        ("server:65536", "a port from 1 to 65535"),
        ("server:x", "a port from 1 to 65535"),
        (f"server:{5000 * '9'}", "a port from 1 to 65535"),
        ("server:-1", "a port from 1 to 65535"),
        ("http://server:8001/v2", "no HOST:PORT"),
        ("ftp://server:8001", "no HOST:PORT"),
        ("me@server:8001", "no HOST:PORT"),
        ("a:1,b:2", "no HOST:PORT"),
        ("\udcff:8001", "not UTF-8"),
        ("unix:", "has no path"),
    ],
)
def test_what_is_no_address_is_said(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_address(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("found", "local"),
    [
        (["127.0.0.1"], True),
        (["127.0.1.1", "::1"], True),
        (["127.0.0.1", "192.0.2.1"], False),
        (["192.0.2.1"], False),
        (["0.0.0.0"], True),
        ([], False),
    ],
)
def test_a_name_is_here_where_all_its_addresses_are(
    monkeypatch: pytest.MonkeyPatch, found: list[str], *, local: bool
) -> None:
    asked: list[str] = []

    def resolve(host: str, _port: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    # Without a proxy nobody is asked.
    assert proxy_options("box:8001") == []
    assert not asked
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert bool(proxy_options("box:8001")) is local
    assert asked == ["box"]
