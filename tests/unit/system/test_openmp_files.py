"""Files that libiomp5 leaves in shared memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral.system import openmp_files


def _dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _left(folder: Path, pid: object, uid: int) -> Path:
    left = folder / f"__KMP_REGISTERED_LIB_{pid}_{uid}"
    left.write_bytes(b"x")
    return left


@pytest.mark.parametrize("sees_all", [True, False])
def test_only_what_is_ours_and_of_the_dead_is_swept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sees_all: bool,
) -> None:
    monkeypatch.setattr(openmp_files, "_sees_all", lambda: sees_all)
    uid = os.geteuid()
    dead = _left(tmp_path, _dead(), uid)
    kept = [
        _left(tmp_path, os.getpid(), uid),
        _left(tmp_path, _dead(), uid + 1),
        _left(tmp_path, "x", uid),
        tmp_path / "another",
    ]
    kept[-1].touch()
    openmp_files.sweep(tmp_path)
    assert dead.exists() is not sees_all
    assert all(path.exists() for path in kept)


def test_a_process_removes_its_own(tmp_path: Path) -> None:
    own, other = _left(tmp_path, 12, 0), _left(tmp_path, 123, 0)
    openmp_files.remove(12, tmp_path)
    assert (own.exists(), other.exists()) == (False, True)
