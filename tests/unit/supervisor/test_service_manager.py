"""What a service manager is told; the process tier has the same with a real server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from corral.ipc.messages import Ping
from corral.supervisor import frontend_link, service_manager
from corral.supervisor.service_manager import ServiceManager, Watchdog
from corral.supervisor.slots import FrontendSlot


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(20)
        yield made


def test_more_time_is_asked_for_while_a_model_is_prepared(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_manager, "_EXTEND_EVERY_S", 0.01)
    service = ServiceManager({"NOTIFY_SOCKET": manager.getsockname()}, os.getpid())
    with service.preparing("resnet50"):
        assert manager.recv(4096) == b"STATUS=preparing resnet50"
        for _ in range(3):
            assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=30000000"
    service.failed("no such model:\nresnet51")
    manager.settimeout(0)
    said = []
    while True:
        try:
            said.append(manager.recv(4096))
        except BlockingIOError:
            break
    assert said[-1] == b"STATUS=no such model: resnet51"


def test_without_a_service_manager_nothing_is_said() -> None:
    service = ServiceManager({}, os.getpid())
    with service.preparing("resnet50"):
        pass
    service.failed("no")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Cells that were asked, with the number."""
    found: list[tuple[int, int]] = []

    def tell(slot: Any, message: Ping) -> None:
        found.append((slot.cell, message.number))

    monkeypatch.setattr(frontend_link, "tell", tell)
    return found


def _slots(count: int) -> list[Any]:
    return [
        SimpleNamespace(cell=cell, answered=0, process=SimpleNamespace(pid=100 + cell))
        for cell in range(count)
    ]


def _watchdog(slots: list[Any]) -> Watchdog:
    return Watchdog(cast("list[FrontendSlot]", slots))


def test_alive_while_all_answer(asked: list[tuple[int, int]]) -> None:
    slots = _slots(2)
    watchdog = _watchdog(slots)
    assert watchdog.alive()
    for number in (1, 2, 3):
        assert asked[-2:] == [(0, number), (1, number)]
        for slot in slots:
            slot.answered = number
        assert watchdog.alive()


def test_one_that_does_not_answer_ends_the_signs_of_life(asked: list[tuple[int, int]]) -> None:
    slots = _slots(2)
    watchdog = _watchdog(slots)
    watchdog.alive()
    slots[0].answered = 1
    assert not watchdog.alive()
    assert not watchdog.alive()
    # It has the question; more of them would only fill its socket.
    assert asked == [(0, 1), (1, 1)]
    slots[1].answered = 1
    assert watchdog.alive()


def test_another_process_in_the_slot_is_asked_again(asked: list[tuple[int, int]]) -> None:
    slots = _slots(1)
    watchdog = _watchdog(slots)
    watchdog.alive()
    slots[0].process = None
    assert not watchdog.alive()
    slots[0].process = SimpleNamespace(pid=200)
    assert not watchdog.alive()
    assert asked[-1] == (0, 1)
    slots[0].answered = 1
    assert watchdog.alive()
