"""Items that do not fit into the memory: refused in one line; batches that do not: not tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.batching.sizes import BatchSizes
from corral.errors import ConfigError
from corral.launch import region_memory
from corral.launch.region_memory import check_regions, that_fit
from corral.system.limits import memory_there
from corral.tensors import Datatype, Signature

_GIB = 2**30
#: items of 1 GiB, answers of a few bytes
_LARGE = Signature({Datatype.FP32: (2**28,)}, (3,))


@pytest.fixture(autouse=True)
def four_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_memory, "memory_there", lambda _: (4 * _GIB, "this cgroup may have"))


def test_an_item_that_does_not_fit_is_one_line_with_the_way_out() -> None:
    check_regions("m.onnx", _LARGE, 3, None)
    with pytest.raises(ConfigError) as refused:
        check_regions("m.onnx", _LARGE, 4, None)
    assert str(refused.value) == (
        "--model m.onnx: an item with its answer takes 1,024 MiB, the regions of 4 workers "
        "4,096 MiB, and this cgroup may have 4,096: fewer --workers, or a model of smaller items, "
        "or more memory"
    )
    huge = Signature({Datatype.FP32: (2**31,)}, (3,))
    with pytest.raises(ConfigError, match=r"4,096: a model of smaller items, or more memory$"):
        check_regions("m.onnx", huge, 2, 8)


def test_a_batch_that_does_not_fit_is_the_options_fault() -> None:
    with pytest.raises(ConfigError, match=r"--max-batch 8: the batches of 1 worker take 8,192"):
        check_regions("m.onnx", _LARGE, 1, 8)


def test_sizes_that_nobody_asked_for_leave_half_of_the_memory() -> None:
    tried = BatchSizes(sizes=[1, 2, 4, 8], find_knee=True)
    assert that_fit(tried, _LARGE, 1).sizes == [1]
    small = Signature({Datatype.FP32: (2**26,)}, (3,))
    assert that_fit(tried, small, 1).sizes == [1, 2, 4]
    assert that_fit(tried, small, 3).sizes == [1, 2]
    known = BatchSizes(sizes=[1, 8], find_knee=False, known_s={"FP32:8": 1.0})
    assert that_fit(known, _LARGE, 1).sizes == [1]
    asked = BatchSizes(sizes=[1, 2, 4, 8], find_knee=False)
    assert that_fit(asked, _LARGE, 1) is asked


def test_a_cgroup_that_allows_less_than_the_machine_has_counts(tmp_path: Path) -> None:
    assert memory_there(tmp_path)[1] == "this machine has"
    for name, text in {
        "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "proc/self/cgroup": "0::/a",
        "sys/fs/cgroup/a/memory.max": "700",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_there(tmp_path) == (700, "this cgroup may have")
