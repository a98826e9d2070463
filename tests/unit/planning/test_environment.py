"""What a worker's environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.planning.environment import (
    allocator_environment,
    compute_environment,
    frontend_environment,
)
from corral.settings import Allocator, Settings

TCMALLOC = Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")
JEMALLOC = Path("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")
IOMP = Path("/venv/lib/libiomp5.so")


def test_one_thread_a_cpu() -> None:
    environment = compute_environment([4, 6, 8])
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["KMP_AFFINITY"] == "granularity=fine,compact,1,0"
    assert environment["KMP_BLOCKTIME"] == "1"
    assert environment["TBB_ENABLE_SANITIZERS"] == "1"


def test_libgomp_binds_nothing_beside_another_runtime() -> None:
    # libgomp would bind the initial thread at load, and the other runtime would see one CPU.
    environment = compute_environment([0, 1])
    assert environment["OMP_PROC_BIND"] == "FALSE"
    assert not {"OMP_PLACES", "GOMP_CPU_AFFINITY"} & environment.keys()


def test_libgomp_binds_where_it_computes() -> None:
    environment = compute_environment([2, 5], on_libgomp=True)
    assert environment["OMP_PROC_BIND"] == "CLOSE"
    assert environment["OMP_PLACES"] == "{2},{5}"


def test_the_allocator_comes_before_openmp() -> None:
    environment = allocator_environment(
        Allocator.TCMALLOC, {"tcmalloc": TCMALLOC, "openmp": IOMP}, huge_pages=False
    )
    assert environment["LD_PRELOAD"] == f"{TCMALLOC}:{IOMP}"
    assert "MALLOC_CONF" not in environment


@pytest.mark.parametrize("huge_pages", [True, False])
def test_huge_pages_with_jemalloc(huge_pages: bool) -> None:
    environment = allocator_environment(Allocator.JEMALLOC, {"jemalloc": JEMALLOC}, huge_pages)
    assert environment["LD_PRELOAD"] == str(JEMALLOC)
    assert ("thp:always" in environment["MALLOC_CONF"].split(",")) is huge_pages


def test_huge_pages_with_the_c_librarys_allocator() -> None:
    environment = allocator_environment(Allocator.SYSTEM, {}, huge_pages=True)
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert allocator_environment(Allocator.SYSTEM, {}, huge_pages=False) == {}


@pytest.mark.parametrize("allocator", list(Allocator))
@pytest.mark.parametrize("huge_pages", [True, False])
def test_torch_is_asked_for_huge_pages_whatever_the_allocator(
    allocator: Allocator, huge_pages: bool
) -> None:
    libraries = {"tcmalloc": TCMALLOC, "jemalloc": JEMALLOC}
    environment = allocator_environment(allocator, libraries, huge_pages)
    assert ("THP_MEM_ALLOC_ENABLE" in environment) is huge_pages


def test_a_missing_allocator_is_not_preloaded() -> None:
    environment = allocator_environment(Allocator.JEMALLOC, {"jemalloc": None}, huge_pages=False)
    assert environment == {}


def test_a_frontend_keeps_what_the_largest_messages_need() -> None:
    tunables = dict(pair.split("=") for pair in frontend_environment()["GLIBC_TUNABLES"].split(":"))
    mmap_threshold = int(tunables["glibc.malloc.mmap_threshold"])
    assert Settings().queue.max_image_bytes < mmap_threshold
    # glibc takes no larger one: half a heap of 64 MiB.
    assert mmap_threshold <= 32 * 2**20
    assert int(tunables["glibc.malloc.trim_threshold"]) > mmap_threshold
