"""Every way of waking wakes, and leaves no process behind."""

from __future__ import annotations

import os

import pytest
from rich.console import Console

from corral.lab import wakeup

_WAYS = {"socket", "eventfd", "futex", "socket, spin 50", "socket, spin 1000"}


def test_every_way_wakes_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "GAPS_MS", (0.1,))
    before = os.sched_getaffinity(0)
    found = wakeup.measure(sorted(before), rounds=20)
    assert {one.way for one in found} == _WAYS
    assert all(0 < one.p50_us <= one.p99_us for one in found)
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    console = Console(width=100, record=True)
    console.print(wakeup.render(found))
    shown = console.export_text()
    assert all(way in shown for way in _WAYS)
