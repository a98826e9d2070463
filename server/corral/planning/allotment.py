"""Which NUMA node gets how many workers, and how wide they are. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from corral.errors import ConfigError
from corral.planning.division import Division, divide, divide_among, divide_by_default, divide_whole
from corral.planning.machine import Core


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for.

    Attributes:
        workers: how many; None for as many as fit.
        cores_per_worker: how wide; None for 2 to 4, or what ``workers`` leave to each.
        widest: which of equally good widths to take.
        oversubscribe: whether workers may share CPUs where they do not fit otherwise.
        one_core: whether workers have one core where nothing is said of number and width.
    """

    workers: int | None
    cores_per_worker: int | Literal["node"] | None
    widest: bool
    oversubscribe: bool
    one_core: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedNode:
    """A NUMA node while it is being planned.

    Attributes:
        id: the kernel's number.
        cores: what may be used of it.
        reserve: how many of these are kept free for frontends.
        reserved: which, once it is divided.
        workers: each worker's cores, once it is divided.
    """

    id: int
    cores: Sequence[Core]
    reserve: int
    reserved: tuple[Core, ...] = ()
    workers: tuple[tuple[Core, ...], ...] = ()

    @property
    def free(self) -> int:
        """Cores that workers may have."""
        return len(self.cores) - self.reserve

    @property
    def largest(self) -> int:
        """Cores of the widest worker that fits: of one kind, and none that is kept free."""
        kinds = Counter(core.kind for core in self.cores)
        return min(self.free, max(kinds.values()))

    @property
    def straddling(self) -> int:
        """The number of workers whose cores do not share one L3."""
        return sum(len({core.l3 for core in worker}) > 1 for worker in self.workers)

    def divided(self, division: Division | None) -> PlannedNode:
        """The same node with its workers; None gives it none."""
        if division is None:
            return self
        return dataclasses.replace(self, reserved=division.reserved, workers=division.workers)


def allot(nodes: Sequence[PlannedNode], wish: Wish) -> tuple[list[PlannedNode], bool]:
    """Every node with its workers, and whether these share CPUs.

    Raises:
        ConfigError: what is wished for does not fit, in one line that says what would.
    """
    try:
        return _divide_apart(nodes, wish), False
    except ConfigError:
        if not wish.oversubscribe or wish.workers is None:
            raise
        return _divide_shared(nodes, wish.workers, wish.cores_per_worker), True


def _divide_apart(nodes: Sequence[PlannedNode], wish: Wish) -> list[PlannedNode]:
    """Workers that share nothing.

    Raises:
        ConfigError: they do not fit.
    """
    workers, width = wish.workers, wish.cores_per_worker
    if isinstance(width, int):
        return _divide_by_width(nodes, workers, width)
    if width == "node":
        spread = _spread([1] * len(nodes), workers) if workers else [1] * len(nodes)
        if spread is None:
            raise ConfigError(
                f"no room in the CPU budget for --workers {workers} of a whole node each: "
                f"{len(nodes)} NUMA {'node is' if len(nodes) == 1 else 'nodes are'} available"
            )
        return [
            node.divided(divide_whole(node.cores, node.reserve) if number else None)
            for node, number in zip(nodes, spread, strict=True)
        ]
    if workers is None and wish.one_core:
        return _divide_by_width(nodes, None, 1)
    if workers is None:
        return [
            node.divided(divide_by_default(node.cores, node.reserve, widest=wish.widest))
            for node in nodes
        ]
    spread = _spread([node.free for node in nodes], workers)
    if spread is None:
        raise _no_room(nodes, workers, 1)
    return [
        node.divided(divide_among(node.cores, node.reserve, number) if number else None)
        for node, number in zip(nodes, spread, strict=True)
    ]


