"""The comparison's plan, and one visit to one subject."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral_loadtest.comparison import drive, senders
from corral_loadtest.comparison.drive import Load
from corral_loadtest.comparison.subjects import Subject, running
from corral_loadtest.servers import process_tree
from corral_loadtest.servers.processes import free_port

#: shares of the raw engine's rate at which the open loops run
SHARES = (0.5, 0.7)
IDLE, CAPACITY = "idle", "capacity"
_START_S = 120.0


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One subject in one round.

    Attributes:
        name: of the subject.
        round: from 0.
        start_s: from its start to its first right answer.
        memory_mib: PSS of its processes after the capacity run.
        loads: by name: "idle", "capacity", "50%" and "70%".
    """

    name: str
    round: int
    start_s: float
    memory_mib: float | None
    loads: dict[str, Load]


class RawVisit(msgspec.Struct, frozen=True, kw_only=True):
    """The raw engine in one round; figures that the tool does not tell are None."""

    name: str
    round: int
    per_s: float
    p50_ms: float
    p99_ms: float | None = None
    cpu_ms: float | None = None
    memory_mib: float | None = None
    start_s: float | None = None
    top1: int | None = None


class WrongAnswer(RuntimeError):
    """A server names another class than the raw engine."""


def share_name(share: float) -> str:
    """ "50%" for 0.5."""
    return f"{share:.0%}"


def order(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Every name once a round; each round begins further on, so that no place is anybody's.

    Odd rounds run backwards, so that no subject always follows the same one.
    """
    plan = []
    for number in range(rounds):
        first = number * len(names) // max(rounds, 1)
        turned = [*names[first:], *names[:first]]
        plan.append(turned[::-1] if number % 2 else turned)
    return plan


def item() -> NDArray[np.float32]:
    """The picture that every subject is sent, FP32 [3,224,224]; the raw engine makes the same."""
    drawn = np.random.default_rng(0).standard_normal((1, 3, 224, 224))[0]
    found: NDArray[np.float32] = drawn.astype("<f4")
    return found


def visit(
    subject: Subject,
    number: int,
    *,
    raw_per_s: float,
    top1: int,
    seconds: float,
    clients: int,
    logs: Path,
) -> Visit:
    """Starts a server alone, measures it and stops it.

    Args:
        subject: which.
        number: of the round.
        raw_per_s: the raw engine's rate in this round, which the open loops take shares of.
        top1: the class that it must name.
        seconds: of each measurement.
        clients: of the capacity run.
        logs: folder for its output.

    Raises:
        RuntimeError: it ended, was not ready in time, or answers something else.
    """
    port = free_port()
    begin_s = time.monotonic()
    with running(subject.command(port), logs / f"{subject.name}.log") as server:

        async def measure() -> Visit:
            sender = await _first_answer(subject, port, server, begin_s, top1)
            start_s = time.monotonic() - begin_s
            try:
                loads, memory_mib = await _loads(
                    sender, server.pid, raw_per_s, seconds=seconds, clients=clients, seed=number
                )
            finally:
                await sender.close()
            return Visit(
                name=subject.name,
                round=number,
                start_s=start_s,
                memory_mib=memory_mib,
                loads=loads,
            )

        return asyncio.run(measure())


async def _loads(
    sender: senders.Sender, pid: int, raw_per_s: float, *, seconds: float, clients: int, seed: int
) -> tuple[dict[str, Load], float | None]:
    def cpu_s() -> float:
        return process_tree.cpu_s(pid)

    loads = {
        IDLE: await drive.closed(sender, 1, seconds, cpu_s),
        CAPACITY: await drive.closed(sender, clients, seconds, cpu_s),
    }
    memory_mib = process_tree.memory_mib(pid)
    for share in SHARES:
        rate = raw_per_s * share
        loads[share_name(share)] = await drive.open_loop(sender, rate, seconds, seed, cpu_s)
    return loads, memory_mib


async def _first_answer(
    subject: Subject, port: int, server: subprocess.Popen[bytes], begin_s: float, top1: int
) -> senders.Sender:
    """A sender whose server has answered rightly."""
    status = "nothing answered"
    while time.monotonic() < begin_s + _START_S:
        if server.poll() is not None:
            raise RuntimeError(f"it ended with exit code {server.returncode} while starting")
        # Anew for every try: a gRPC channel that was refused waits longer and longer.
        sender: senders.Sender = senders.make(port, subject.peer, item())
        try:
            status, answer = await asyncio.wait_for(sender.send(), 10)
        except TimeoutError:
            status = "no answer within 10 s"
        if status == senders.OK:
            best = int(sender.logits(answer).argmax())
            if subject.computes and best != top1:
                await sender.close()
                raise WrongAnswer(f"it answers class {best}, the raw engine {top1}")
            return sender
        await sender.close()
        await asyncio.sleep(0.1)
    raise RuntimeError(f"it was not ready within {_START_S:g} s ({status})")


def raw(model: str, seconds: float, number: int) -> RawVisit:
    """The engine alone in a process, one picture after another.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "corral_loadtest.servers.raw_engine", model, str(seconds)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    found["per_s"] = found.pop("images_per_s")
    return msgspec.convert({"name": "raw", "round": number, **found}, RawVisit)
