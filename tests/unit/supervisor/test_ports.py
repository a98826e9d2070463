import socket
from pathlib import Path

import pytest

from corral.errors import ConfigError
from corral.settings import Settings
from corral.supervisor import ports


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


def test_a_held_port_lets_frontends_in_and_a_second_server_not() -> None:
    port = ports.claim("127.0.0.1", 0, "--port")
    with ports.hold("127.0.0.1", port, shared=True):
        with pytest.raises(ConfigError, match="in use"):
            ports.claim("127.0.0.1", port, "--port")
        with socket.create_server(("127.0.0.1", port), reuse_port=True) as frontend:
            # The held socket would swallow some of these if it took part.
            frontend.settimeout(10)
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port)):
                    frontend.accept()[0].close()
    assert ports.claim("127.0.0.1", port, "--port") == port


def test_a_port_held_for_one_lets_one_in() -> None:
    port = ports.claim("127.0.0.1", 0, "--port")
    with (
        ports.hold("127.0.0.1", port, shared=False),
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ConfigError, match="in use"),
    ):
        ports.claim("127.0.0.1", port, "--port")


def test_a_unix_socket_is_free_or_left_over_from_a_dead_server(tmp_path: Path) -> None:
    path = tmp_path / "corral.sock"
    ports.claim_socket(str(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    ports.claim_socket(str(path))


def test_a_unix_socket_that_somebody_listens_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corral.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigError, match="another server listens there"):
            ports.claim_socket(str(path))


def test_a_file_in_place_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "corral.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="something else of that name"):
        ports.claim_socket(str(path))
    assert path.read_text() == "mine"


def test_a_unix_socket_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        ports.claim_socket(str(tmp_path / "absent" / "corral.sock"))


def test_a_server_beside_another_gets_another_http_port(monkeypatch: pytest.MonkeyPatch) -> None:
    free = ports.claim("127.0.0.1", 0, "--port")
    with socket.create_server(("127.0.0.1", 0)) as other:
        usual = other.getsockname()[1]
        monkeypatch.setattr(ports, "USUAL_HTTP_PORT", usual)
        claimed = ports.claim_all(Settings.flat(port=free, metrics_port=0))
        assert claimed["port"] == free
        assert len(set(claimed.values())) == 3
        with pytest.raises(ConfigError, match="--http-port"):
            ports.claim_all(Settings.flat(port=free, metrics_port=0, http_port=usual))
    assert ports.claim_all(Settings.flat(port=free, metrics_port=0))["http_port"] == usual


def test_two_ports_that_are_the_same_are_refused() -> None:
    free = ports.claim("127.0.0.1", 0, "--port")
    for other in ("metrics_port", "http_port"):
        with pytest.raises(ConfigError, match=r"the same as --"):
            ports.claim_all(Settings.flat(port=free, **{other: free}))


def test_at_the_end_the_socket_that_was_left_goes_and_nothing_else(tmp_path: Path) -> None:
    left, living, file = tmp_path / "left.sock", tmp_path / "living.sock", tmp_path / "file.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(living))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
        for path in (left, living, file, tmp_path / "none.sock"):
            with ports.removed_at_end(str(path)):
                file.write_text("somebody's")
    assert sorted(tmp_path.iterdir()) == [file, living]