def _divide_by_width(
    nodes: Sequence[PlannedNode], workers: int | None, width: int
) -> list[PlannedNode]:
    """Workers of exactly ``width`` cores: as many as fit, or exactly ``workers``."""

    def attempt(node: PlannedNode, count: int | None, straddle: bool) -> Division | None:
        return divide(
            node.cores,
            reserve=node.reserve,
            narrow=width,
            wide=width,
            count=count,
            straddle=straddle,
        )

    inside = [attempt(node, None, False) for node in nodes]
    if workers is None:
        if not any(inside):
            raise _no_room(nodes, 1, width)
        return [node.divided(division) for node, division in zip(nodes, inside, strict=True)]
    # Straddling L3s is the way to fit exactly what was asked for, and only where nothing else is.
    for straddle in (False, True):
        rooms = [attempt(node, None, straddle) for node in nodes]
        spread = _spread([len(room.workers) if room else 0 for room in rooms], workers)
        if spread is not None:
            return [
                node.divided(attempt(node, number, straddle) if number else None)
                for node, number in zip(nodes, spread, strict=True)
            ]
    raise _no_room(nodes, workers, width)


def _spread(rooms: Sequence[int], number: int) -> list[int] | None:
    """Spreads workers over nodes in proportion to their room; None if they do not fit."""
    if number > sum(rooms):
        return None
    counts = [0] * len(rooms)
    for _ in range(number):
        open_nodes = [i for i, room in enumerate(rooms) if counts[i] < room]
        # Highest averages: the next worker goes where each would have the most room.
        counts[max(open_nodes, key=lambda i: (rooms[i] / (counts[i] + 1), -i))] += 1
    return counts


def _no_room(nodes: Sequence[PlannedNode], workers: int, width: int) -> ConfigError:
    free = sum(node.free for node in nodes)
    largest = max(node.largest for node in nodes)
    asked = f"{workers} workers of {width}" if workers > 1 else f"a worker of {width}"
    asked += " cores" if width > 1 else " core"
    asked += f" asked for, {workers * width} in all" if workers > 1 else " asked for"
    kept = sum(node.reserve for node in nodes)
    available = f"{free} available" + (
        f" ({kept} more are kept free for frontends)" if kept else ""
    )
    if width > largest:
        hint = f"a worker stays inside one NUMA node and kind of core, which gives it {largest}"
    elif workers * width > free:
        hint = "ask for fewer, or let workers share CPUs with --oversubscribe"
    else:
        hint = (
            "too few of them lie together on a NUMA node; ask for fewer, or let workers share CPUs "
            "with --oversubscribe"
        )
    return ConfigError(f"no room in the CPU budget: {asked}, {available}; {hint}")


def _divide_shared(
    nodes: Sequence[PlannedNode], workers: int, width: int | Literal["node"] | None
) -> list[PlannedNode]:
    """Workers that share CPUs, round-robin over windows of cores of one kind.

    Raises:
        ConfigError: no node has that many cores of one kind for a single worker.
    """
    windows: list[Sequence[tuple[Core, ...]]] = []
    reserved: list[tuple[Core, ...]] = []
    for node in nodes:
        if width == "node":
            division = divide_whole(node.cores, node.reserve)
            windows.append(division.workers)
        else:
            ones = divide(node.cores, reserve=node.reserve, narrow=1, wide=1)
            assert ones is not None, "a node has more cores than it keeps free"
            division = ones
            windows.append(_windows([core for (core,) in ones.workers], width or 1))
        reserved.append(division.reserved)
    if not any(windows):
        assert isinstance(width, int), "one core, or all of a kind, is always there"
        raise _no_room(nodes, workers, width)
    rooms = [
        node.free * workers if found else 0 for node, found in zip(nodes, windows, strict=True)
    ]
    counts = _spread(rooms, workers)
    assert counts is not None, "sharing has room for all"
    return [
        dataclasses.replace(
            node,
            reserved=kept,
            workers=tuple(found[i % len(found)] for i in range(number)),
        )
        for node, kept, found, number in zip(nodes, reserved, windows, counts, strict=True)
    ]


def _windows(cores: Sequence[Core], width: int) -> list[tuple[Core, ...]]:
    """Neighbours of one kind, ``width`` at a time; what is left over is in none."""
    windows: list[tuple[Core, ...]] = []
    for kind in sorted({core.kind for core in cores}):
        alike = [core for core in cores if core.kind == kind]
        ends = range(width, len(alike) + 1, width)
        windows.extend(tuple(alike[end - width : end]) for end in ends)
    return windows
