import mmap
import os
from pathlib import Path

from corral.worker import checks


def test_threads_inside_the_mask_are_fine() -> None:
    assert checks.check_affinity({0, 1, 2}, {1: {0, 1}, 2: {2}}) == ("0-2", [])


def test_a_stray_thread_is_a_warning_with_where_it_may_run() -> None:
    shown, warnings = checks.check_affinity({2, 3}, {1: {2, 3}, 2: {0, 1, 2, 3}})
    assert shown == "0-3"
    assert warnings == ["1 of 2 threads may run on CPUs 0-3, outside the worker's 2-3"]


def test_an_allocator_that_is_mapped_is_reported() -> None:
    mapped = {"libc.so.6", "libtcmalloc_minimal.so.4.5.10"}
    expected = {"allocator": "/usr/lib/libtcmalloc_minimal.so.4"}
    assert checks.check_libraries(mapped, expected) == (
        {"allocator": "libtcmalloc_minimal.so.4"},
        [],
    )


def test_an_allocator_that_is_not_mapped_is_a_warning() -> None:
    found, warnings = checks.check_libraries({"libc.so.6"}, {"allocator": "libjemalloc.so.2"})
    assert found == {"allocator": "system"}
    assert warnings == ["libjemalloc.so.2 was preloaded as allocator and is not mapped"]


def test_a_longer_name_is_another_library() -> None:
    _, warnings = checks.check_libraries({"libiomp5.something"}, {"openmp": "libiomp5.so"})
    assert warnings


def test_this_process_has_what_it_has() -> None:
    found = checks.look(os.sched_getaffinity(0), {})
    assert found.warnings == []
    assert found.memory_bytes > 2**20
    assert int(found.checks["threads"]) >= 1


def test_a_file_that_is_mapped_twice_is_in_memory_once(tmp_path: Path) -> None:
    """As the weights are that each compiled size maps."""
    size = 64 * 2**20
    file = tmp_path / "weights"
    file.write_bytes(bytes(size))
    before = checks.look(os.sched_getaffinity(0), {}).memory_bytes
    with file.open("rb") as opened:
        maps = [mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) for _ in range(3)]
        assert all(not one[place] for one in maps for place in range(0, size, mmap.PAGESIZE))
        after = checks.look(os.sched_getaffinity(0), {}).memory_bytes
        for one in maps:
            one.close()
    assert 0.9 * size < after - before < 1.5 * size


def test_amx_is_told_where_the_cpu_has_it() -> None:
    flags = frozenset({"amx_tile"})
    assert checks.check_amx(flags, True) == {"amx": "permitted"}
    assert checks.check_amx(flags, False) == {"amx": "not permitted"}
    assert checks.check_amx(flags, None) == checks.check_amx(frozenset(), True) == {}
