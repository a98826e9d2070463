"""One measures at a time, and what others took meanwhile is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.system.other_load import Measured, OtherLoad, kept, watched
from corral.tuning import turns
from corral.tuning.turns import my_turn

_HOLDS = """
import sys
from corral.tuning.turns import my_turn
with my_turn(print, name=sys.argv[1]):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def name() -> str:
    """Of a turn that nobody else takes."""
    return f"\0corral-test-{os.getpid()}-{threading.get_ident()}"


@pytest.fixture
def holder(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that measures."""
    monkeypatch.setattr(turns, "_LOOK_S", 0.01)
    code = _HOLDS.replace("sys.argv[1]", repr(name))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def test_nobody_is_waited_for_where_nobody_measures(name: str) -> None:
    for _ in range(2):
        with my_turn(pytest.fail, name=name) as waited:
            assert not waited


def test_who_comes_second_waits_and_says_for_whom(name: str, holder: subprocess.Popen[str]) -> None:
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        assert holder.stdin
        holder.stdin.close()

    with my_turn(progress, name=name) as waited:
        assert waited
        assert holder.wait(10) == 0
    assert set(said) == {f"waiting for process {holder.pid} to have measured"}


def test_a_dead_holder_blocks_nobody(name: str, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    with my_turn(pytest.fail, name=name) as waited:
        assert not waited


def test_a_stopped_holder_is_not_waited_for_without_end(
    name: str, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    holder.send_signal(signal.SIGSTOP)
    with my_turn(lambda _: None, name=name, patience_s=0.05) as waited:
        assert waited
    assert "going on" in caplog.text


def _stat(root: Path, *cpus: tuple[int, int, int, int]) -> None:
    """CPUs by their ticks: user, system, idle, steal."""
    lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
    lines += [f"cpu{n} {u} 0 {s} {i} 7 0 0 {st} 99 0" for n, (u, s, i, st) in enumerate(cpus)]
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("user", "steal", "share"), [(0, 0, 0.0), (100, 0, 0.5), (0, 50, 0.25), (300, 0, 1.0)]
)
def test_what_others_take_of_our_cpus(
    tmp_path: Path, user: int, steal: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds on one of two CPUs; a hypervisor's steal is others', too."""
    monkeypatch.setattr("corral.system.other_load._own_seconds", lambda _: 0.0)
    ticks = os.sysconf("SC_CLK_TCK") // 100
    _stat(tmp_path, (5, 5, 5, 5), (0, 0, 0, 0))
    load, clock = OtherLoad(), iter((10.0, 12.0))
    with watched([0], load, now_s=lambda: next(clock), root=tmp_path):
        _stat(tmp_path, (5 + user * ticks, 5, 500, 5 + steal * ticks), (900, 0, 0, 0))
    assert load.share == pytest.approx(share)


def test_what_we_compute_ourselves_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, own = iter((100.0, 104.0)), iter((1.0, 4.0))
    monkeypatch.setattr("corral.system.other_load._own_seconds", lambda _: next(own))
    monkeypatch.setattr("corral.system.procfs.busy_seconds", lambda *_: next(busy))
    load, clock = OtherLoad(), iter((0.0, 2.0))
    with watched([0, 1], load, now_s=lambda: next(clock)):
        pass
    assert load.share == 0.25


def test_what_named_processes_compute_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running server that is looked at; one of its processes ends meanwhile."""
    spent = {os.getpid(): iter((0.0, 0.5)), 7: iter((10.0, 12.5))}

    def seconds(pid: int) -> float:
        if pid not in spent:
            raise ProcessLookupError
        return next(spent[pid])

    busy, clock = iter((100.0, 104.0)), iter((0.0, 2.0))
    monkeypatch.setattr("corral.system.procfs.tree_cpu_seconds", seconds)
    monkeypatch.setattr("corral.system.procfs.busy_seconds", lambda *_: next(busy))
    load = OtherLoad()
    with watched([0, 1], load, beside=[7, 8], now_s=lambda: next(clock)):
        pass
    assert load.share == 0.25


def test_where_the_kernel_tells_nothing_nothing_is_suspected(tmp_path: Path) -> None:
    load = OtherLoad()
    with watched([0], load, root=tmp_path):
        pass
    assert load.share == 0.0


@pytest.mark.parametrize(
    ("before", "load", "tries"),
    [
        (None, 0.5, 1),
        (Measured(other_load=0.1), 0.5, 1),
        (Measured(other_load=0.9), 0.5, 2),
        (Measured(other_load=0.4, tries=2), 0.4, 3),
        (Measured(other_load=0.4, tries=3), 0.5, 1),
    ],
)
def test_the_quieter_is_kept_of_what_was_in_doubt(
    before: Measured | None, load: float, tries: int
) -> None:
    assert kept(Measured(other_load=0.5), before) == Measured(other_load=load, tries=tries)
