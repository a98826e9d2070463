"""Those who are asking a server while somebody attacks it: what their answers take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import grpc
import numpy as np

from support import programs
from support.counted_load import INFER, complaint, infer_message

#: the machine's own pauses are in one round or in another, what an attack costs is in each
_ROUNDS = 3
#: how long the server may need for what comes all at once, and an answer at most
_SETTLE_S = 0.5
_MOST_S = 5.0


@contextlib.contextmanager
def attack(port: int, name: str) -> Iterator[None]:
    """A program attacks the server meanwhile; see ``hostile_h2``."""
    with programs.start("support.hostile_h2", str(port), name) as attacker:
        assert attacker.stdout
        assert attacker.stdin
        assert attacker.stdout.readline() == b"begun\n"
        yield
        attacker.stdin.close()
    assert attacker.returncode == 0


class Bystanders:
    """One client of a null backend, whose answers are checked.

    Args:
        channel: to the server.
        requests: how many make a measurement.
    """

    def __init__(self, channel: grpc.Channel, requests: int = 60) -> None:
        self._call = channel.unary_unary(INFER)
        self._requests = requests
        self._number = 0

    def settle(self) -> None:
        """Asks until what a burst left behind has been gone through; nobody is lost meanwhile."""
        end_s = time.monotonic() + _SETTLE_S
        while time.monotonic() < end_s:
            self._ask()

    def p99_s(self) -> float:
        """The 99th percentile of requests one after another; raises RpcError where one is lost."""
        return float(np.quantile([self._ask() for _ in range(self._requests)], 0.99))

    def _ask(self) -> float:
        self._number += 1
        last = self._number % 200
        began_s = time.monotonic()
        answer = self._call(infer_message("it", 1, last), timeout=_MOST_S)
        assert not complaint(answer, "it", 1, last)
        return time.monotonic() - began_s


def harm(channel: grpc.Channel, port: int, name: str) -> list[tuple[float, float]]:
    """What an attack costs the others.

    Args:
        channel: of the others.
        port: that is attacked.
        name: of the attack.

    Returns:
        the others' p99 in seconds before and during it, round after round, up to one in which the
        second is at most 1.5 times the first.
    """
    others = Bystanders(channel)
    found: list[tuple[float, float]] = []
    while len(found) < _ROUNDS and not (found and found[-1][1] <= 1.5 * found[-1][0]):
        usual_s = others.p99_s()
        with attack(port, name):
            others.settle()
            among_s = others.p99_s()
        found.append((usual_s, among_s))
    return found
