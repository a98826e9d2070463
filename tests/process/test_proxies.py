"""Proxies in the environment: loopback goes past them, other hosts go as they say."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_client import AsyncClient, Client, CorralClientError
from corral_loadtest.comparison.rounds import item
from corral_loadtest.comparison.senders import OK, GrpcSender
from corral_loadtest.generator import perf_analyzer
from corral_loadtest.measure.running import run
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import ClosedLoop, Specification, Target

NAMES = ["grpc_proxy", "https_proxy", "http_proxy", "all_proxy"]
NAMES += [name.upper() for name in NAMES]
#: nobody listens there
DEAD = "http://127.0.0.1:9"
#: of a network that is for documentation only
ELSEWHERE = "192.0.2.1"


@pytest.fixture(scope="module")
def baseline() -> Iterator[int]:
    """The port of a server, started without any proxy."""
    port = free_port()
    command = [sys.executable, "-m", "corral_loadtest.servers.baseline", str(port), "FP32"]
    with serving(command, port):
        yield port


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*NAMES, "no_proxy", "NO_PROXY", "no_grpc_proxy"]:
        monkeypatch.delenv(name, raising=False)


class Proxy:
    """Listens as a proxy does, keeps the first line of what it is asked, and hangs up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.was_asked = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.asked.append(connection.recv(4096).split(b"\r\n")[0].decode())
                self.was_asked.set()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "ipv4:127.0.0.1"])
def test_the_client_goes_past_a_proxy_to_loopback(
    baseline: int, name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, DEAD)
    with Client(f"{host}:{baseline}", deadline_s=20) as client:
        assert client.live()


async def test_the_async_client_does_too(baseline: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, DEAD)
    async with AsyncClient(f"127.0.0.1:{baseline}", deadline_s=20) as client:
        assert await client.live()


def test_the_command_does_too(baseline: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, DEAD)
    command = Path(sys.executable).with_name("corral-client")
    done = subprocess.run(
        [command, "wait", "--timeout-s", "20", "--url", f"127.0.0.1:{baseline}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_another_host_is_asked_of_the_proxy(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    with Client(f"{ELSEWHERE}:8001", deadline_s=20) as client, pytest.raises(CorralClientError):
        client.metadata()
    assert proxy.asked[0].startswith(f"CONNECT {ELSEWHERE}:8001 ")


def test_another_host_that_no_proxy_names_is_not(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", f"example.com,{ELSEWHERE}")
    with (
        Client(f"{ELSEWHERE}:8001", deadline_s=0.5) as client,
        pytest.raises(CorralClientError),
    ):
        client.metadata()
    assert not proxy.asked


def test_a_load_test_goes_past_them(baseline: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, DEAD)
    wanted = Specification(
        target=Target(address=f"127.0.0.1:{baseline}"),
        load=ClosedLoop(clients=1),
        duration_s=0.3,
        warm_up_s=0.1,
        warm_up_limit_s=0.2,
        window_s=0.1,
    )
    found = run(wanted)
    assert found.valid, found.remarks
    # A server that it starts itself is found to be ready, too.
    port = free_port()
    command = [sys.executable, "-m", "corral_loadtest.servers.baseline", str(port), "UINT8"]
    with serving(command, port, timeout_s=60) as pid:
        assert pid


async def test_the_comparison_goes_past_them(
    baseline: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, DEAD)
    sender = GrpcSender(baseline, item())
    assert (await sender.send())[0] == OK
    await sender.close()


def test_perf_analyzer_sees_no_proxy_to_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, DEAD)
    found = perf_analyzer.environment(tmp_path / "perf_analyzer", "127.0.0.1:8001")
    assert not set(NAMES) & set(found)
    assert found["LD_LIBRARY_PATH"] == str(tmp_path)
    assert found["PATH"] == os.environ["PATH"]
    elsewhere = perf_analyzer.environment(tmp_path / "perf_analyzer", f"{ELSEWHERE}:8001")
    assert {elsewhere[name] for name in NAMES} == {DEAD}
