"""Requests over HTTP/1.1 whose clients have gone, by a kernel's table that tests write."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from corral.frontend.rest import departures
from corral.frontend.rest.departures import Connection, Departures
from corral.system.procfs import kernel_address, open_connections

HERE = kernel_address("127.0.0.1", 40_000)
SCOPE: dict[str, Any] = {
    "http_version": "1.1",
    "client": ("127.0.0.1", 40_000),
    "server": ("127.0.0.1", 8000),
}


class Kernel:
    """Says which connections are there, and counts how often it is asked."""

    def __init__(self) -> None:
        self.there: set[Connection] | None = {(8000, HERE)}
        self.asked: list[set[int]] = []

    def __call__(self, ports: Collection[int]) -> set[Connection] | None:
        self.asked.append(set(ports))
        return self.there


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "_LOOK_S", 0.01)


async def wait(watch: Departures, scope: dict[str, Any], end: asyncio.Event) -> str:
    try:
        with watch.watching(scope):
            await end.wait()
    except asyncio.CancelledError:
        if watch.left():
            return "left"
        raise
    return "answered"


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_who_has_gone_is_cancelled_and_nobody_else() -> None:
    kernel, end = Kernel(), asyncio.Event()
    kernel.there = {(8000, HERE), (8000, kernel_address("127.0.0.1", 40_001))}
    watch = Departures(kernel)
    gone = asyncio.create_task(wait(watch, SCOPE, end))
    other = asyncio.create_task(wait(watch, {**SCOPE, "client": ("127.0.0.1", 40_001)}, end))
    await until(lambda: len(kernel.asked) > 2)
    kernel.there.discard((8000, HERE))
    assert await gone == "left"
    assert not other.done()
    end.set()
    assert await other == "answered"
    assert gone.cancelling() == 0


async def test_nobody_looks_while_nobody_waits() -> None:
    kernel, end = Kernel(), asyncio.Event()
    watch = Departures(kernel)
    end.set()
    for _ in range(50):
        assert await wait(watch, SCOPE, end) == "answered"
    await asyncio.sleep(0.1)
    assert not kernel.asked


async def test_one_look_that_misses_a_connection_is_no_proof() -> None:
    kernel, end = Kernel(), asyncio.Event()
    watch = Departures(kernel)
    task = asyncio.create_task(wait(watch, SCOPE, end))
    for _ in range(3):
        looked = len(kernel.asked)
        kernel.there = set()
        await until(lambda looked=looked: len(kernel.asked) > looked)
        kernel.there = {(8000, HERE)}
        looked = len(kernel.asked)
        await until(lambda looked=looked: len(kernel.asked) > looked)
    assert not task.done()
    kernel.there = None
    looked = len(kernel.asked)
    await until(lambda: len(kernel.asked) > looked + 3)
    assert not task.done()
    end.set()
    assert await task == "answered"


@pytest.mark.parametrize(
    "change",
    [
        {"http_version": "2"},
        {"client": None},
        {"server": ("/run/socket", None)},
        {"client": ("testclient", 1)},
    ],
)
async def test_what_cannot_be_watched(change: dict[str, Any]) -> None:
    kernel, end = Kernel(), asyncio.Event()
    kernel.there = set()
    watch = Departures(kernel)
    task = asyncio.create_task(wait(watch, {**SCOPE, **change}, end))
    await asyncio.sleep(0.1)
    assert not kernel.asked
    end.set()
    assert await task == "answered"


async def test_another_cancellation_passes() -> None:
    watch = Departures(Kernel())
    task = asyncio.create_task(wait(watch, SCOPE, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_kernels_table(tmp_path: Path) -> None:
    assert open_connections({80}, tmp_path) is None
    folder = tmp_path / "proc/net"
    folder.mkdir(parents=True)
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
    rest = "00000000:00000000 00:00000000 00000000     0        0 1 1 0 10 0 0 10 0\n"
    (folder / "tcp").write_text(
        head
        + f"   0: 0100007F:1F40 00000000:0000 0A {rest}"
        + f"   1: 0100007F:1F40 0100007F:9C40 01 {rest}"
        + f"   2: 0100007F:1F40 0100007F:9C41 08 {rest}"
        + f"   3: 0100007F:1F41 0100007F:9C42 01 {rest}"
    )
    assert open_connections({8000}, tmp_path) == {(8000, kernel_address("127.0.0.1", 40_000))}
    (folder / "tcp6").write_text(
        head + f"   0: {'0' * 32}:1F40 00000000000000000000000001000000:9C40 01 {rest}"
    )
    assert (8000, kernel_address("::1", 40_000)) in (open_connections({8000}, tmp_path) or ())
