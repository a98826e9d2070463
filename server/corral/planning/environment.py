"""The environment a worker starts with: threads, affinity of OpenMP runtimes, allocator. Pure.

Two OpenMP runtimes read it. libgomp binds the *initial thread* to the first place as soon as it
is loaded with OMP_PROC_BIND (or OMP_PLACES) set, whoever uses it; libiomp5, or an engine that asks
for the process's affinity, then sees one CPU and puts every thread on it. So only one of the two
is ever told to bind: libiomp5 by KMP_AFFINITY, or libgomp by OMP_PROC_BIND where an engine
computes on it. Either way the process's mask, set before it started, holds all threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from corral.settings import Allocator

_PRIMITIVE_CACHE_ENTRIES = 1024
#: the C library's largest possible value; a message or a picture is smaller
_KEPT_BUFFER_BYTES = 32 * 2**20
#: of freed memory at the heap's end: what bounds what an idle front keeps
_KEPT_HEAP_BYTES = 64 * 2**20
#: large enough that gperftools never prints a line about a large allocation
_TCMALLOC_REPORT_BYTES = 1 << 40


def compute_environment(cpus: Sequence[int], *, on_libgomp: bool = False) -> dict[str, str]:
    """What makes an engine compute with one thread a CPU of ``cpus``.

    Args:
        cpus: the worker's CPUs, one a physical core.
        on_libgomp: whether the engine computes on libgomp; else on a preloaded libiomp5, or on
            threads of its own.
    """
    threads = str(len(cpus))
    environment = {
        "OMP_NUM_THREADS": threads,
        "OMP_DYNAMIC": "FALSE",
        "OMP_PROC_BIND": "FALSE",
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
        "KMP_BLOCKTIME": "1",
        # libiomp5 would say at each start that OMP_PROC_BIND yields to KMP_AFFINITY.
        "KMP_WARNINGS": "0",
        "MKL_NUM_THREADS": threads,
        "MKL_DYNAMIC": "FALSE",
        # numpy's pool would otherwise start as many idle threads as there are CPUs.
        "OPENBLAS_NUM_THREADS": "1",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(_PRIMITIVE_CACHE_ENTRIES),
        # oneTBB opens libraries with RTLD_DEEPBIND unless this is set, and these then free with
        # the C library what a preloaded allocator gave them.
        "TBB_ENABLE_SANITIZERS": "1",
    }
    if on_libgomp:
        environment["OMP_PROC_BIND"] = "CLOSE"
        environment["OMP_PLACES"] = ",".join(f"{{{cpu}}}" for cpu in cpus)
    return environment


def allocator_environment(
    allocator: Allocator, libraries: Mapping[str, Path | None], huge_pages: bool
) -> dict[str, str]:
    """What puts an allocator, and libiomp5 for engines on OpenMP, under a process.

    Args:
        allocator: the choice.
        libraries: shared objects by what they are for: "tcmalloc", "jemalloc", "openmp"; None or
            missing where there is none, and then it is not preloaded.
        huge_pages: whether to ask for transparent huge pages, where the allocator or torch can.
    """
    chosen = libraries.get(allocator.value)
    preload = [str(path) for path in (chosen, libraries.get("openmp")) if path is not None]
    environment = {"LD_PRELOAD": ":".join(preload)} if preload else {}
    if allocator is Allocator.JEMALLOC and chosen is not None:
        # Freed pages come back at leisure, by a thread of jemalloc's own; large buffers get an
        # arena as any other, since inference asks for the same few over and over.
        options = ["background_thread:true", "oversize_threshold:0", "metadata_thp:auto"]
        options += ["dirty_decay_ms:10000", "muzzy_decay_ms:10000"]
        options += ["thp:always"] if huge_pages else []
        environment["MALLOC_CONF"] = ",".join(options)
    elif allocator is Allocator.TCMALLOC and chosen is not None:
        environment["TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD"] = str(_TCMALLOC_REPORT_BYTES)
    elif huge_pages:
        environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    if huge_pages:
        # torch's own tensors, whatever the allocator; other engines do not read it.
        environment["THP_MEM_ALLOC_ENABLE"] = "1"
    return environment


def frontend_environment() -> dict[str, str]:
    """What keeps the buffers of messages mapped from one request to the next.

    The C library gives a freed buffer of some hundred kilobytes back to the kernel, and the next
    message's is faulted in again, page by page: at 602 KB that took a fifth of what the front
    can carry. Other C libraries do not read this.
    """
    return {
        "GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={_KEPT_BUFFER_BYTES}"
        f":glibc.malloc.trim_threshold={_KEPT_HEAP_BYTES}",
        # numpy's pool would start as many idle threads as there are CPUs.
        "OPENBLAS_NUM_THREADS": "1",
    }
