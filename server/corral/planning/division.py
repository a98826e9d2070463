"""How one NUMA node's cores are divided among workers. Pure.

Cores that share an L3 and are of one kind form a pen. A worker stays inside a pen; only cores
whose own pen is too small for a worker are pooled with their like, and only there does a worker
straddle L3s. What is divided best is judged by the compute that the workers have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from corral.planning.machine import Core, CpuKind

#: what a core is worth to a worker: efficiency cores run inference at about half the speed
_KIND_WEIGHT = {CpuKind.PERFORMANCE: 4, CpuKind.EFFICIENCY: 2, CpuKind.LOW_POWER: 1}
#: what is left of it, in quarters, when the worker's cores do not share an L3; a judgement
_INSIDE, _STRADDLING = 4, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
    """One node, divided.

    Attributes:
        reserved: cores kept free of workers, for frontends.
        workers: each worker's cores.
        value: compute of the workers, to compare divisions of one node with.
    """

    reserved: tuple[Core, ...]
    workers: tuple[tuple[Core, ...], ...]
    value: int

    @property
    def straddling(self) -> int:
        """The number of workers whose cores do not share one L3."""
        return sum(len({core.l3 for core in worker}) > 1 for worker in self.workers)


@dataclasses.dataclass
class _Pen:
    """Cores that workers may be cut from; ``left`` of them are not reserved."""

    cores: Sequence[Core]
    weight: int
    left: int


def divide(
    cores: Iterable[Core],
    *,
    reserve: int,
    narrow: int,
    wide: int,
    count: int | None = None,
    fewest: bool = True,
    straddle: bool = False,
) -> Division | None:
    """Divides a node's cores into workers of ``narrow`` to ``wide`` cores.

    Args:
        cores: the node's usable cores.
        reserve: cores to keep free of workers; they are taken where they cost least.
        narrow: the least width of a worker.
        wide: the greatest, ``narrow`` or one more.
        count: how many workers; None for as many as use the most cores.
        fewest: without ``count``, whether to use those cores with the fewest or the most workers.
        straddle: whether workers may straddle L3s even where that could be helped.

    Returns:
        None where that many workers, or a single one, cannot be had.
    """
    pens = _make_pens(cores, narrow, straddle)
    widths = (narrow, wide)
    touched: set[int] = set()
    for _ in range(reserve):
        at = _cheapest_pen(pens, widths, count, fewest, touched)
        if at is None:
            return None
        pens[at].left -= 1
        touched.add(at)
    counts = _fill(pens, widths, count, fewest)
    if counts is None or not any(counts):
        return None
    reserved: list[Core] = []
    workers: list[tuple[Core, ...]] = []
    for pen, number in zip(pens, counts, strict=True):
        reserved.extend(pen.cores[: len(pen.cores) - pen.left])
        workers.extend(_cut(pen, number, wide))
    return Division(
        reserved=tuple(reserved),
        workers=tuple(sorted(workers, key=lambda worker: (worker[0].kind, worker[0].cpus))),
        value=_value(pens, widths, counts),
    )


def divide_by_default(cores: Sequence[Core], reserve: int, *, widest: bool) -> Division:
    """Workers of 2 to 4 cores that use the most cores; one-core workers where nothing else fits.

    Args:
        cores: the node's usable cores, more than ``reserve``.
        reserve: cores to keep free of workers.
        widest: which of equally good widths to take.
    """
    choices = ((3, 4), (2, 3)) if widest else ((2, 3), (3, 4))
    best: Division | None = None
    for narrow, wide in choices:
        found = divide(cores, reserve=reserve, narrow=narrow, wide=wide, fewest=widest)
        if found is not None and (best is None or found.value > best.value):
            best = found
    best = best or divide(cores, reserve=reserve, narrow=1, wide=1)
    assert best is not None, "a node has more cores than it keeps free"
    return best


def divide_among(cores: Sequence[Core], reserve: int, count: int) -> Division:
    """``count`` workers with the most cores each, the widths at most one apart.

    Args:
        cores: the node's usable cores, at least ``reserve + count``.
        reserve: cores to keep free of workers.
        count: the number of workers.
    """
    best: Division | None = None
    for narrow in range((len(cores) - reserve) // count, 0, -1):
        found = divide(cores, reserve=reserve, narrow=narrow, wide=narrow + 1, count=count)
        if found is not None and (best is None or found.value > best.value):
            best = found
    assert best is not None, "one core a worker always fits"
    return best


def divide_whole(cores: Sequence[Core], reserve: int) -> Division:
    """One worker on all of a node's cores of one kind, the kind that has the most compute.

    Args:
        cores: the node's usable cores, more than ``reserve``.
        reserve: cores to keep free of the worker.
    """
    best: Division | None = None
    for width in range(len(cores) - reserve, 0, -1):
        found = divide(cores, reserve=reserve, narrow=width, wide=width, count=1, straddle=True)
        if found is not None and (best is None or found.value > best.value):
            best = found
    assert best is not None, "one core always fits"
    return best


def group_by_l3(cores: Iterable[Core]) -> list[list[Core]]:
    """Cores by kind and shared L3, the fastest kind first, then by CPU number."""
    groups: dict[tuple[CpuKind, int | None], list[Core]] = {}
    for core in sorted(cores, key=lambda core: (core.kind, core.cpus)):
        groups.setdefault((core.kind, core.l3), []).append(core)
    return sorted(groups.values(), key=lambda group: (group[0].kind, group[0].cpus))


def _make_pens(cores: Iterable[Core], narrow: int, straddle: bool) -> list[_Pen]:
    pens: list[_Pen] = []
    pools: dict[CpuKind, list[Core]] = {}
    for group in group_by_l3(cores):
        if straddle or len(group) < narrow:
            pools.setdefault(group[0].kind, []).extend(group)
        else:
            pens.append(_Pen(group, _KIND_WEIGHT[group[0].kind] * _INSIDE, len(group)))
    for kind, pool in pools.items():
        pens.append(_Pen(pool, _KIND_WEIGHT[kind] * _STRADDLING, len(pool)))
    return pens


def _cheapest_pen(
    pens: Sequence[_Pen],
    widths: tuple[int, int],
    count: int | None,
    fewest: bool,
    touched: set[int],
) -> int | None:
    """The pen that can spare a core at the least cost; one that has spared some if all is equal."""
    best: tuple[int, int, bool] | None = None
    best_at: int | None = None
    seen: set[tuple[int, int, bool]] = set()
    for at, pen in enumerate(pens):
        # Pens that are alike cost alike: one of them stands for all.
        likeness = (pen.left, pen.weight, at in touched)
        if pen.left == 0 or likeness in seen:
            continue
        seen.add(likeness)
        pen.left -= 1
        counts = _fill(pens, widths, count, fewest)
        if counts is not None:
            odd = _odd_workers(pens, widths, counts, fewest)
            score = (_value(pens, widths, counts), -odd, at in touched)
            if best is None or score > best:
                best, best_at = score, at
        pen.left += 1
    return best_at


def _fill(
    pens: Sequence[_Pen], widths: tuple[int, int], count: int | None, fewest: bool
) -> list[int] | None:
    """How many workers each pen gets; None where ``count`` cannot be had."""
    narrow, wide = widths
    most = [pen.left // narrow for pen in pens]
    if count is None:
        if not fewest:
            return most
        return [-(-min(p.left, n * wide) // wide) for p, n in zip(pens, most, strict=True)]
    counts = [0] * len(pens)
    for _ in range(count):
        best: tuple[int, float] | None = None
        best_at = -1
        for at, pen in enumerate(pens):
            if counts[at] < most[at]:
                used = min(pen.left, counts[at] * wide)
                gain = pen.weight * (min(pen.left, (counts[at] + 1) * wide) - used)
                # Where all is equal, workers spread over the L3s.
                score = (gain, -counts[at] / pen.left)
                if best is None or score > best:
                    best, best_at = score, at
        if best is None:
            return None
        counts[best_at] += 1
    return counts


def _value(pens: Sequence[_Pen], widths: tuple[int, int], counts: Sequence[int]) -> int:
    return sum(
        pen.weight * min(pen.left, number * widths[1])
        for pen, number in zip(pens, counts, strict=True)
    )


def _odd_workers(
    pens: Sequence[_Pen], widths: tuple[int, int], counts: Sequence[int], fewest: bool
) -> int:
    """Workers that have not the width that was aimed at."""
    narrow, wide = widths
    odd = 0
    for pen, number in zip(pens, counts, strict=True):
        used = min(pen.left, number * wide)
        odd += number * wide - used if fewest else used - number * narrow
    return odd


def _cut(pen: _Pen, number: int, wide: int) -> list[tuple[Core, ...]]:
    """Cuts a pen's last cores into workers, the narrower ones first.

    What was reserved lies in front, so the wider workers start at rounder core numbers, and
    fewer of them split a pair of cores that share an L2.
    """
    if number == 0:
        return []
    used = min(pen.left, number * wide)
    width, wider = divmod(used, number)
    workers = []
    start = len(pen.cores) - used
    for i in range(number):
        end = start + width + (1 if i >= number - wider else 0)
        workers.append(tuple(pen.cores[start:end]))
        start = end
    return workers
