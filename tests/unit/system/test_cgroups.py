"""Groups of v1 and v2, at home and in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.system.cgroups import (
    Limits,
    Throttling,
    read_limits,
    read_memory_left,
    read_throttling,
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
)


def test_nothing_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == Limits(None, None, None)
    assert read_throttling(tmp_path) is None


def test_v1_beside_an_empty_v2(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V1_MOUNTS,
            "proc/self/cgroup": "3:cpuset:/a\n2:cpuacct,cpu:/b/c\n1:name=systemd:/\n0::/",
            "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus": "2-3",
            "sys/fs/cgroup/cpuset/a/cpuset.cpus": "0-7",
            "sys/fs/cgroup/cpuset/a/cpuset.mems": "1",
            "sys/fs/cgroup/cpu,cpuacct/b/c/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/b/c/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/b/cpu.cfs_quota_us": "350000",
            "sys/fs/cgroup/cpu,cpuacct/b/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/b/cpu.stat": (
                "nr_periods 40\nnr_throttled 3\nthrottled_time 1500000000"
            ),
            "sys/fs/cgroup/cpu,cpuacct/b/c/cpu.stat": (
                "nr_periods 0\nnr_throttled 0\nthrottled_time 0"
            ),
            "sys/fs/cgroup/unified/cgroup.procs": "1",
        },
    )
    assert read_limits(tmp_path) == Limits((2, 3), (1,), 3.5)
    # The group that has the quota is the one that is throttled.
    assert read_throttling(tmp_path) == Throttling(40, 3, 1.5)


def test_v2_takes_the_smallest_quota_of_all_ancestors(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0",
            "proc/self/cgroup": "0::/slice/pod/box",
            "sys/fs/cgroup/slice/cpu.max": "150000 50000",
            "sys/fs/cgroup/slice/pod/cpu.max": "800000 100000",
            "sys/fs/cgroup/slice/pod/box/cpu.max": "max 100000",
            # Empty means: as the parent.
            "sys/fs/cgroup/slice/pod/box/cpuset.cpus.effective": "",
            "sys/fs/cgroup/slice/pod/cpuset.cpus.effective": "0-3,8",
            "sys/fs/cgroup/slice/cpu.stat": (
                "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 250000"
            ),
        },
    )
    assert read_limits(tmp_path) == Limits((0, 1, 2, 3, 8), None, 3.0)


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("/", "/kubepods/pod1/box"),  # what the host calls it is not to be seen in here
        ("/", "/../../other"),  # outside our cgroup namespace
        ("/kubepods/pod1/box", "/kubepods/pod1/box"),  # mounted without a namespace
        ("/", "/"),
    ],
)
def test_in_a_container_the_mounts_own_folder_is_the_group(
    group: str, path: str, tmp_path: Path
) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": f"9 8 0:26 {group} /sys/fs/cgroup ro - cgroup2 cgroup rw",
            "proc/self/cgroup": f"0::{path}",
            "sys/fs/cgroup/cpu.max": "250000 100000",
            "sys/fs/cgroup/cpuset.cpus.effective": "4-5",
        },
    )
    assert read_limits(tmp_path) == Limits((4, 5), None, 2.5)


def test_below_a_mounted_group(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "9 8 0:26 /pod /sys/fs/my\\040group rw - cgroup2 cgroup rw",
            "proc/self/cgroup": "0::/pod/box",
            "sys/fs/my group/box/cpu.max": "100000 100000",
            "sys/fs/my group/cpu.max": "400000 100000",
        },
    )
    assert read_limits(tmp_path).quota == 1.0


def test_an_old_cpuset_without_prefix(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/mounts": "none /dev/cpuset cgroup rw,cpuset,noprefix 0 0",
            "proc/self/cpuset": "/job",
            "dev/cpuset/job/cpus": "1,3",
            "dev/cpuset/job/mems": "0",
        },
    )
    assert read_limits(tmp_path) == Limits((1, 3), (0,), None)


def test_this_process_has_limits_that_can_be_read() -> None:
    limits: Any = read_limits(Path("/"))
    assert limits.quota is None or limits.quota > 0


_V1_MEMORY = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


def test_the_memory_that_is_left_is_the_least_of_all_groups(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory"
    write(
        tmp_path,
        {
            "proc/self/mountinfo": _V1_MEMORY,
            "proc/self/cgroup": "4:memory:/a/b",
            f"{group}/a/b/memory.limit_in_bytes": "9223372036854771712",
            f"{group}/a/b/memory.usage_in_bytes": "600",
            f"{group}/a/memory.limit_in_bytes": "1000",
            f"{group}/a/memory.usage_in_bytes": "700",
            # Half of it is files, which are given back.
            f"{group}/a/memory.stat": "cache 1\ntotal_cache 350\ntotal_rss 350",
        },
    )
    assert read_memory_left(tmp_path) == 650


def test_v2_says_what_memory_is_left(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "proc/self/cgroup": "0::/a",
            "sys/fs/cgroup/a/memory.max": "700",
            "sys/fs/cgroup/a/memory.current": "300",
            "sys/fs/cgroup/a/memory.stat": "anon 200\nfile 100",
        },
    )
    assert read_memory_left(tmp_path) == 500
    (tmp_path / "sys/fs/cgroup/a/memory.max").write_text("max\n")
    assert read_memory_left(tmp_path) is None
    assert read_memory_left(tmp_path / "nowhere") is None


@pytest.mark.parametrize("odd", ["a=b=c", "0-4294967295", "\N{REPLACEMENT CHARACTER}"])
def test_a_cpuset_that_no_kernel_writes_limits_nothing(odd: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V1_MOUNTS,
            "proc/self/cgroup": "3:cpuset:/a",
            "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus": odd,
            "sys/fs/cgroup/cpuset/a/cpuset.cpus": "0-7",
            "sys/fs/cgroup/cpuset/a/cpuset.mems": odd,
        },
    )
    assert read_limits(tmp_path) == Limits(tuple(range(8)), None, None)


def test_the_groups_of_another_process_lie_where_we_see_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/mountinfo": V1_MOUNTS,
            "proc/self/cgroup": "3:cpuset:/",
            "proc/77/cgroup": "3:cpuset:/job",
            # In a mount namespace of its own: not our folders.
            "proc/77/mountinfo": "40 39 0:31 / /elsewhere rw - cgroup cgroup rw,cpuset",
            "sys/fs/cgroup/cpuset/cpuset.cpus": "0-7",
            "sys/fs/cgroup/cpuset/job/cpuset.cpus": "4-5",
        },
    )
    assert read_limits(tmp_path).cpus == tuple(range(8))
    assert read_limits(tmp_path, "77").cpus == (4, 5)
