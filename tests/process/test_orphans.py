"""What children start does not outlive them, and a child that cannot be held is not left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from support.running_server import BUSY_S, environment, running, wait_until
from support.scenarios.end import gone

from corral.ipc import channel
from corral.launch.spawn import Child, Process, spawn
from corral.settings import Settings
from corral.system import procfs
from corral.tuning import prepare

_PATH = {"PATH": os.environ["PATH"]}


class _Nothing(msgspec.Struct):
    """A boot file that nobody reads."""


@contextlib.contextmanager
def _child(folder: Path, *, then: str) -> Iterator[tuple[Process, psutil.Process]]:
    """A child that starts a program and then does what it is told; both of them."""
    written, program = folder / "pid", folder / "program"
    program.write_text(f"#!/bin/sh\nsleep 100 &\necho $! > {written}\n{then}\n")
    program.chmod(0o700)
    child = Child(
        kind="worker", number=0, module="none", cpus=(), memory_node=None, env=_PATH,
        python=str(program),
    )  # fmt: skip
    ours, theirs = channel.pair()
    with theirs:
        process = spawn(child, _Nothing(), ours, [theirs.fileno()])
    wait_until(lambda: written.exists() and written.read_text().endswith("\n"), "the program")
    started = psutil.Process(int(written.read_text()))
    try:
        yield process, started
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            started.kill()


def test_what_a_killed_child_has_started_is_killed(tmp_path: Path) -> None:
    with _child(tmp_path, then="wait") as (process, started):
        process.signal(signal.SIGKILL)
        wait_until(lambda: gone([started]), "its program to be gone")
        assert process.reap() == -signal.SIGKILL


def test_what_a_child_leaves_behind_is_killed(tmp_path: Path) -> None:
    with _child(tmp_path, then="exit 3") as (process, started):
        assert process.reap() == 3
        wait_until(lambda: gone([started]), "its program to be gone")


def test_a_child_that_cannot_be_held_is_ended_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ours, theirs = channel.pair()
    with ours, theirs:
        before = sorted(os.listdir("/proc/self/fd")), procfs.children(os.getpid())  # noqa: PTH208
        child = Child(
            kind="worker", number=0, module="none", cpus=(), memory_node=None, env=_PATH,
            python="/bin/true",
        )  # fmt: skip
        with pytest.raises(OSError, match="Too many open files"):
            spawn(child, _Nothing(), ours, [theirs.fileno()])
        after = sorted(os.listdir("/proc/self/fd")), procfs.children(os.getpid())  # noqa: PTH208
    assert after == before


_COMPILING = """
import subprocess, sys
from corral.system.process_group import end_with_us
with end_with_us():
    compiler = subprocess.Popen(["sleep", "100"])
    if sys.argv[1] == "inside":
        print(compiler.pid, flush=True)
        compiler.wait()
print(compiler.pid, flush=True)
compiler.wait()
"""


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_compiler_ends_with_the_worker_that_started_it(where: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _COMPILING, where],
        stdout=subprocess.PIPE, text=True, env=environment(), process_group=0,
    ) as worker:  # fmt: skip
        assert worker.stdout
        compiler = psutil.Process(int(worker.stdout.readline()))
        watches = len(procfs.children(worker.pid)) - 1
        worker.kill()
        worker.wait()
        try:
            if where == "inside":
                wait_until(lambda: gone([compiler]), "the compiler to be gone")
            else:
                assert not watches, "who has compiled needs none"
                assert not gone([compiler]), "the test sees compilers that live on"
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                compiler.kill()


def test_a_model_that_nobody_waits_for_is_not_prepared(tmp_path: Path) -> None:
    order = prepare.PrepareOrder(
        Settings.flat(cache_dir=str(tmp_path)), None, parent=os.getpid() + 1
    )
    file = tmp_path / "order"
    file.write_bytes(msgspec.json.encode(order))
    with file.open("rb") as opened:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "corral.tuning.prepare_entry", str(opened.fileno())],
            pass_fds=(opened.fileno(),), capture_output=True, text=True, env=environment(),
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "whoever wanted the model is gone\n"
    assert list(tmp_path.iterdir()) == [file]


def test_r7_a_supervisor_killed_while_its_model_is_prepared_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    command = [
        sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0",
        "--backend", "openvino", "--precision", "fp32", "--weights", "synthetic",
        "--cache-dir", str(tmp_path),
    ]  # fmt: skip
    with running(command, ready=False) as server:
        # As early as possible: it has not asked for its death signal yet.
        children = wait_until(
            lambda: server.children(r"corral\.tuning\.prepare_entry"), "the preparing"
        )
        server.signal(signal.SIGKILL)
        # To make the model would take longer than that.
        wait_until(lambda: gone(children), "it to be gone", 5 + BUSY_S)
