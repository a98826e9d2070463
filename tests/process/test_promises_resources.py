"""R11 and R12: clients that break, and machines that run out of something."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.broken_clients import held_open, idle_connection
from support.counted_load import ask, closed_loop
from support.process_use import may_look_into, use_of
from support.running_server import Server, StartServer, environment, running, wait_until
from support.scenarios.fault import wait_for_workers
from support.scenarios.resource import BUSY, break_clients
from support.serving_null import null_server_command
from support.starved import can_mount, with_descriptors, with_tmpfs

FULL_DISK = Path(__file__).parents[1] / "support" / "full_disk.py"

#: behind every refusal of a cache folder
ADVICE = "CORRAL_CACHE or --cache-dir names another folder"


def skip_unless_seen(server: Server) -> None:
    if not may_look_into(server.frontends()[0]):
        pytest.skip("only root may count a frontend's descriptors")


def test_r11_clients_that_crash_idle_or_stop_leave_nothing_behind(server: StartServer) -> None:
    with server(*BUSY) as s:
        wait_for_workers(s, 2)
        skip_unless_seen(s)
        break_them = functools.partial(
            break_clients, s, crashes=100, idle=500, half=100, processes=2
        )
        break_them(quiet_s=0.1, warm_up=True)
        found = break_them(quiet_s=0.2)
        assert found.counted.lost == 0, str(found.counted)
        assert found.return_s < 5


def test_r12_clients_that_take_all_descriptors_stop_nobody_else() -> None:
    command = null_server_command("--workers", "2", "--oversubscribe")
    with running(with_descriptors(256, command)) as s:
        wait_for_workers(s, 2)
        skip_unless_seen(s)
        frontend, workers = s.frontends()[0], s.workers()
        s.wait_for_line(r"256 descriptors only: \d+ connections are taken instead of 2048")
        with closed_loop(s.port, clients=1, connections=1) as load:
            load.wait_for_answers(5)
            with held_open([idle_connection(s.port) for _ in range(400)]):
                load.wait_for_answers(50)
                assert 150 < use_of(frontend).descriptors < 256
                os.kill(workers[0], signal.SIGKILL)
                wait_until(lambda: workers[0] not in s.workers(), "the worker's death")
                # What is left of the descriptors is enough for its successor.
                wait_for_workers(s, 2)
                load.wait_for_answers(50)
            assert ask(s.port) == "OK"
        assert load.counted.lost == 0, str(load.counted)
        assert s.frontends() == [frontend]
        assert "Traceback" not in s.stderr


def cached_on(folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    """Runs full_disk.py with a file system of its own."""
    if not can_mount(folder):
        pytest.skip("this user may not mount a file system")
    command = with_tmpfs(folder, options, [sys.executable, str(FULL_DISK), str(folder)])
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=True, timeout=30
    )


def test_r12_a_full_disk_is_one_sentence_and_recovers(tmp_path: Path) -> None:
    done = cached_on(tmp_path, "size=1m")
    full, uncached, *recovered = done.stdout.splitlines()
    assert full.startswith("refused: ")
    assert str(tmp_path) in full
    assert "No space left on device" in full or "0 MB free" in full
    assert uncached == "not cached"
    assert "WARNING the cost curve is not cached: " in done.stderr
    assert recovered == ["stored", "cached", "left behind: []"]


def test_r12_a_read_only_cache_is_one_sentence(tmp_path: Path) -> None:
    done = cached_on(tmp_path, "ro")
    assert done.stdout.splitlines() == [
        f"refused: --cache-dir {tmp_path}: Read-only file system; {ADVICE}",
        "not cached",
    ] * 2 + ["left behind: []"]
    assert "WARNING the cost curve is not cached: " in done.stderr


def test_r12_a_server_that_caches_nothing_needs_no_cache(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount a file system")
    command = null_server_command("--cache-dir", str(tmp_path / "cache"))
    with running(with_tmpfs(tmp_path, "ro", command)) as s:
        assert ask(s.port) == "OK"


def test_r12_a_cache_that_is_no_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, "-m", "corral", "prepare", "--weights", "synthetic"]
    command += ["--backend", "openvino", "--precision", "fp32"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "file" / "cache")],
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"corral: --cache-dir {tmp_path / 'file' / 'cache'}: Not a directory; {ADVICE}"
    ]
