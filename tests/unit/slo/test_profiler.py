"""Workers are measured in turns: what a machine's pace does meets all of them alike."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace

import pytest
from support.surveyed import FAST, MODEL, OTHER, SLOW, SYSTEM

from corral.models import registry
from corral.planning.plan import PlannedWorker
from corral.settings import Allocator, Settings
from corral.slo import profiler as module
from corral.slo.crew import Crew
from corral.slo.profiler import Profiler
from corral.slo.space import Memory
from corral.tensors import Datatype
from corral.tuning import trial_worker
from corral.tuning.trial_worker import TrialOrder

#: of an item on one core
_ITEM_S = 0.004
#: what a batch takes besides
_BATCH_S = 0.002
_BYTES = 100_000_000


class Machine:
    """A clock; now and then all takes twice as long for a second and a half."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.up: list[Worker] = []
        self.rested_s: list[float] = []
        self.is_steady = False

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.rested_s.append(seconds)
        self.now_s += seconds

    @property
    def pace(self) -> float:
        return 2.0 if int(self.now_s / 1.5) % 2 and not self.is_steady else 1.0

    @contextlib.contextmanager
    def start_all(
        self, orders: Sequence[TrialOrder], _: Mapping[str, str]
    ) -> Iterator[list[Worker]]:
        started = [Worker(self, order) for order in orders]
        self.up += started
        try:
            yield started
        finally:
            for worker in started:
                worker.end()
                self.up.remove(worker)


class Worker:
    """Done at once, but for the machine's clock; its descriptor is always readable."""

    start_s = 1.0
    report = SimpleNamespace(memory_bytes=_BYTES)

    def __init__(self, machine: Machine, order: TrialOrder) -> None:
        self._machine = machine
        self._cores = len(order.cpus)
        self._slower = 1.0 if order.settings.placement.huge_pages == SYSTEM.huge_pages else 1.25
        self.sizes = list(order.sizes)
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b".")
        self._count = 0

    def fileno(self) -> int:
        return self._reading

    def fill(self, *_: object) -> None:
        pass

    def submit(self, _: Datatype, count: int) -> None:
        self._count = count

    def collect(self) -> float:
        spent_s = (_BATCH_S + self._count * _ITEM_S / self._cores) * self._slower
        spent_s *= self._machine.pace
        self._machine.now_s += spent_s
        return spent_s

    def run(self, datatype: Datatype, count: int) -> float:
        self.submit(datatype, count)
        return self.collect()

    def end(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(trial_worker, "start_all", made.start_all)
    monkeypatch.setattr(module, "time", made)
    return made


def _crew(workers: int, cores: int, memory: Memory = SYSTEM) -> Crew:
    planned = [
        PlannedWorker(
            id=i,
            cpus=list(range(i * cores, (i + 1) * cores)),
            cores=cores,
            memory_node=None,
            env={},
        )
        for i in range(workers)
    ]
    return Crew(arithmetic=FAST, memory=memory, model=MODEL, workers=planned)


def _profiler(bound_s: float = 10.0) -> Profiler:
    settings = Settings().replace(backend="null")
    spec = registry.get("resnet50")
    return Profiler(settings=settings, spec=spec, environ={}, bound_s=bound_s, sizes=(1, 2, 4))


def test_widths_and_sizes_are_compared_whatever_the_machines_pace(machine: Machine) -> None:
    wide, narrow = _profiler().measure([_crew(1, 2), _crew(2, 1)])
    for times, cores in ((wide, 2), (narrow, 1)):
        assert list(times.busy_s) == [1, 2, 4]
        one_s = statistics.fmean(times.busy_s[1])
        for size, spent_s in times.busy_s.items():
            expected = (_BATCH_S + size * _ITEM_S / cores) / (_BATCH_S + _ITEM_S / cores)
            assert statistics.fmean(spent_s) / one_s == pytest.approx(expected, rel=0.12)
        assert times.interference == pytest.approx(1, rel=0.12)
    ratio = statistics.fmean(narrow.busy_s[4]) / statistics.fmean(wide.busy_s[4])
    assert ratio == pytest.approx(0.018 / 0.010, rel=0.12)
    assert not machine.up


def test_kinds_of_memory_are_compared_whatever_the_machines_pace(machine: Machine) -> None:
    same, slower = _profiler().compare([_crew(2, 1), _crew(2, 1, OTHER)], 1)
    assert same == 1
    assert slower == pytest.approx(1.25, rel=0.01)
    assert not machine.up


def test_sizes_end_with_the_first_that_takes_longer_than_the_bound(machine: Machine) -> None:
    machine.is_steady = True
    wide, narrow = _profiler(0.009).measure([_crew(1, 2), _crew(2, 1)])
    assert list(wide.busy_s) == [1, 2, 4]
    assert list(narrow.busy_s) == [1, 2]
    fast, slow = _profiler(0.005).measure([_crew(1, 2), _crew(2, 1)])
    assert list(fast.busy_s) == [1, 2]
    assert slow.busy_s == {}
    assert min(slow.alone_s) == pytest.approx(_BATCH_S + _ITEM_S)


def test_a_crew_joins_only_where_it_may(machine: Machine) -> None:
    """Those that may not are not started: they are measured after the others."""
    asked: list[tuple[int, int]] = []

    def joins(count: int, wanted_bytes: int) -> bool:
        asked.append((count, wanted_bytes))
        return count < 2

    found = _profiler().measure([_crew(1, 4), _crew(2, 2), _crew(4, 1)], joins)
    assert len(found) == 2
    assert asked == [(1, 2 * _BYTES), (2, 6 * _BYTES)]
    assert not machine.up


def test_threads_that_spin_on_do_not_take_the_next_crews_cpus(machine: Machine) -> None:
    spinning = Memory(allocator=Allocator.SYSTEM, huge_pages=True, openmp_spin_ms=200)
    machine.is_steady = True
    _profiler().compare([_crew(1, 2, spinning), _crew(1, 2)], 1)
    assert not machine.rested_s
    crews = [
        dataclasses.replace(_crew(1, 2, memory), arithmetic=SLOW) for memory in (spinning, SYSTEM)
    ]
    _profiler().compare(crews, 1)
    assert machine.rested_s[:2] == [0.2, 0.001]
    assert set(machine.rested_s) == {0.2, 0.001}
