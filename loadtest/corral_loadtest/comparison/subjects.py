"""The comparison's subjects: corral in both modes, the baseline server, peers, the raw engine.

A subject that is a server is started anew in every round, alone: idle servers take CPU too (Ray's
and Triton's most of all), share the page cache, and would make another's memory look smaller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from corral_loadtest.comparison import peers
from corral_loadtest.comparison.peers import Peer
from corral_loadtest.servers import process_tree

RAW, BENCHMARK_APP, BASELINE = "raw", "benchmark_app", "baseline"
CORRAL_RTI, CORRAL_THROUGHPUT = "corral-rti", "corral-throughput"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A server to measure.

    Attributes:
        name: on the command line and in results.
        title: for people.
        protocol: that it is driven with.
        note: how it runs.
        version: of its package.
        command: what starts it on a port.
        peer: None for a server of the Open Inference Protocol.
        computes: False for the baseline server, whose answers mean nothing.
    """

    name: str
    title: str
    protocol: str
    note: str
    version: str
    command: Callable[[int], list[str]]
    peer: Peer | None = None
    computes: bool = True


def servers(
    names: Sequence[str], *, model: str, cores: int, workers: int, home: Path, corral: str
) -> tuple[list[Subject], dict[str, str]]:
    """The servers of these names, and by title why others cannot take part.

    Args:
        names: of subjects; raw and benchmark_app are none.
        model: path of the artefact's XML.
        cores: that every one may use, the generator included.
        workers: engines of every peer.
        home: folder of the peers' environments.
        corral: path of the command.
    """
    found: list[Subject] = []
    missing: dict[str, str] = {}
    for name in names:
        if name in (RAW, BENCHMARK_APP):
            continue
        if name in peers.BY_NAME:
            peer = peers.BY_NAME[name]
            try:
                python = peers.install(peer, home)
            except peers.Unavailable as error:
                missing[peer.title] = str(error)
                continue
            threads = max(1, cores // workers)
            found.append(
                _peer(peer, python, model=model, threads=threads, workers=workers, home=home)
            )
        else:
            found.append(_own(name, cores, corral))
    return found, missing


def _peer(
    peer: Peer, python: Path, *, model: str, threads: int, workers: int, home: Path
) -> Subject:

    def command(port: int) -> list[str]:
        return peers.command(
            peer, python, model=model, port=port, workers=workers, threads=threads, home=home
        )

    return Subject(
        name=peer.name,
        title=peer.title,
        protocol=peer.protocol,
        note=f"{workers} x {threads} threads; {peer.note}",
        version=peers.version(peer),
        command=command,
        peer=peer,
    )


def _own(name: str, cores: int, corral: str) -> Subject:
    grpc = "gRPC, Open Inference Protocol"
    if name == BASELINE:
        return Subject(
            name=name, title="baseline grpc.aio server", protocol=grpc, version="", computes=False,
            note="copies the tensor and answers zeros: what the protocol costs, no inference",
            command=lambda port: [
                sys.executable, "-m", "corral_loadtest.servers.baseline", str(port), "FP32"
            ],
        )  # fmt: skip
    base = [
        corral,
        "serve",
        "--backend",
        "openvino",
        "--precision",
        "int8",
        "--log-level",
        "warning",
    ]
    base += ["--http-port", "0", "--metrics-port", "0"]
    modes = {
        CORRAL_RTI: ("corral, rti", ["--mode", "rti"], "1 worker on all cores, batch 1"),
        CORRAL_THROUGHPUT: (
            "corral, throughput",
            ["--mode", "throughput", "--workers", str(cores)],
            "one worker a core",
        ),
    }
    title, options, note = modes[name]
    return Subject(
        name=name, title=title, protocol=grpc, note=note, version="this checkout",
        command=lambda port: [*base, *options, "--port", str(port)],
    )  # fmt: skip


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until the block ends; nothing that it started is left behind."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield server
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes], grace_s: float = 15.0) -> None:
    # Some peers end at SIGTERM without their children: those are remembered, and ended too.
    family = process_tree.pids(server.pid) if server.poll() is None else set()
    family.discard(server.pid)
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(grace_s)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    end_s = time.monotonic() + 2.0
    while time.monotonic() < end_s and any(_lives(pid) for pid in family):
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()
