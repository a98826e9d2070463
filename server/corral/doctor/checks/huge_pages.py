"""Transparent huge pages: whether they are given, and to whom."""

from __future__ import annotations

import re

from corral.doctor.evidence import Evidence
from corral.doctor.finding import Outcome, Status, check, info, ok, unknown

_THP = "sys/kernel/mm/transparent_hugepage"
_SELECTED = re.compile(r"\[(\S+)\]")


def _chosen(text: str) -> str:
    found = _SELECTED.search(text)
    return found[1] if found else text


@check(
    "huge-pages",
    "Transparent huge pages",
    wanted="madvise or always",
    why="With never, the huge pages that corral asks for (malloc, torch) are not given, and large "
    "tensors cost more page table walks.",
    source="Intel's guide for AI: needs experimentation; corral's ladder measured 0.98 to 1.02",
)
def huge_pages(seen: Evidence) -> Outcome:
    """What the kernel does when they are asked for."""
    text = seen.text(f"{_THP}/enabled")
    if text is None:
        return unknown(seen.missing(f"{_THP}/enabled"))
    chosen = _chosen(text)
    if chosen != "never":
        return ok(chosen)
    fix = f"echo madvise | sudo tee /{_THP}/enabled"
    if seen.layout.huge_pages is False:
        return ok("never; --no-huge-pages asks for none")
    return Outcome(status=Status.WARNING, found=chosen, fix=fix, cpus=seen.layout.worker_cpus)


@check(
    "huge-pages-stalls",
    "Compaction at page faults",
    wanted="madvise, defer or defer+madvise",
    why="With always, each page fault of each process may stop to compact memory.",
    source="kernel: Documentation/admin-guide/mm/transhuge.rst, defrag",
)
def defrag(seen: Evidence) -> Outcome:
    """When a fault waits for compaction."""
    text = seen.text(f"{_THP}/defrag")
    if text is None:
        return unknown(seen.missing(f"{_THP}/defrag"))
    chosen = _chosen(text)
    if chosen != "always":
        return ok(chosen)
    fix = f"echo madvise | sudo tee /{_THP}/defrag"
    return info(chosen, fix, cpus=seen.layout.worker_cpus)


@check(
    "huge-pages-got",
    "Huge pages in the workers",
    wanted="more than 0 where they were asked for",
    why="Asking is no getting: the kernel gives none where memory is fragmented.",
    source="kernel: /proc/PID/smaps_rollup, AnonHugePages",
)
def huge_pages_got(seen: Evidence) -> Outcome:
    """What the workers' memory is made of."""
    if not seen.layout.running:
        return unknown(seen.no_server)
    got: dict[int, int] = {}
    for worker in seen.layout.workers:
        rollup = seen.of_process(worker.pid, "smaps_rollup")
        kib = re.search(r"AnonHugePages:\s+(\d+) kB", rollup or "")
        if kib:
            got[worker.id] = int(kib[1]) // 1024
    if not got:
        return unknown(seen.not_shown("smaps_rollup"))
    found = ", ".join(f"worker {worker}: {mib} MiB" for worker, mib in got.items())
    without = tuple(worker for worker, mib in got.items() if not mib)
    if not without or not _asked_for(seen):
        return ok(found)
    return Outcome(
        status=Status.INFO,
        found=found,
        fix="echo 1 | sudo tee /proc/sys/vm/compact_memory; then corral reload",
        workers=without,
    )


def _asked_for(seen: Evidence) -> bool:
    """Whether the workers ask for huge pages, by the settings or by their environment."""
    if seen.layout.huge_pages is not None:
        return seen.layout.huge_pages
    environs = (seen.of_process(worker.pid, "environ") or "" for worker in seen.layout.workers)
    return any("THP_MEM_ALLOC_ENABLE=1" in environ for environ in environs)
