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
    now_s: Callable[[], float] = time.monotonic,
    root: Path = Path("/"),
) -> Iterator[None]:
    """Watches CPUs in the block; where the kernel does not tell, the share stays 0.

    Args:
        cpus: by number.
        load: told at the end.
        now_s: a clock.
        root: the folder that holds ``proc``.
    """
    began_s, busy_s, own_s = now_s(), procfs.busy_seconds(cpus, root), _own_seconds()
    yield
    took_s = (now_s() - began_s) * len(cpus)
    if busy_s is None or (busy_after_s := procfs.busy_seconds(cpus, root)) is None or not took_s:
        return
    others_s = busy_after_s - busy_s - (_own_seconds() - own_s)
    load.share = min(1.0, max(0.0, others_s / took_s))


def _own_seconds() -> float:
    """CPU time of this process and its children, those that have ended included."""
    ended = os.times()
    total = ended.children_user + ended.children_system
    for pid in (os.getpid(), *procfs.children(os.getpid())):
        with contextlib.suppress(ProcessLookupError):
            total += procfs.process_cpu_seconds(pid)
    return total
