"""A server whose processes have other numbers for whoever asks: in a container, or beside one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.running_server import environment, null_server, wait_until
from support.surroundings import no_namespace

_INSIDE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_CORRAL = (sys.executable, "-m", "corral")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a PID namespace"),
    pytest.mark.skipif(
        bool(reason := no_namespace(_INSIDE[1:3])), reason=reason or "there are such namespaces"
    ),
]


def ask(socket: Path, *words: str, enter: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*enter, *_CORRAL, *words, "--admin-socket", str(socket)],
        check=False, text=True, capture_output=True, timeout=60, env=environment(),
    )  # fmt: skip
    assert done.returncode in {0, 1, 2}, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def processes(status: dict[str, Any]) -> list[int | None]:
    spinner = [status["spin"]["pid"]] if status["spin"] else []
    children = (*status["cells"], *status["workers"])
    return [status["pid"], *(child["pid"] for child in children), *spinner]


@pytest.fixture(scope="module")
def contained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The admin socket of a server that is PID 1 of a namespace of its own."""
    folder = tmp_path_factory.mktemp("contained")
    socket = folder / "admin"
    with (folder / "output").open("wb") as output:
        started = subprocess.Popen(
            [*_INSIDE, *_CORRAL, "serve", "--backend", "null", "--port=0", "--http-port=0",
             "--metrics-port=0", "--workers=1", "--cells=1", "--keep-warm=on",
             "--keep-warm-spin-s=0.1", f"--admin-socket={socket}"],
            stderr=output, env={**environment(), "CORRAL_CACHE": str(folder / "cache")},
        )  # fmt: skip
    try:
        wait_until(lambda: "ready in" in (folder / "output").read_text(), "the server is ready", 60)
        yield socket
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(started.pid).children():
                child.send_signal(signal.SIGTERM)
        started.wait(30)


def test_asked_from_outside_its_pids_are_those_of_outside(contained: Path) -> None:
    status = json.loads(ask(contained, "status", "--json"))
    pids = processes(status)
    assert len(pids) == 4
    for pid in pids:
        assert pid is not None
        assert pid > 3
        assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        spids = Path(f"/proc/{pid}/status").read_text().split("NSpid:")[1].splitlines()[0].split()
        assert len(spids) == 2
    assert psutil.Process(pids[2]).ppid() == pids[0]
    assert not status["pids_hidden"]
    assert str(pids[2]) in ask(contained, "status")


def test_the_doctor_outside_looks_at_the_processes_inside(contained: Path) -> None:
    report = json.loads(ask(contained, "doctor", "--json"))
    assert report["machine"]["looked_at"] == "running server"
    found = {check["id"]: check for check in report["checks"]}
    # Process 1 outside runs on all CPUs, and has no name of ours.
    assert found["thread-affinity"]["status"] == "ok"
    assert found["allocator"]["status"] != "unknown"


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """The admin socket of a server in this namespace."""
    with null_server("--workers", "1", "--cells", "1") as server:
        status = json.loads(
            subprocess.run(
                [*_CORRAL, "status", "--json", "--port", str(server.port)],
                check=True, text=True, capture_output=True, timeout=60, env=environment(),
            ).stdout
        )  # fmt: skip
        yield Path(status["admin_socket"])


def test_asked_from_inside_pids_that_are_not_seen_are_left_out(outside: Path) -> None:
    status = json.loads(ask(outside, "status", "--json", enter=_INSIDE))
    assert status["ready"]
    assert processes(status) == [None, None, None]
    assert status["pids_hidden"]
    assert "are in a PID namespace that is not seen from here" in ask(
        outside, "status", enter=_INSIDE
    )


def test_the_doctor_inside_looks_at_no_process_that_is_another(outside: Path) -> None:
    report = json.loads(ask(outside, "doctor", "--json", enter=_INSIDE))
    assert report["machine"]["looked_at"] == "running server"
    assert report["machine"]["busy_percent"] is None
    found = {check["id"]: check for check in report["checks"]}
    for name in ("thread-affinity", "openmp", "open-files", "other-load", "memory-limit"):
        assert found[name]["status"] == "unknown"
        assert "PID namespace" in found[name]["found"]
    assert found["server-warnings"]["status"] != "error"


def test_a_proc_of_another_namespace_is_not_believed(outside: Path) -> None:
    # Without a /proc of its own, numbers of here are read with names of there.
    status = json.loads(ask(outside, "status", "--json", enter=("unshare", "--pid", "--fork")))
    assert processes(status) == processes(json.loads(ask(outside, "status", "--json")))


def test_a_profile_from_inside_says_what_it_cannot_know(outside: Path) -> None:
    report = json.loads(
        ask(outside, "profile", "--live", "--seconds", "1", "--json", enter=_INSIDE)
    )
    assert report["worker_threads"] == {}
    assert report["busy_percent"] is None
    assert any("PID namespace" in note for note in report["notes"])
    assert not any(note.startswith("others") for note in report["notes"])
