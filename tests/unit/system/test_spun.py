"""What spins for --keep-warm on is found by its name, and is nobody's load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from corral.system.other_load import OtherLoad, watched
from corral.system.spun import NAME, between, spun_seconds

_TICKS = os.sysconf("SC_CLK_TCK")


def _process(root: Path, pid: int, *, comm: str, parent: int, cpus: str, seconds: float) -> None:
    folder = root / "proc" / str(pid)
    (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "task" / str(pid) / "status").write_text(
        f"Name:\t{comm}\nCpus_allowed_list:\t{cpus}\n"
    )
    ticks = int(seconds * _TICKS)
    fields = ["R", str(parent), *["0"] * 9, str(ticks), "0", "0", "0"]
    (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")


def _server(root: Path, seconds: float = 3.0) -> None:
    """A server's spinners on two CPUs, and their parent; another process beside them."""
    _process(root, 20, comm="python", parent=1, cpus="0-3", seconds=50)
    _process(root, 21, comm=NAME, parent=20, cpus="0-1", seconds=1)
    _process(root, 22, comm=NAME, parent=21, cpus="0", seconds=seconds)
    _process(root, 23, comm=NAME, parent=21, cpus="1", seconds=2)


def test_it_is_counted_by_the_cpu_that_it_is_bound_to(tmp_path: Path) -> None:
    _server(tmp_path)
    _process(tmp_path, 33, comm=NAME, parent=1, cpus="1", seconds=4)
    assert between({}, spun_seconds(tmp_path)) == {0: 3.0, 1: 6.0}
    assert between({}, spun_seconds(tmp_path, apart=[20])) == {1: 4.0}


def test_a_process_that_ends_meanwhile_is_left_out(tmp_path: Path) -> None:
    _server(tmp_path)
    (tmp_path / "proc/22/stat").unlink()
    assert between({}, spun_seconds(tmp_path)) == {1: 2.0}


def test_it_is_not_what_others_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU 0 is busy for a second of two: by a spinner of another server, or by somebody."""
    monkeypatch.setattr("corral.system.other_load._own_seconds", lambda _: 0.0)
    for spins, share in ((True, 0.0), (False, 0.5)):
        load, clock, busy_s = OtherLoad(), iter((10.0, 12.0)), iter((7.0, 8.0))
        monkeypatch.setattr("corral.system.procfs.busy_seconds", partial(_next, busy_s))
        _server(tmp_path)
        with watched([0], load, now_s=partial(_next, clock), root=tmp_path):
            _server(tmp_path, seconds=4.0 if spins else 3.0)
        assert load.share == share


def test_it_stays_nobodys_load_where_another_server_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spinners of two servers share CPU 0; one ends, and takes its long past along."""
    monkeypatch.setattr("corral.system.other_load._own_seconds", lambda _: 0.0)
    load, clock, busy_s = OtherLoad(), iter((10.0, 12.0)), iter((7.0, 9.0))
    monkeypatch.setattr("corral.system.procfs.busy_seconds", partial(_next, busy_s))
    _server(tmp_path)
    _process(tmp_path, 33, comm=NAME, parent=1, cpus="0", seconds=3000)
    with watched([0], load, now_s=partial(_next, clock), root=tmp_path):
        (tmp_path / "proc/33/comm").unlink()
        _server(tmp_path, seconds=5.0)
    assert load.share == 0.0


def _next(values: Iterator[float], *_: object) -> float:
    return next(values)
