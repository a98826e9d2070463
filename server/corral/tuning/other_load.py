"""How much of some CPUs others took while something was measured on them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from corral.system import procfs

#: more than this, and what was measured says little
MUCH = 0.25


class OtherLoad:
    """Filled in by ``watched``: the share of the CPUs' time, 0 to 1, that was not ours."""

    share = 0.0


@contextlib.contextmanager
def watched(
    cpus: Collection[int],
    load: OtherLoad,
    *,
    beside: Collection[int] = (),
    now_s: Callable[[], float] = time.monotonic,
    root: Path = Path("/"),
) -> Iterator[None]:
    """Watches CPUs in the block; where the kernel does not tell, the share stays 0.

    Args:
        cpus: by number.
        load: told at the end.
        beside: processes that are not below this one, and no others either.
        now_s: a clock.
        root: the folder that holds ``proc``.
    """
    began_s, busy_s, own_s = now_s(), procfs.busy_seconds(cpus, root), _own_seconds(beside)
    try:
        yield
    finally:
        took_s = (now_s() - began_s) * len(cpus)
        busy_after_s = procfs.busy_seconds(cpus, root)
        if busy_s is not None and busy_after_s is not None and took_s:
            others_s = busy_after_s - busy_s - (_own_seconds(beside) - own_s)
            load.share = min(1.0, max(0.0, others_s / took_s))


def _own_seconds(beside: Collection[int]) -> float:
    """CPU time of this process, some beside it, and all below, those that have ended included."""
    total = procfs.tree_cpu_seconds(os.getpid())
    for pid in beside:
        with contextlib.suppress(ProcessLookupError):
            total += procfs.tree_cpu_seconds(pid)
    return total
