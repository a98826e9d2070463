"""Virtualised CPU files: each of /sys may be missing, stale, or lie."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.running_server import environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a mount namespace")

_PLAN = [sys.executable, "-m", "corral", "plan", "--backend", "null", "--json"]
_SERVE = [sys.executable, "-m", "corral", "serve", "--backend", "null", "--dry-run"]
_CPUS = "/sys/devices/system/cpu"
_LAST = max(os.sched_getaffinity(0))
#: an environment is a line: the file, and what it says
FILES = [
    (f"{_CPUS}/online", "0"),
    (f"{_CPUS}/online", ""),
    (f"{_CPUS}/online", "nonsense"),
    (f"{_CPUS}/online", "4096-4097"),
    (f"{_CPUS}/present", "0"),
    (f"{_CPUS}/present", "?"),
    (f"{_CPUS}/cpu{_LAST}/topology/core_id", "?"),
    (f"{_CPUS}/cpu{_LAST}/topology/physical_package_id", "?"),
    (f"{_CPUS}/cpu{_LAST}/topology/thread_siblings_list", "x-y"),
    ("/proc/cpuinfo", ""),
]


def _with_a_lie(
    tmp_path: Path, file: str, text: str, command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    if not Path(file).exists():
        pytest.skip(f"{file} is not there")
    lie = tmp_path / "lie"
    lie.write_text(f"{text}\n" if text else "")
    script = f'mount --bind {lie} {file} && exec taskset -c {_LAST} "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(("file", "text"), FILES)
def test_a_server_serves_on_the_cpus_of_our_own_mask(tmp_path: Path, file: str, text: str) -> None:
    done = _with_a_lie(tmp_path, file, text, _SERVE)
    assert done.returncode == 0, done.stderr
    assert "one request answered" in done.stdout
    # A worker's row: its number, its process, and its CPUs.
    row = next(line for line in done.stderr.splitlines() if line.split()[:1] == ["0"])
    assert f" {_LAST} " in row


@pytest.mark.parametrize(("file", "text"), FILES)
def test_a_plan_is_made_on_the_cpus_of_our_own_mask(tmp_path: Path, file: str, text: str) -> None:
    done = _with_a_lie(tmp_path, file, text, _PLAN)
    assert done.returncode == 0, done.stderr
    assert f'"cpus": [{_LAST}]' in " ".join(done.stdout.split()).replace("[ ", "[").replace(
        " ]", "]"
    )
