"""Triton's load generator, perf_analyzer, unmodified: installed into .cache and run.

The binary is in the wheel tritonclient==2.41.1; it needs libcudart.so.12, which a wheel carries
too, and Debian's libb64-0d.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from corral_client.addresses import on_this_machine

#: that a measurement takes
WINDOWS = 3

_PROXIES = {"grpc_proxy", "https_proxy", "http_proxy", "all_proxy"}
_WHEELS = ("tritonclient==2.41.1", "nvidia-cuda-runtime-cu12==12.9.79")
_MEMBERS = {"perf_analyzer": "perf_analyzer", "libcudart.so.12": "libcudart.so.12"}


class Missing(RuntimeError):
    """perf_analyzer cannot be had on this machine; the text says why."""


def install(home: Path) -> Path:
    """Fetches perf_analyzer into ``home`` unless it is there; returns the binary's path.

    Raises:
        Missing: no such binary for this machine, the registry is out of reach, or libb64 is not
            installed.
    """
    binary = home / "perf_analyzer"
    if not binary.exists():
        if platform.machine() != "x86_64":
            raise Missing("perf_analyzer is published for x86_64 only")
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--dest", folder, *_WHEELS]
            if subprocess.run(command, check=False).returncode:
                raise Missing("perf_analyzer's wheel could not be downloaded")
            for wheel in Path(folder).glob("*.whl"):
                _extract(wheel, home)
        binary.chmod(0o755)
    probe = subprocess.run(
        [binary, "--help"], env=environment(binary), capture_output=True, text=True, check=False
    )
    if "error while loading shared libraries" in probe.stderr:
        raise Missing(f"{probe.stderr.strip()} (Debian: apt-get install libb64-0d)")
    return binary


def _extract(wheel: Path, home: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = Path(member).name
            if name in _MEMBERS:
                (home / _MEMBERS[name]).write_bytes(archive.read(member))


def environment(binary: Path, address: str = "") -> dict[str, str]:
    """What perf_analyzer runs in: its libraries, and no proxy to an address of this machine.

    Args:
        binary: as ``install`` returned it.
        address: of the server; empty for none.
    """
    found = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
    if on_this_machine(address):
        return {name: value for name, value in found.items() if name.lower() not in _PROXIES}
    return found


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What perf_analyzer measured at one concurrency."""

    concurrency: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def measure(
    binary: Path,
    address: str,
    model: str,
    concurrency: int,
    window_ms: int = 5000,
    *,
    protocol: str = "grpc",
) -> Measurement:
    """One closed-loop measurement: ``concurrency`` clients, each with one request at a time.

    Where a window held too few answers perf_analyzer gives up, and is asked again, with windows
    twice as long.

    Args:
        binary: as ``install`` returned it.
        address: HOST:PORT of the server.
        model: its name there.
        concurrency: clients.
        window_ms: length of one measurement window; ``WINDOWS`` are taken and must not be stable.
        protocol: "grpc", or "http" for the REST form with binary tensors.

    Raises:
        RuntimeError: perf_analyzer failed twice; the text is what it said.
    """
    try:
        return _measure(binary, address, model, concurrency, window_ms, protocol=protocol)
    except RuntimeError:
        return _measure(binary, address, model, concurrency, 2 * window_ms, protocol=protocol)


def _measure(
    binary: Path,
    address: str,
    model: str,
    concurrency: int,
    window_ms: int,
    *,
    protocol: str,
) -> Measurement:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [
            str(binary), "-m", model, "-u", address, "-i", protocol, "-b", "1",
            "--concurrency-range", str(concurrency), "-p", str(window_ms),
            # This instrument is for noisy machines: its idea of stable would never be met.
            "-s", "999", "-f", str(report),
        ]  # fmt: skip
        done = subprocess.run(
            command, env=environment(binary, address), capture_output=True, text=True, check=False
        )
        if done.returncode or not report.exists():
            raise RuntimeError(f"perf_analyzer failed: {done.stdout[-500:]} {done.stderr[-500:]}")
        with report.open(encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    return Measurement(
        concurrency=concurrency,
        requests_per_s=float(row["Inferences/Second"]),
        p50_ms=float(row["p50 latency"]) / 1000,
        p99_ms=float(row["p99 latency"]) / 1000,
    )
