"""Our own servers and baseline servers on free ports, and the loads that the rows put on them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import msgspec

from corral_client.addresses import proxy_options
from corral_loadtest.generator import perf_analyzer
from corral_loadtest.measure.running import run
from corral_loadtest.result import Result
from corral_loadtest.servers import benchmark_app, process_tree
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import (
    ClosedLoop,
    InputKind,
    OpenLoop,
    Payload,
    Specification,
    Target,
)
from corral_protos import open_inference_pb2 as pb

#: names under which servers show a datatype in their metadata, which perf_analyzer goes by
MODELS = {InputKind.FP32: "resnet50", InputKind.UINT8: "resnet50_uint8"}
#: as server/corral/planning/environment.py sets it for a frontend
TUNED = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        address: that clients take, HOST:PORT or unix:PATH.
        pid: root of its process tree.
        metrics_port: None without one.
    """

    address: str
    pid: int
    metrics_port: int | None = None


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A closed loop's figures; ``cpu_s_per_request`` is the server's."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_request: float


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """The engine alone, as ``servers.raw_engine`` prints it; other keys are left out."""

    images_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


@dataclasses.dataclass(frozen=True)
class Bench:
    """How long, how often, and with which programs.

    Attributes:
        corral: path of the command.
        seconds: of one measurement with the null backend.
        overload_seconds: of the overload.
        rounds: repeats.
        model_options: of the servers with the real model.
        analyzer: perf_analyzer's binary; None to use our own generator in its place.
    """

    corral: str
    seconds: float
    overload_seconds: float
    rounds: int
    model_options: tuple[str, ...]
    analyzer: Path | None

    @property
    def model_seconds(self) -> float:
        """Of one measurement with the real model, which answers some 30 requests a second."""
        return 2.5 * self.seconds

    def prepare(self) -> str:
        """Makes the artefact, if it is not there yet; its path."""
        command = [self.corral, "prepare", *self.model_options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.split()[-1]

    @contextlib.contextmanager
    def server(self, *options: str) -> Iterator[Server]:
        """A server of ours."""
        port, metrics_port = free_port(), free_port()
        where = ["--port", str(port), "--http-port", "0", "--metrics-port", str(metrics_port)]
        where += ["--log-level", "error"]
        with serving([self.corral, "serve", *where, *options], port) as pid:
            yield Server(f"127.0.0.1:{port}", pid, metrics_port)

    @contextlib.contextmanager
    def baseline(
        self, kind: InputKind, environment: Mapping[str, str], program: str = "baseline"
    ) -> Iterator[Server]:
        """A baseline server, whose metadata shows one datatype.

        Args:
            kind: the datatype.
            environment: that it runs in besides.
            program: a module of ``corral_loadtest.servers``: "baseline" or "floor".
        """
        port = free_port()
        settings = [f"{name}={value}" for name, value in environment.items()]
        command = [sys.executable, "-m", f"corral_loadtest.servers.{program}"]
        command += [str(port), kind.upper()]
        # `env` replaces itself by the program, so the pid is the server's own.
        with serving(["env", *settings, *command], port) as pid:
            yield Server(f"127.0.0.1:{port}", pid)

    def raw(self, model: str, kind: InputKind) -> Raw:
        """The engine alone in a process, on all CPUs, one picture after another."""
        command = [sys.executable, "-m", "corral_loadtest.servers.raw_engine"]
        command += [model, str(self.model_seconds), kind.value]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return msgspec.json.decode(done.stdout, type=Raw)

    def best_raw_per_s(self, model: str) -> float:
        """Images a second of the engine alone, in the arrangement that OpenVINO thinks best."""
        return benchmark_app.run(model, self.model_seconds).per_s

    def closed(
        self,
        server: Server,
        kind: InputKind,
        clients: int,
        seconds: float,
        *,
        protocol: str = "grpc",
    ) -> Answered:
        """Clients that each send the next request when the last was answered.

        Args:
            server: asked.
            kind: of the input.
            clients: how many.
            seconds: for how long.
            protocol: "grpc"; or "http", which perf_analyzer alone speaks.

        Raises:
            KeyboardInterrupt: it was interrupted.
            RuntimeError: requests failed, or nobody speaks the protocol.
        """
        used_s, count = process_tree.cpu_s(server.pid), inferences(server)
        if self.analyzer and kind in MODELS:
            window_ms = max(300, round(seconds * 1000 / perf_analyzer.WINDOWS))
            measured = perf_analyzer.measure(
                self.analyzer, server.address, MODELS[kind], clients, window_ms, protocol=protocol
            )
            per_s, p50_ms, p99_ms = measured.requests_per_s, measured.p50_ms, measured.p99_ms
        elif protocol != "grpc":
            raise RuntimeError(f"{protocol} takes perf_analyzer")
        else:
            found = self.load(server, ClosedLoop(clients=clients), kind, seconds=seconds)
            if found.latency is None or found.error_share:
                raise RuntimeError(f"requests failed: {found.statuses}")
            per_s, p50_ms, p99_ms = (
                found.requests_per_s,
                found.latency.p50_ms,
                found.latency.p99_ms,
            )
        used_s = process_tree.cpu_s(server.pid) - used_s
        return Answered(
            per_s=per_s,
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            cpu_s_per_request=used_s / max(1, inferences(server) - count),
        )

    def load(
        self,
        server: Server,
        load: ClosedLoop | OpenLoop,
        kind: InputKind | None = InputKind.UINT8,
        *,
        target: Target | None = None,
        connections: int | None = None,
        seconds: float | None = None,
        warm_up_s: tuple[float, float] = (0.5, 2.0),
    ) -> Result:
        """One measurement of our own generator; its errors are the row's to judge.

        Args:
            server: measured.
            load: put on it.
            kind: of the input; None for what the metadata says.
            target: where, for a model of another name.
            connections: over all generators; None for one.
            seconds: of the measured part; ``self.seconds`` if None.
            warm_up_s: at least, and at most.

        Raises:
            KeyboardInterrupt: it was interrupted.
        """
        found = run(
            Specification(
                target=target or Target(address=server.address),
                payload=Payload(kind=kind),
                load=load,
                duration_s=seconds or self.seconds,
                warm_up_s=warm_up_s[0],
                warm_up_limit_s=warm_up_s[1],
                window_s=0.25,
                drain_s=10.0,
                connections=connections,
                processes=1,
                server_pid=server.pid,
                max_error_share=1.0,
            )
        )
        if not found.complete:
            raise KeyboardInterrupt
        return found


def inferences(server: Server) -> int:
    """Items that a server has answered so far under all names, by its ModelStatistics."""
    return sum(int(one.inference_count) for one in _statistics(server))


def served_name(server: Server) -> str:
    """The name under which a server of ours serves its model, by its ModelStatistics."""
    return str(_statistics(server)[0].name)


def _statistics(server: Server) -> Any:
    with grpc.insecure_channel(server.address, options=proxy_options(server.address)) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelStatistics",
            request_serializer=pb.ModelStatisticsRequest.SerializeToString,
            response_deserializer=pb.ModelStatisticsResponse.FromString,
        )
        return ask(pb.ModelStatisticsRequest(), timeout=10.0).model_stats


def worker_items(server: Server) -> dict[str, float]:
    """Items that each worker of ours has run so far, from its metrics."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    # Past every proxy of the environment.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=10.0) as page:
        lines = page.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("corral_worker_items_total{"))
    return {name: float(value) for name, value in pairs}


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))
