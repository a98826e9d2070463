import socket

import pytest

from corral.errors import ConfigError
from corral.supervision import ports


def test_zero_picks_a_free_port() -> None:
    assert ports.claim("127.0.0.1", 0, "--port") > 0


def test_a_port_that_is_listened_on_is_refused_even_if_it_would_be_shared() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: .*in use"):
            ports.claim("127.0.0.1", port, "--port")


def test_a_host_of_somebody_elses_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        ports.claim("192.0.2.1", 0, "--port")


def test_a_name_that_means_nothing_is_blamed_on_the_host() -> None:
    with pytest.raises(ConfigError, match="--metrics-host"):
        ports.claim("no..name", 0, "--metrics-port")


def test_a_held_port_lets_ingresses_in_and_a_second_server_not() -> None:
    port = ports.claim("127.0.0.1", 0, "--port")
    with ports.hold("127.0.0.1", port, shared=True):
        with pytest.raises(ConfigError, match="in use"):
            ports.claim("127.0.0.1", port, "--port")
        with socket.create_server(("127.0.0.1", port), reuse_port=True) as ingress:
            # The held socket would swallow some of these if it took part.
            ingress.settimeout(10)
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port)):
                    ingress.accept()[0].close()
    assert ports.claim("127.0.0.1", port, "--port") == port


def test_a_port_held_for_one_lets_one_in() -> None:
    port = ports.claim("127.0.0.1", 0, "--port")
    with (
        ports.hold("127.0.0.1", port, shared=False),
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ConfigError, match="in use"),
    ):
        ports.claim("127.0.0.1", port, "--port")
