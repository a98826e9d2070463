"""What the admin socket is told of changes that failed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from corral.errors import ModelError
from corral.ipc.status import Phase
from corral.supervisor.admin import Request
from corral.supervisor.commands import Commands


class _Status(msgspec.Struct):
    phase: Phase = Phase.SERVING
    warnings: list[str] = msgspec.field(default_factory=lambda: ["planned narrow"])


class _Board:
    def current(self) -> _Status:
        return _Status()

    def changing(self, _: str | None) -> None:
        pass


async def _fails() -> str:
    raise ModelError("--model net.onnx: not an ONNX file")


async def _succeeds() -> str:
    return "1 worker replaced"


def test_a_change_that_failed_is_in_the_status_until_one_succeeds() -> None:
    async def run() -> list[list[str]]:
        nothing: Any = None
        commands = Commands(nothing, cast("Any", _Board()), nothing, nothing)
        seen = []
        for act, what in ((_fails, "SIGHUP: reload"), (_succeeds, "reload")):
            await commands.start(act, what)
            reply = await commands.handle(Request(command="status"))
            assert reply.status is not None
            seen.append(reply.status.warnings)
        return seen

    said = "SIGHUP: reload: --model net.onnx: not an ONNX file"
    assert asyncio.run(run()) == [["planned narrow", said], ["planned narrow"]]
