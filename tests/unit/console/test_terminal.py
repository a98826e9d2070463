"""The console in a terminal, wide and narrow."""

import io

import pytest
from rich.console import Console
from support.status_cases import MACHINE, Numbers, status, worker

from corral.accuracy import AccuracyReport
from corral.console import terminal
from corral.console.frame import Frame, between
from corral.ipc.status import Cause, ServerStatus


def frame() -> Frame:
    numbers = Numbers()
    before = numbers.sample(0.0)
    numbers.answer(200, 4)
    numbers.run(100, 1, 1.0)
    numbers.run(25, 4, 1.8, cell=1)
    numbers.add("view/tensor/failure_refused", 4)
    return between(before, numbers.sample(2.0), unix_s=1_065.0)


def text(server: ServerStatus | None = None, *, width: int = 120, note: str = "") -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    shown = terminal.render(server or status(), frame(), None, MACHINE, width=width, note=note)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_shows_what_the_page_shows() -> None:
    shown = text()
    assert "resnet50" in shown
    assert "OpenVINO 2026.4" in shown
    assert "up 1 min 5 s" in shown
    for part in ("answered 100/s", "p50 / p90 / p99 7.50 / 9.50 / 9.95 ms", "refused 2.00/s"):
        assert part in shown
    assert "batch sizes  1: 80%  4: 20%" in shown
    first = next(line for line in shown.splitlines() if line.startswith("worker 0"))
    assert "██████░░░░░░  50%" in first
    assert "20.0 ms" in first


def test_a_cpu_is_as_high_as_its_worker_is_busy_and_a_frontend_is_marked() -> None:
    lines = text().splitlines()
    (first,) = [line for line in lines if line.startswith("package 0")]
    # Worker 0 has CPU 0 and is half busy, worker 1 has CPU 2 and nearly all of it.
    assert first == "package 0 node 0  [▅·█·]"
    (second,) = [line for line in lines if line.startswith("package 1")]
    assert second == "package 1 node 1  [·f··]"


@pytest.mark.parametrize("width", [40, 60, 80, 95, 96, 200])
def test_it_fits(width: int) -> None:
    assert all(len(line) <= width for line in text(width=width).splitlines())


def test_a_narrow_terminal_has_every_worker_and_fewer_columns() -> None:
    shown = text(width=60)
    assert "worker 1" in shown
    assert "restarts" not in shown


def test_what_is_amiss_is_told() -> None:
    restarts = dict.fromkeys(Cause, 0) | {Cause.HANG: 1}
    guard = AccuracyReport(candidate="int8", fidelity=None, faults=["no package"], fell_back=True)
    server = status(
        workers=[worker(0, restarts=restarts)],
        warnings=["no tcmalloc"],
        synthetic=True,
        guard=guard,
        ready=False,
    )
    shown = text(server, note="since 12:00:00: it does not answer")
    for part in ("not ready", "1 hang", "no tcmalloc", "synthetic", "FP32 serves in its place"):
        assert part in shown
    assert "since 12:00:00: it does not answer" in shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_numbers_have_few_digits(value: float, shown: str) -> None:
    assert terminal.number(value) == shown
