"""The row of a proxy in front: Envoy with deploy/envoy/envoy.yaml, by the same server without.

Client, proxy and server share the machine here. With the null engine all three compete for its
cores, so that the ratio is what the cores are, and the CPU time a request is what the proxy costs.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from corral_loadtest.bars import observed_rows
from corral_loadtest.bars.bar import Bar
from corral_loadtest.bars.bench import Bench, Server
from corral_loadtest.servers import process_tree
from corral_loadtest.servers.processes import free_port, serving

CONFIGURATION = Path("deploy/envoy/envoy.yaml")
#: of direct
_LEAST = 0.9


def envoy(bench: Bench) -> list[Bar]:
    """Envoy in front, by direct."""
    found = []
    for engine, options in observed_rows.ENGINES.items():
        with (
            bench.server(*options) as server,
            _envoy(server) as (front, pid),
            observed_rows.visiting(server) as direct,
            observed_rows.visiting(Server(front, server.pid)) as through,
        ):
            used_s = sum(process_tree.cpu_by_process_s(pid).values())
            blocks = observed_rows.compare(bench, direct.visit, through.visit)
            used_s = sum(process_tree.cpu_by_process_s(pid).values()) - used_s
        requests = sum(visit.requests for _, on in blocks for visit in on)
        found += observed_rows.bars(
            "envoy", f"through Envoy ÷ direct, {engine}", blocks, least=_LEAST
        )
        found.append(
            Bar(
                row="envoy",
                name=f"Envoy's CPU a request, {engine}, µs",
                values=[1e6 * used_s / requests],
            )
        )
    return found


@contextlib.contextmanager
def _envoy(server: Server) -> Iterator[tuple[str, int]]:
    """Envoy in front of one server: its address and its pid.

    Raises:
        RuntimeError: there is no Envoy, or no configuration here.
    """
    beside = Path(sys.executable).with_name("envoy")
    program = str(beside) if beside.exists() else shutil.which("envoy")
    if program is None:
        raise RuntimeError(
            "there is no envoy; pip install '.[deployment]' in corral's checkout brings it"
        )
    if not CONFIGURATION.exists():
        raise RuntimeError(f"there is no {CONFIGURATION} here; run it in corral's repository")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        file = Path(folder) / "envoy.yaml"
        text = configuration(CONFIGURATION.read_text("utf-8"), server.address, port)
        file.write_text(text, "utf-8")
        command = [program, "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"]
        try:
            with serving([*command, "--log-level", "error"], port) as pid:
                yield f"127.0.0.1:{port}", pid
        except subprocess.SubprocessError as error:
            raise RuntimeError(f"envoy: {error}") from error


def configuration(text: str, server: str, port: int) -> str:
    """The file for one server, HOST:PORT, listening on a port of loopback."""
    lines = [
        line for line in text.splitlines(keepends=True) if not re.search(r"10\.0\.0\.[23],", line)
    ]
    host, _, number = server.rpartition(":")
    text = "".join(lines).replace(
        "address: 10.0.0.1, port_value: 8001", f"address: {host}, port_value: {number}"
    )
    return text.replace(
        "address: 0.0.0.0, port_value: 8001", f"address: 127.0.0.1, port_value: {port}"
    )
