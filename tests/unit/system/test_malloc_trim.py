"""When the frontend's heap is trimmed."""

from __future__ import annotations

import pytest

from corral.system.malloc_trim import MallocTrimmer

MIB = 2**20


class Process:
    """A process with so many requests behind it and so much memory."""

    def __init__(self) -> None:
        self.requests = 0
        self.resident_bytes = 50 * MIB
        self.trims = 0

    def trim(self) -> None:
        self.trims += 1
        self.resident_bytes = 50 * MIB


@pytest.fixture(name="process")
def quiet_process() -> Process:
    return Process()


@pytest.fixture(name="keeper")
def keeper_of(process: Process) -> MallocTrimmer:
    return MallocTrimmer(lambda: process.requests, lambda: process.resident_bytes, process.trim)


def looks(process: Process, keeper: MallocTrimmer, requests: int, times: int = 1) -> list[int]:
    found = []
    for _ in range(times):
        process.requests += requests
        keeper.look()
        found.append(process.trims)
    return found


def test_an_idle_process_is_left_alone(process: Process, keeper: MallocTrimmer) -> None:
    assert looks(process, keeper, 0, 10) == [0] * 10


def test_it_is_trimmed_once_when_nobody_comes_any_more(
    process: Process, keeper: MallocTrimmer
) -> None:
    assert looks(process, keeper, 100, 3) == [0, 0, 0]
    assert looks(process, keeper, 0, 3) == [1, 1, 1]
    assert looks(process, keeper, 1) == [1]
    assert looks(process, keeper, 0, 2) == [2, 2]


def test_who_is_kept_warm_keeps_the_buffers_of_the_next_request(process: Process) -> None:
    warm = True
    keeper = MallocTrimmer(
        lambda: process.requests, lambda: process.resident_bytes, process.trim, keeps=lambda: warm
    )
    process.resident_bytes += 30 * MIB
    assert looks(process, keeper, 100, 3) == [0] * 3
    assert looks(process, keeper, 0, 5) == [0] * 5
    process.resident_bytes += 30 * MIB
    assert looks(process, keeper, 0, 3) == [1] * 3
    looks(process, keeper, 100)
    warm = False
    assert looks(process, keeper, 0, 3) == [2] * 3


def test_under_load_it_is_trimmed_only_when_much_is_kept(
    process: Process, keeper: MallocTrimmer
) -> None:
    process.resident_bytes += 30 * MIB
    assert looks(process, keeper, 100, 20) == [0] * 20
    process.resident_bytes += 30 * MIB
    assert looks(process, keeper, 100, 8) == [1] * 8


def test_not_at_every_look(process: Process) -> None:
    trims: list[int] = []
    keeper = MallocTrimmer(
        lambda: process.requests, lambda: process.resident_bytes, lambda: trims.append(1)
    )
    process.resident_bytes += 100 * MIB
    looks(process, keeper, 100, 8)
    assert len(trims) == 2


def test_the_c_librarys_own_trim_can_be_called() -> None:
    requests = 0
    keeper = MallocTrimmer(lambda: requests, lambda: 0)
    requests = 1
    keeper.look()
    keeper.look()
