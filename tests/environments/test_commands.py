"""What a person meets first: missing packages, small limits, a server of another environment."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support.running_server import environment, null_server, wait_until
from support.surroundings import Surroundings, folder_for

ROOT = Path(__file__).parents[2]
_CORRAL = [sys.executable, "-m", "corral"]
#: a user without a name, as OpenShift makes them
_AS_SOMEBODY = ["setpriv", "--reuid", "1000770000", "--regid", "0", "--clear-groups"]
_PORTS = ["--port", "0", "--metrics-port", "0"]


def _run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "args", [["serve"], ["plan"], ["prepare"], ["tune"], ["ladder"], ["status"], ["--version"]]
)
def test_without_the_extras_every_command_is_one_line(tmp_path: Path, args: list[str]) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    done = _run([str(python), "-m", "corral", *args], {"PYTHONPATH": str(ROOT / "server")})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    lock = ROOT / "requirements.lock"
    assert f"{python} -m pip install --constraint {lock} '{ROOT}[serve]'" in done.stderr


@pytest.mark.parametrize("command", ["status", "reload"])
def test_a_server_of_another_environment_is_found(tmp_path: Path, command: str) -> None:
    with null_server("--workers", "1") as server:
        asked = [*_CORRAL, command, "--port", str(server.port)]
        done = _run(asked, {**environment(), "XDG_RUNTIME_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["status", "reload"])
def test_a_server_in_a_runtime_folder_of_its_own_is_found(tmp_path: Path, command: str) -> None:
    around = Surroundings("", env={"XDG_RUNTIME_DIR": "$D"})
    with folder_for() as folder, around.server(folder) as server:
        assert (folder / "corral" / f"{server.port}.sock").exists()
        asked = [*_CORRAL, command, "--port", str(server.port)]
        env = {k: v for k, v in environment().items() if k != "XDG_RUNTIME_DIR"}
        done = _run(asked, env)
        other = _run(asked, {**env, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert other.returncode == 0, other.stderr


def _closed_to_others() -> Path | None:
    """A folder above the interpreter or this checkout that other users cannot enter."""
    for path in (Path(sys.executable).resolve(), ROOT):
        for folder in path.parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                return folder
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts another user's server")
@pytest.mark.skipif(
    _closed_to_others() is not None, reason=f"other users cannot enter {_closed_to_others()}"
)
def test_root_finds_another_users_server(tmp_path: Path) -> None:
    ready = tmp_path / "lines"
    with ready.open("wb") as lines:
        server = subprocess.Popen(
            [*_AS_SOMEBODY, *_CORRAL, "serve", "--backend", "null", "--workers", "1", *_PORTS],
            env={**environment(), "HOME": "/"}, stderr=lines, process_group=0,
        )  # fmt: skip
    try:
        wait_until(lambda: "ready in" in ready.read_text() or server.poll(), "the server")
        port = ready.read_text().split("gRPC on 127.0.0.1:")[1].split(",")[0]
        done = _run([*_CORRAL, "status", "--port", port], environment())
        assert done.returncode == 0, done.stderr
    finally:
        server.terminate()
        server.wait(30)


def test_no_process_that_computes_nothing_has_a_pool_of_threads() -> None:
    with null_server("--workers", "1") as server:
        # Besides the main one: the supervisor's that serves metrics, the frontend's HTTP server.
        kinds = ((server.pid, 1), (server.frontends()[0], 1), (server.workers()[0], 0))
        for pid, others in kinds:
            tasks = Path(f"/proc/{pid}/task").iterdir()
            names = [(task / "comm").read_text().strip() for task in tasks]
            assert len(names) <= 1 + others, (pid, names)
            if pid != server.pid:
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                assert b"OPENBLAS_NUM_THREADS=1" in environ


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU has one thread anyway")
def test_commands_have_no_pool_of_threads_either() -> None:
    """OpenBLAS starts its threads where numpy is imported; test_console_scripts has the client."""
    count = "print(len(os.listdir('/proc/self/task')))"
    script = "import sys, os; sys.argv = ['x', '--version']\n"
    script += "try:\n from corral.__main__ import main; main()\n"
    script += f"except SystemExit: pass\nimport numpy; {count}"
    env = {k: v for k, v in environment().items() if not k.endswith("_NUM_THREADS")}
    done = _run([sys.executable, "-c", script], env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"
    # The test itself: a pool would be seen.
    plain = _run([sys.executable, "-c", f"import os, numpy; {count}"], env)
    assert int(plain.stdout) > 1


def test_what_openmp_leaves_behind_goes_with_the_worker() -> None:
    with null_server("--workers", "1") as server:
        pid = server.workers()[0]
        left = Path(f"/dev/shm/__KMP_REGISTERED_LIB_{pid}_{os.geteuid()}")
        left.write_bytes(b"x")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not left.exists(), "the file swept")
        wait_until(lambda: server.workers() and server.workers()[0] != pid, "another worker")
