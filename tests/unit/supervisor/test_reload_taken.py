"""New settings are said to hold once every frontend that lives goes by them."""

from __future__ import annotations

import asyncio
import types
from typing import Any

import pytest

from corral.ipc.messages import ModelBoot, Reconfigure, Reconfigured
from corral.planning.plan import PlannedCell
from corral.settings import Settings
from corral.supervisor import frontend_link, reload
from corral.supervisor.lifecycle import Backoff, Life
from corral.supervisor.reload import Reloader
from corral.supervisor.slots import FrontendSlot


def _frontends(count: int) -> list[FrontendSlot]:
    found = []
    for cell in range(count):
        planned = PlannedCell(node=0, frontend_cpus=[0], workers=[])
        slot = FrontendSlot(Life(Backoff(0.1, 1.0)), cell, planned)
        slot.process = types.SimpleNamespace(pid=cell)  # type: ignore[assignment]
        found.append(slot)
    return found


def _deployment(frontends: list[FrontendSlot]) -> Any:
    return types.SimpleNamespace(
        plan=types.SimpleNamespace(cells=[slot.planned for slot in frontends]),
        settings=Settings.flat(),
        model=ModelBoot(name="m", artefact=None, precision="fp32", synthetic=True, weights=""),
        factory=types.SimpleNamespace(region_batch=8),
    )


def _reloader(frontends: list[FrontendSlot]) -> Reloader:
    fleet: Any = types.SimpleNamespace(frontends=frontends)
    nothing: Any = None
    return Reloader(fleet, nothing, nothing, lambda _: None)


async def _begin(
    monkeypatch: pytest.MonkeyPatch, frontends: list[FrontendSlot]
) -> tuple[Reloader, asyncio.Task[None], list[Reconfigure]]:
    told: list[Reconfigure] = []
    monkeypatch.setattr(frontend_link, "tell", lambda _, message: told.append(message))
    reloader = _reloader(frontends)
    task = asyncio.create_task(reloader._reconfigure(_deployment(frontends)))
    while len(told) < len(frontends):
        await asyncio.sleep(0)
    return reloader, task, told


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_every_frontend_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        one, other = frontends = _frontends(2)
        reloader, task, told = await _begin(monkeypatch, frontends)
        for slot, number in ((one, told[0].number), (other, told[1].number - 1)):
            slot.heard(Reconfigured(number=number))
            reloader.news()
            await _turns()
            assert not task.done()
        other.heard(Reconfigured(number=told[1].number))
        reloader.news()
        await task

    asyncio.run(run())


def test_one_that_died_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        frontends = _frontends(1)
        reloader, task, _ = await _begin(monkeypatch, frontends)
        frontends[0].process = None
        reloader.news()
        await task

    asyncio.run(run())


def test_one_that_hangs_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reload, "_TAKEN_S", 0.01)

    async def run() -> None:
        _, task, _ = await _begin(monkeypatch, _frontends(1))
        await task

    asyncio.run(run())
    assert "has not taken the new settings" in caplog.text
