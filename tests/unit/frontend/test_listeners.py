"""What listeners go by: the descriptors that a process may have."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from corral.frontend import listeners
from corral.system import procfs


def test_descriptors_that_are_left_are_those_of_the_limit_and_not_open() -> None:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = listeners.descriptors_left()
    assert left is not None
    reading, writing = os.pipe()
    try:
        assert listeners.descriptors_left() == left - 2
        assert left <= most - procfs.open_descriptors() + 3
    finally:
        os.close(reading)
        os.close(writing)


def test_where_there_is_no_limit_as_many_as_one_likes_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert listeners.descriptors_left() is None


def test_where_nobody_may_ask_it_is_what_the_library_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> tuple[int, int]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(resource, "getrlimit", refuse)
    monkeypatch.setattr(os, "sysconf", lambda _: 5000)
    left = listeners.descriptors_left()
    assert left is not None
    assert 4000 < left < 5000
