"""What is read below /proc: of this process, and of made-up ones."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from corral.system import procfs


def test_every_thread_is_seen_with_its_own_mask() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    pinned, done = threading.Event(), threading.Event()
    found: list[int] = []

    def pin() -> None:
        os.sched_setaffinity(0, cpus[:1])
        found.append(threading.get_native_id())
        pinned.set()
        done.wait()

    thread = threading.Thread(target=pin)
    thread.start()
    pinned.wait()
    affinities = procfs.thread_affinities(os.getpid())
    done.set()
    thread.join()
    assert affinities[found[0]] == {cpus[0]}
    assert affinities[threading.get_native_id()] == set(cpus)


def test_libraries_of_this_process() -> None:
    paths = procfs.mapped_libraries(os.getpid())
    assert any(Path(path).name.startswith("libc.so") for path in paths)
    assert not any(path.startswith("[") for path in paths)


def test_paths_with_blanks_and_deleted_files(tmp_path: Path) -> None:
    maps = tmp_path / "proc/7/maps"
    maps.parent.mkdir(parents=True)
    maps.write_text(
        "5581-5582 r--p 00000000 fe:00 1234    /opt/my libs/a.so\n"
        "5583-5584 r--p 00000000 fe:00 1235    /tmp/b.so (deleted)\n"
        "5585-5586 rw-p 00000000 00:00 0 \n"
        "7ffc-7ffd rw-p 00000000 00:00 0       [stack]\n"
    )
    assert procfs.mapped_libraries(7, tmp_path) == {"/opt/my libs/a.so", "/tmp/b.so"}


def test_memory_of_this_process() -> None:
    before = procfs.memory(os.getpid())
    ballast = bytearray(b"x" * 64 * 2**20)
    after = procfs.memory(os.getpid())
    assert 60 * 2**20 < after.resident_bytes - before.resident_bytes < 80 * 2**20
    assert 0 < after.proportional_bytes <= after.resident_bytes
    assert procfs.resident_bytes(os.getpid()) >= len(ballast)


def test_memory_without_rollup(tmp_path: Path) -> None:
    statm = tmp_path / "proc/7/statm"
    statm.parent.mkdir(parents=True)
    statm.write_text("100 10 5 1 0 20 0\n")
    resident = 10 * os.sysconf("SC_PAGE_SIZE")
    assert procfs.memory(7, tmp_path) == procfs.Memory(resident, resident)


def test_children_come_and_go() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert child.pid in procfs.children(os.getpid())
    assert child.pid not in procfs.children(os.getpid())


def test_children_by_asking_everybody(tmp_path: Path) -> None:
    for pid, parent, name in ((7, 1, "a"), (8, 7, "b) c"), (9, 8, "d")):
        task = tmp_path / f"proc/{pid}/task/{pid}"
        task.mkdir(parents=True)
        (tmp_path / f"proc/{pid}/stat").write_text(f"{pid} ({name}) S {parent} 0 0 0\n")
    assert procfs.children(7, tmp_path) == {8}


def test_cpu_seconds(tmp_path: Path) -> None:
    stat = tmp_path / "proc/7/stat"
    stat.parent.mkdir(parents=True)
    stat.write_text(f"7 (my (odd) name) S 1 {' '.join(['0'] * 9)} 250 50 0 0 20 0 1 0 99\n")
    assert procfs.process_cpu_seconds(7, tmp_path) == 300 / os.sysconf("SC_CLK_TCK")
    assert procfs.process_cpu_seconds(os.getpid()) > 0


@pytest.mark.parametrize(
    "read",
    [
        procfs.thread_affinities,
        procfs.mapped_libraries,
        procfs.memory,
        procfs.children,
        procfs.process_cpu_seconds,
    ],
)
def test_a_process_that_is_not_there(read: object, tmp_path: Path) -> None:
    assert callable(read)
    with pytest.raises(ProcessLookupError, match="no process 7"):
        read(7, tmp_path)


def test_throttling(tmp_path: Path) -> None:
    files = {
        "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0",
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_usec 250000",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    stat = procfs.cpu_throttling(tmp_path)
    assert stat is not None
    assert (stat.periods, stat.throttled_periods, stat.throttled_seconds) == (9, 2, 0.25)


def test_cpuinfo_of_arm(tmp_path: Path) -> None:
    path = tmp_path / "proc/cpuinfo"
    path.parent.mkdir()
    path.write_text(
        "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n"
        "processor\t: 1\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
    )
    assert procfs.cpu_model(tmp_path) == "ARM 0x41:0xd40"
    assert procfs.cpu_flags(tmp_path) == {"fp", "asimd"}
    assert procfs.cpu_numbers(tmp_path) == (0, 1)
