"""How much of some CPUs others took while something was measured on them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from corral.system import procfs
from corral.system.spun import Spun, between, spun_seconds

#: more than this, and what was measured says little
MUCH = 0.25
#: A machine that is always busy is measured on so often, and then goes by the quietest time.
MOST_TRIES = 3


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured once or oftener; of the quietest time.

    Attributes:
        other_load: the share of the CPUs' time, 0 to 1, that others took meanwhile.
        tries: how often it was measured, because others always took much.
    """

    other_load: float = 0.0
    tries: int = 1


Found = TypeVar("Found", bound=Measured)


def is_doubtful(found: Measured) -> bool:
    """Whether it was measured while others were busy, and is to be measured once more."""
    return found.other_load > MUCH and found.tries < MOST_TRIES


def kept(found: Found, before: Found | None) -> Found:
    """The quieter of both, with one try more, where it was measured again out of doubt."""
    if before is None or not is_doubtful(before):
        return found
    quieter = min(found, before, key=lambda one: one.other_load)
    return msgspec.structs.replace(quieter, tries=before.tries + 1)


class OtherLoad:
    """Filled in by ``watched``: the share of the CPUs' time, 0 to 1, that was not ours."""

    share = 0.0


class LoadWatch:
    """Watches CPUs from when it is made; where the kernel does not tell, others took nothing.

    Args:
        cpus: by number.
        beside: processes that are not below this one, and no others either.
        now_s: a clock.
        root: the folder that holds ``proc``.
    """

    def __init__(
        self,
        cpus: Collection[int],
        *,
        beside: Collection[int] = (),
        now_s: Callable[[], float] = time.monotonic,
        root: Path = Path("/"),
    ) -> None:
        self._cpus, self._beside, self._now_s, self._root = cpus, beside, now_s, root
        self._began_s = now_s()
        self._busy_s = procfs.busy_seconds(cpus, root)
        self._own_s = _own_seconds(beside)
        self._spun_s = self._spun()

    def share(self) -> float:
        """The share of the CPUs' time so far, 0 to 1, that was not ours."""
        took_s = (self._now_s() - self._began_s) * len(self._cpus)
        busy_s = procfs.busy_seconds(self._cpus, self._root)
        if self._busy_s is None or busy_s is None or not took_s:
            return 0.0
        others_s = busy_s - self._busy_s - (_own_seconds(self._beside) - self._own_s)
        spun_s = between(self._spun_s, self._spun())
        others_s -= sum(seconds for cpu, seconds in spun_s.items() if cpu in self._cpus)
        return min(1.0, max(0.0, others_s / took_s))

    def _spun(self) -> Spun:
        """Of what spins, and is not below us: it gives way, and takes nothing."""
        ours = {os.getpid(), *self._beside}
        return spun_seconds(self._root, apart=ours, gives_way_to=self._beside or ours)


@contextlib.contextmanager
def watched(
    cpus: Collection[int],
    load: OtherLoad,
    *,
    beside: Collection[int] = (),
    now_s: Callable[[], float] = time.monotonic,
    root: Path = Path("/"),
) -> Iterator[None]:
    """Watches CPUs in the block, and tells ``load`` at its end; the others are LoadWatch's."""
    watch = LoadWatch(cpus, beside=beside, now_s=now_s, root=root)
    try:
        yield
    finally:
        load.share = watch.share()


def _own_seconds(beside: Collection[int]) -> float:
    """CPU time of this process, some beside it, and all below, those that have ended included."""
    total = procfs.tree_cpu_seconds(os.getpid())
    for pid in beside:
        with contextlib.suppress(ProcessLookupError):
            total += procfs.tree_cpu_seconds(pid)
    return total
