"""corral as PID 1 of a container: ended within two seconds at every moment; no zombies."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil
import pytest
from support.running_server import BUSY_S, environment, wait_until

_AT_ONCE_S = 2.0
_SERVE = ["serve", "--port", "0", "--metrics-port", "0", "--cells", "1", "--workers", "1"]
_NULL = [*_SERVE, "--backend", "null"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a PID namespace")


@dataclasses.dataclass(frozen=True)
class _Started:
    """A command as PID 1, below unshare, whose exit code is its own."""

    unshare: subprocess.Popen[bytes]
    process: psutil.Process

    def takes(self, number: signal.Signals) -> bool:
        """Whether its first line has been run: PID 1 gets what it handles, or has blocked."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        masks = dict(
            line.split(":\t") for line in lines if line.startswith("Sig") and ":\t" in line
        )
        # Python itself handles SIGINT from its beginning, and it means nothing by it.
        return bool((int(masks["SigCgt"], 16) | int(masks["SigBlk"], 16)) >> (number - 1) & 1)


@contextlib.contextmanager
def _as_pid_1(
    tmp_path: Path, *args: str, by: Collection[str] = ()
) -> Iterator[tuple[_Started, Path]]:
    """Starts corral as PID 1; gives that process, and the file of what it writes.

    Args:
        tmp_path: of output and cache.
        args: of corral.
        by: words of a command that becomes corral.
    """
    output = tmp_path / "output"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [*by, sys.executable, "-m", "corral", *args]
    with output.open("wb") as file:
        started = subprocess.Popen(
            command, stderr=file, env={**environment(), "CORRAL_CACHE": str(tmp_path / "cache")}
        )
    unshare = psutil.Process(started.pid)
    try:
        process = wait_until(unshare.children, "PID 1")[0]
        # Until it becomes the command, unshare blocks both signals, and drops them thereafter.
        wait_until(lambda: process.name() != "unshare", "the command")
        yield _Started(started, process), output
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in unshare.children():
                child.kill()
        started.wait()


def _says(output: Path, words: str) -> None:
    wait_until(lambda: words in output.read_text(), words)


def _ends_at_once(started: _Started, number: signal.Signals, codes: Collection[int]) -> None:
    began_s = time.monotonic()
    started.process.send_signal(number)
    code = started.unshare.wait(30)
    assert time.monotonic() - began_s < _AT_ONCE_S + BUSY_S
    assert code in codes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("args", "words", "codes"),
    [
        (
            (*_SERVE, "--model", "efficientnet_lite0", "--backend", "openvino"),
            "preparing",
            (130, 143),
        ),
        # What measures ends by any signal as by Ctrl-C.
        (
            ("prepare", "--model", "efficientnet_lite0", "--backend", "openvino"),
            "preparing",
            (130, 130),
        ),
        ((*_NULL, "--grace-s", "300"), "ready in", (0, 0)),
    ],
    ids=["serve that prepares", "prepare", "serve"],
)
def test_a_signal_ends_it_at_once(
    tmp_path: Path,
    args: tuple[str, ...],
    words: str,
    number: signal.Signals,
    codes: tuple[int, int],
) -> None:
    with _as_pid_1(tmp_path, *args) as (started, output):
        _says(output, words)
        _ends_at_once(started, number, {codes[number == signal.SIGTERM]})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_a_signal_ends_it_at_every_moment_of_its_start(
    tmp_path: Path, after_s: float, number: signal.Signals
) -> None:
    """From its first line on; before that the kernel drops what nobody blocks."""
    with _as_pid_1(tmp_path, *_NULL) as (started, output):
        # Python takes SIGINT by itself before that, unless it was started with it ignored.
        taken = {signal.SIGTERM, number}
        wait_until(lambda: all(map(started.takes, taken)), "its first line")
        time.sleep(after_s)
        _ends_at_once(started, number, {0, 128 + number})
        assert "Traceback" not in output.read_text()


@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_what_the_image_starts_loses_no_signal_while_its_interpreter_starts(
    tmp_path: Path, number: signal.Signals, locale: str
) -> None:
    by = ["env", "--block-signal=TERM", "--block-signal=INT", f"LC_ALL={locale}"]
    with _as_pid_1(tmp_path, *_NULL, by=[*by, "PYTHONCOERCECLOCALE=0"]) as (started, output):
        wait_until(lambda: started.takes(number), "the signal blocked")
        _ends_at_once(started, number, {128 + number})
        assert not output.read_text()


def test_orphans_are_reaped(tmp_path: Path) -> None:
    with _as_pid_1(tmp_path, *_NULL) as (started, output):
        process = started.process
        _says(output, "ready in")
        inside = ["nsenter", "--target", str(process.pid), "--pid", "--mount", "--"]
        before = len(process.children())
        for _ in range(20):
            subprocess.run([*inside, "sh", "-c", "(sleep 0.2 &)"], check=True)
        wait_until(lambda: len(process.children()) == before, "all of them reaped")
        assert not [c for c in process.children(True) if c.status() == psutil.STATUS_ZOMBIE]
