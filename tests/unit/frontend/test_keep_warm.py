"""What a frontend asks itself, and what it does where that cannot be asked."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any, cast

import pytest

from corral.batching.cost_model import CostModel
from corral.frontend.grpc_asgi.status import Code
from corral.frontend.inner_front import InnerFront
from corral.frontend.inner_message import MOST_BYTES, InnerCallFailed
from corral.frontend.keep_warm import KeepWarm
from corral.settings import KeepWarm as Asked
from corral.settings import Settings
from corral.tensors import Datatype, Signature

_SMALL = Signature(input_shapes={Datatype.FP32: (3, 8, 8)}, output_shape=(10,))
_LARGE = Signature(input_shapes={Datatype.FP32: (MOST_BYTES,)}, output_shape=(10,))


@dataclasses.dataclass
class _Link:
    datatype: Datatype = Datatype.FP32
    costs: CostModel = dataclasses.field(default_factory=lambda: CostModel([1], {"FP32:1": 0.0001}))


@dataclasses.dataclass
class _Dispatcher:
    idle_worker: _Link | None = dataclasses.field(default_factory=_Link)
    workers: int = 1
    unasked: int = 0

    def run_unasked(self) -> bool:
        self.unasked += 1
        return True


@dataclasses.dataclass
class _Service:
    count: int = 0
    accepted: int = 0
    max_body_bytes: int = 10**6


@dataclasses.dataclass
class _Front:
    error: Exception | None = None
    calls: int = 0

    async def call(self, _message: bytes, _patience_s: float) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


class _Rig:
    def __init__(self, signature: Signature = _SMALL, error: Exception | None = None) -> None:
        self.service, self.dispatcher, self.front = _Service(), _Dispatcher(), _Front(error)
        self.settings = Settings().replace(keep_warm=Asked.ON, keep_warm_every_s=0.0)
        self.keep_warm = KeepWarm(
            self.settings,
            cast("Any", self.service),
            cast("Any", self.dispatcher),
            signature=signature,
            model="pets",
            make_front=lambda: cast("InnerFront", self.front),
        )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def _some_looks() -> None:
    # At the shortest pause there is a look every 40 ms.
    await asyncio.sleep(0.2)


async def test_it_asks_its_front_in_a_silence() -> None:
    rig = _Rig()
    rig.keep_warm.start()
    await _until(lambda: rig.front.calls >= 3)
    rig.keep_warm.stop()
    calls = rig.front.calls
    await _some_looks()
    assert rig.front.calls == calls
    assert rig.dispatcher.unasked == 0


async def test_it_asks_nothing_while_clients_do() -> None:
    rig = _Rig()
    rig.service.accepted = 1
    rig.keep_warm.start()
    await _some_looks()
    assert rig.keep_warm.clients_ask()
    assert rig.front.calls == 0
    rig.service.accepted = 0
    await _until(lambda: rig.front.calls >= 1)
    rig.keep_warm.stop()


async def test_it_asks_nothing_while_a_worker_is_at_work() -> None:
    rig = _Rig()
    rig.dispatcher.idle_worker = None
    rig.keep_warm.start()
    await _some_looks()
    assert rig.front.calls == rig.dispatcher.unasked == 0
    rig.keep_warm.stop()


async def test_where_nobody_wants_it_nothing_begins() -> None:
    rig = _Rig()
    rig.keep_warm.follow(Settings())
    rig.keep_warm.start()
    await _some_looks()
    assert rig.front.calls == 0
    rig.keep_warm.follow(rig.settings)
    await _until(lambda: rig.front.calls >= 1)
    rig.keep_warm.stop()


@pytest.mark.parametrize("error", [None, OSError("no socket to be had")])
async def test_a_worker_alone_is_kept_warm_where_the_front_cannot_be(
    error: Exception | None,
) -> None:
    """It is not reached, or the message would be too large."""
    rig = _Rig(_SMALL if error else _LARGE, error)
    rig.keep_warm.start()
    await _until(lambda: rig.dispatcher.unasked >= 2)
    assert rig.front.calls == (rig.dispatcher.unasked if error else 0)
    rig.keep_warm.stop()


async def test_a_model_that_takes_no_zeros_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    rig = _Rig(error=InnerCallFailed(Code.INTERNAL))
    rig.keep_warm.start()
    await _until(lambda: rig.dispatcher.unasked >= 5)
    rig.keep_warm.stop()
    assert rig.front.calls == 3
    (line,) = caplog.messages
    assert "answered with INTERNAL: workers alone are kept warm" in line


async def test_a_call_that_gave_way_is_no_failure() -> None:
    rig = _Rig(error=InnerCallFailed(Code.UNAVAILABLE))
    rig.keep_warm.start()
    await _until(lambda: rig.front.calls >= 2)
    rig.keep_warm.stop()
    assert rig.dispatcher.unasked == 0


async def test_one_failure_is_no_verdict() -> None:
    """A worker may have died with it."""
    rig = _Rig(error=InnerCallFailed(Code.INTERNAL))
    rig.keep_warm.start()
    await _until(lambda: rig.front.calls == 1)
    rig.front.error = None
    await _until(lambda: rig.front.calls >= 4)
    rig.keep_warm.stop()
    assert rig.dispatcher.unasked == 1


async def test_a_front_that_cannot_be_made_does_not_end_it() -> None:
    rig = _Rig(error=RuntimeError("can't start new thread"))
    rig.keep_warm.start()
    await _until(lambda: rig.dispatcher.unasked >= 3)
    rig.keep_warm.stop()
    assert rig.front.calls == 1


async def test_a_message_that_clients_may_not_send_is_not_sent() -> None:
    rig = _Rig()
    rig.service.max_body_bytes = 100
    rig.keep_warm.start()
    await _until(lambda: rig.dispatcher.unasked >= 2)
    rig.keep_warm.stop()
    assert rig.front.calls == 0


async def test_what_has_ended_does_not_begin_by_other_settings() -> None:
    rig = _Rig()
    rig.keep_warm.end()
    rig.keep_warm.follow(rig.settings)
    await _some_looks()
    assert rig.front.calls == rig.dispatcher.unasked == 0
