"""Every address may be IPv6, and a name may have addresses that this machine has not."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.running_server import environment, null_server

from corral_client import Client
from corral_loadtest.measure.running import run
from corral_loadtest.specification import ClosedLoop, Specification, Target

#: an environment is a line: what --host is, and where clients find it
HOSTS = [
    ("::", ["[::1]", "127.0.0.1"]),
    ("::1", ["[::1]"]),
    ("[::1]", ["[::1]"]),
    ("::1%lo", ["[::1]"]),
    ("::ffff:127.0.0.1", ["127.0.0.1"]),
    ("localhost", ["localhost"]),
    ("0.0.0.0", ["127.0.0.1"]),
]


@pytest.mark.parametrize(("host", "found_at"), HOSTS, ids=[host for host, _ in HOSTS])
def test_the_grpc_port_listens(host: str, found_at: list[str]) -> None:
    with null_server("--host", host, "--workers", "1") as server:
        shown = host if host.startswith("[") or ":" not in host else f"[{host}]"
        server.wait_for_line(re.escape(f"gRPC on {shown}:{server.port}"))
        for name in found_at:
            with Client(f"{name}:{server.port}", deadline_s=20) as client:
                assert client.ready()


@pytest.mark.parametrize(("host", "found_at"), HOSTS, ids=[host for host, _ in HOSTS])
def test_the_metrics_port_listens(host: str, found_at: list[str]) -> None:
    with null_server("--metrics-host", host, "--workers", "1") as server:
        names = [name.strip("[]") for name in found_at]
        if host == "localhost":
            names = ["127.0.0.1"]
        for name in names:
            connection = http.client.HTTPConnection(name, server.metrics_port, timeout=20)
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 200
            connection.close()


@pytest.mark.parametrize(("host", "times"), [("::", 1), ("::ffff:127.0.0.1", 0)])
def test_what_is_open_to_others_is_said_once(host: str, times: int) -> None:
    with null_server("--workers", "1", "--host", host) as server:
        assert server.stderr.count("everybody who can reach") == times


def test_two_cells_share_an_ipv6_port_and_a_second_server_is_refused() -> None:
    options = ["--workers", "2", "--cells", "2", "--oversubscribe", "--host", "::1"]
    with null_server(*options) as server:
        with Client(f"[::1]:{server.port}", deadline_s=20) as client:
            assert client.ready()
        with null_server("--host", "::1", "--port", str(server.port), ready=False) as second:
            assert second.wait() == 2
            assert "address already in use" in second.stderr


def test_a_load_test_finds_an_ipv6_server() -> None:
    with null_server("--host", "::1", "--workers", "1") as server:
        wanted = Specification(
            target=Target(address=f"[::1]:{server.port}"),
            load=ClosedLoop(clients=1),
            duration_s=0.3, warm_up_s=0.1, warm_up_limit_s=0.2, window_s=0.1,
        )  # fmt: skip
        found = run(wanted)
    assert found.valid, found.remarks


#: a machine is a line: what is done to its network and hosts, and which --host it must serve on
MACHINES = [
    ("no IPv6, though hosts names ::1", True, "localhost"),
    ("no IPv6", True, "127.0.0.1"),
    ("IPv6 alone of localhost's addresses", False, "localhost6"),
    ("no IPv4 at all", None, "::1"),
    ("no IPv4 at all, though hosts names 127.0.0.1", None, "localhost"),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network namespace")
def test_every_port_has_all_addresses_of_a_name(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
    get = "import sys, urllib.request as u; [u.urlopen(url, timeout=20) for url in sys.argv[1:]]"
    urls = [f"http://{host}:8002/readyz" for host in ("127.0.0.1", "[::1]")]
    urls += [f"http://{host}:8000/v2/health/ready" for host in ("127.0.0.1", "[::1]")]
    ports = "--port 8001 --http-port 8000 --metrics-port 8002"
    client = Path(sys.executable).with_name("corral-client")
    steps = [
        f"ip link set lo up; mount --bind {hosts} /etc/hosts",
        (
            f"{sys.executable} -m corral serve --backend null --workers 1 --host localhost "
            f"--metrics-host localhost {ports} & server=$!"
        ),
        (
            f"{client} wait --timeout-s 30 --url 127.0.0.1:8001 && "
            f"{client} wait --timeout-s 30 --url '[::1]:8001' && "
            f"{sys.executable} -c '{get}' {shlex.join(urls)}"
        ),
        "code=$?; kill $server; wait $server; exit $code",
    ]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", "\n".join(steps)],
        env=environment(), capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network namespace")
@pytest.mark.parametrize(("name", "without_ipv6", "host"), MACHINES, ids=[m[0] for m in MACHINES])
def test_a_server_serves_on_what_there_is(
    tmp_path: Path, name: str, without_ipv6: bool | None, host: str
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost localhost6\n")
    steps = ["ip link set lo up", f"mount --bind {hosts} /etc/hosts"]
    if without_ipv6 is None:
        steps.append("ip -4 addr flush dev lo")
    if without_ipv6:
        steps.append("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
        steps.append("ip -6 addr flush dev lo 2>/dev/null || true")
    corral = f"{sys.executable} -m corral serve --backend null --workers 1"
    ask = f"{Path(sys.executable).with_name('corral-client')} wait --timeout-s 30"
    steps.append(
        f"{corral} --host {host} --metrics-host {host} --port 8001 --metrics-port 8002 & server=$!"
    )
    url = f"[{host}]:8001" if ":" in host else f"{host}:8001"
    steps.append(f"{ask} --url {url}; code=$?; kill $server; wait $server; exit $code")
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", "\n".join(steps)],
        env=environment(), capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, (name, done.stderr)
