"""Limits of a process, in words."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from corral.errors import ConfigError
from corral.system import limits


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(kind: int) -> tuple[int, int]:
        assert kind == resource.RLIMIT_FSIZE
        return 1_000_000, resource.RLIM_INFINITY

    monkeypatch.setattr(resource, "getrlimit", read)


def test_memory_above_the_limit_of_files_is_refused(small_files: None) -> None:
    limits.check_file_size(1_000_000, "a worker")
    with pytest.raises(
        ConfigError, match=r"^a worker takes 1,000,001 bytes .* above 1,000,000 \(ul"
    ):
        limits.check_file_size(1_000_001, "a worker")


def test_without_a_limit_anything_goes() -> None:
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY:
        limits.check_file_size(2**60, "a worker")


def test_a_start_that_the_limit_of_processes_refuses_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (40, 40))
    said = limits.start_refusal(OSError(errno.EAGAIN, "no fork"), tmp_path)
    assert said == "no fork: the user's limit of processes and threads is 40 (ulimit -u)"
    assert limits.start_refusal(OSError(errno.ENOENT, "no file"), tmp_path) == "no file"


def test_a_start_that_the_limit_refuses_names_it(small_files: None) -> None:
    said = limits.start_refusal(OSError(errno.EFBIG, "File too large"))
    assert said == (
        "File too large: shared memory is a file, and its size may be 1,000,000 bytes (ulimit -f)"
    )
