"""``--worker-user`` in a whole server: root's supervisor and frontend, somebody else's workers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.counted_load import ask
from support.running_server import running, wait_until
from support.serving_null import null_server_command

ROOT = Path(__file__).parents[2]
#: The interpreter often lies in root's home, which is closed to others. In a mount namespace of
#: our own an open folder stands there, with what workers need in it.
_OPENED = """
set -e
kept=$1; top=$2; shift 2
number=0
for folder in $1; do
    number=$((number + 1))
    mkdir "$kept/$number"
    mount --rbind "$folder" "$kept/$number"
done
mount -t tmpfs -o mode=755 none "$top"
number=0
for folder in $1; do
    number=$((number + 1))
    mkdir -p "$folder"
    mount --rbind "$kept/$number" "$folder"
done
shift
cd /
exec "$@"
"""


def opened(command: list[str], kept: Path) -> list[str]:
    """The command, where everybody may run this interpreter; as it is, if everybody may.

    ``kept`` is a folder for what is moved out of the way.
    """
    needed = {str(Path(path).resolve()) for path in (sys.base_prefix, sys.prefix, str(ROOT))}
    closed = {
        folder
        for path in needed
        for folder in Path(path, "x").parents
        if not folder.stat().st_mode & 0o001
    }
    if not closed:
        return command
    if len(closed) > 1:
        pytest.skip(f"several folders are closed to other users: {sorted(map(str, closed))}")
    top = str(closed.pop())
    inside = " ".join(sorted(path for path in needed if path.startswith(f"{top}/")))
    return ["unshare", "-m", "--", "sh", "-c", _OPENED, "sh", str(kept), top, inside, *command]


def can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-m", "--", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs root, and to be allowed to mount")
def test_workers_are_another_user_and_come_back_as_that_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    options = ("--workers", "2", "--oversubscribe", "--worker-user", "nobody")
    with running(opened(null_server_command(*options), tmp_path)) as server:
        assert ask(server.port, 7, 9) == "OK"

        def users(pids: list[int]) -> set[int]:
            return {uid for pid in pids for uid in psutil.Process(pid).uids()}

        wait_until(lambda: len(server.workers()) == 2, "both workers")
        before = server.workers()
        assert users(before) == {nobody.pw_uid}
        assert users([server.pid, *server.frontends()]) == {0}
        for pid in before:
            status = Path(f"/proc/{pid}/status").read_text()
            assert f"Gid:\t{nobody.pw_gid}\t{nobody.pw_gid}" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
        os.kill(before[0], signal.SIGKILL)
        wait_until(
            lambda: len(server.workers()) == 2 and before[0] not in server.workers(),
            "its successor",
        )
        # The launcher is root's until it has become somebody else.
        wait_until(lambda: users(server.workers()) == {nobody.pw_uid}, "the successor's user")
        assert [ask(server.port, n) for n in range(20)] == ["OK"] * 20
        assert server.stop() == 0
        assert "Traceback" not in server.stderr
