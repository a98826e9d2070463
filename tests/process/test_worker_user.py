"""``--worker-user`` in a whole server: root's supervisor and frontend, somebody else's workers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from support.counted_load import ask
from support.running_server import running, wait_until
from support.serving_null import null_server_command
from support.surroundings import Surroundings


def can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-m", "--", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs root, and to be allowed to mount")
def test_workers_are_another_user_and_come_back_as_that_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    options = ("--workers", "2", "--oversubscribe", "--worker-user", "nobody")
    around = Surroundings("", (), ("--mount", "--propagation", "private"), opened=True)
    with running(around.command(tmp_path, null_server_command(*options))) as server:
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
