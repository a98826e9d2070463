"""Which addresses lie on this machine."""

from __future__ import annotations

import pytest

from corral_client.addresses import on_this_machine, proxy_options


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8001",
        "127.8.8.8:8001",
        "127.0.0.1",
        "localhost:8001",
        "LOCALHOST.:8001",
        "corral.localhost:8001",
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
