"""corral as PID 1 of a container: ended within two seconds at every moment; no zombies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.running_server import BUSY_S, environment, wait_until

_AT_ONCE_S = 2.0
_SERVE = ["serve", "--port", "0", "--metrics-port", "0", "--cells", "1", "--workers", "1"]
_NULL = [*_SERVE, "--backend", "null"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a PID namespace")


@contextlib.contextmanager
def _as_pid_1(tmp_path: Path, *args: str) -> Iterator[tuple[psutil.Process, Path]]:
    """Starts corral as PID 1; gives that process, and the file of what it writes."""
    output = tmp_path / "output"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-m", "corral", *args]
    with output.open("wb") as file:
        started = subprocess.Popen(
            command, stderr=file, env={**environment(), "CORRAL_CACHE": str(tmp_path / "cache")}
        )
    unshare = psutil.Process(started.pid)
    try:
        yield wait_until(unshare.children, "PID 1")[0], output
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in unshare.children():
                child.kill()
        started.wait()


def _says(output: Path, words: str) -> None:
    wait_until(lambda: words in output.read_text(), words)


def _ends_at_once(process: psutil.Process, number: signal.Signals) -> None:
    began_s = time.monotonic()
    process.send_signal(number)
    process.wait(30)
    assert time.monotonic() - began_s < _AT_ONCE_S + BUSY_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((*_SERVE, "--model", "efficientnet_lite0", "--backend", "openvino"), "preparing"),
        (("prepare", "--model", "efficientnet_lite0", "--backend", "openvino"), "preparing"),
        ((*_NULL, "--grace-s", "300"), "ready in"),
    ],
    ids=["serve that prepares", "prepare", "serve"],
)
def test_a_signal_ends_it_at_once(
    tmp_path: Path, args: tuple[str, ...], words: str, number: signal.Signals
) -> None:
    with _as_pid_1(tmp_path, *args) as (process, output):
        _says(output, words)
        _ends_at_once(process, number)


@pytest.mark.parametrize("after_s", [0.15, 0.3, 0.6, 0.9, 1.2])
def test_a_signal_ends_it_at_every_moment_of_its_start(tmp_path: Path, after_s: float) -> None:
    with _as_pid_1(tmp_path, *_NULL) as (process, _):
        time.sleep(after_s)
        # Its interpreter may take longer than that to start, where the machine is busy.
        wait_until(process.children, "the command")
        _ends_at_once(process, signal.SIGTERM)


def test_orphans_are_reaped(tmp_path: Path) -> None:
    with _as_pid_1(tmp_path, *_NULL) as (process, output):
        _says(output, "ready in")
        inside = ["nsenter", "--target", str(process.pid), "--pid", "--mount", "--"]
        before = len(process.children())
        for _ in range(20):
            subprocess.run([*inside, "sh", "-c", "(sleep 0.2 &)"], check=True)
        wait_until(lambda: len(process.children()) == before, "all of them reaped")
        assert not [c for c in process.children(True) if c.status() == psutil.STATUS_ZOMBIE]
