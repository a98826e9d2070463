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


@pytest.mark.parametrize(
    ("mounts", "groups", "weights", "counted"),
    [
        ("", ("0::/", "0::/"), (), True),
        ("cgroup2 /cg cgroup2 rw 0 0", ("0::/a", "0::/a"), ("a",), True),
        ("cgroup2 /cg cgroup2 rw 0 0", ("0::/a", "0::/b"), ("a", "b"), False),
        ("cgroup2 /cg cgroup2 rw 0 0", ("0::/a", "0::/"), ("a",), False),
        # The CPU is not shared out between these, but by the group above them.
        ("cgroup2 /cg cgroup2 rw 0 0", ("0::/s/a", "0::/s/b"), ("s",), True),
        ("cgroup /cg cgroup rw,cpu 0 0", ("1:cpu:/a", "1:cpu:/b"), (), False),
        ("cgroup /cg cgroup rw,cpu 0 0", ("1:cpu:/a", "1:cpu:/a"), (), True),
    ],
)
def test_it_gives_way_within_one_control_group_alone(
    tmp_path: Path, mounts: str, groups: tuple[str, str], weights: tuple[str, ...], counted: bool
) -> None:
    _server(tmp_path)
    (tmp_path / "proc/mounts").write_text(mounts)
    _process(tmp_path, 40, comm="python", parent=1, cpus="0", seconds=0)
    for pid, group in zip((40, 22), groups, strict=True):
        (tmp_path / f"proc/{pid}/cgroup").write_text(group)
        folder = tmp_path / "cg" / group.rpartition(":")[2].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
    for group in weights:
        (tmp_path / "cg" / group / "cpu.weight").write_text("100")
    found = between({}, spun_seconds(tmp_path, gives_way_to=[40]))
    assert (found.get(0) == 3.0) is counted


@pytest.mark.parametrize(
    ("enabled", "files", "counted"),
    [
        ("0", ("release_agent",), True),
        ("1", ("release_agent",), False),
        # A container's group looks as the machine's from inside: sessions are no groups there.
        ("1", (), True),
    ],
)
def test_it_gives_way_within_one_session_alone_where_those_are_groups(
    tmp_path: Path, enabled: str, files: tuple[str, ...], counted: bool
) -> None:
    _server(tmp_path)
    _process(tmp_path, 40, comm="python", parent=1, cpus="0", seconds=0)
    switch = tmp_path / "proc/sys/kernel/sched_autogroup_enabled"
    switch.parent.mkdir(parents=True)
    switch.write_text(f"{enabled}\n")
    (tmp_path / "proc/mounts").write_text("cgroup /cg cgroup rw,cpu 0 0")
    (tmp_path / "cg").mkdir()
    for name in files:
        (tmp_path / "cg" / name).touch()
    for pid, group in ((40, 7), (22, 8), (23, 7)):
        (tmp_path / f"proc/{pid}/autogroup").write_text(f"/autogroup-{group} nice 0\n")
        (tmp_path / f"proc/{pid}/cgroup").write_text("1:cpu:/")
    found = between({}, spun_seconds(tmp_path, gives_way_to=[40]))
    assert found == ({0: 3.0, 1: 2.0} if counted else {1: 2.0})


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
