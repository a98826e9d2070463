"""Workers of one core against a wider one: who is measured, when, and what is kept of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from corral.artifacts.figures import FigureCache
from corral.errors import ModelError
from corral.ipc.messages import ModelBoot
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Mode, Precision, Settings
from corral.tensors import Datatype
from corral.tuning import trial_worker, widths
from corral.tuning.candidates import Candidate, Search
from corral.tuning.select import Selected
from corral.tuning.trial_worker import TrialOrder

PEN = PlannedWorker(id=0, cpus=[4, 6], cores=2, memory_node=0, env={})
MODEL = ModelBoot(name="resnet50", artefact="a", precision="int8", synthetic=True, weights="w")
NAMED = Selected(backend=BackendName.OPENVINO, precision=Precision.INT8, model=MODEL)
WINNER = Candidate(backend=BackendName.OPENVINO, precision=Precision.INT8)
SEARCHED = msgspec.structs.replace(NAMED, search=Search(winner=WINNER, rows=[], took_s=1.0))


class Trial:
    """A worker whose batches are done at once, and took what its width makes of them."""

    def __init__(self, cores: int, one_core_s: float, sizes: Sequence[int]) -> None:
        self.sizes = list(sizes)
        self._item_s = one_core_s if cores == 1 else 0.010
        self._fd = os.eventfd(1)
        self._size = 0
        self.filled = False

    def fill(self, inputs: NDArray[np.generic], datatype: Datatype) -> None:
        self.filled = True

    def submit(self, datatype: Datatype, count: int) -> None:
        assert self.filled, "measured on zeros"
        assert not self._size, "two batches at once"
        self._size = count

    def collect(self) -> float:
        seconds, self._size = self._size * self._item_s, 0
        return seconds

    def fileno(self) -> int:
        return self._fd

    def end(self) -> None:
        os.close(self._fd)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[TrialOrder]:
    """What was started; a worker of one core takes 18 ms an image, one of two 10."""
    orders: list[TrialOrder] = []

    @contextlib.contextmanager
    def start(order: TrialOrder, environ: Mapping[str, str]) -> Iterator[Trial]:
        orders.append(order)
        trial = Trial(len(order.cpus), 0.018, order.sizes)
        try:
            yield trial
        finally:
            trial.end()

    monkeypatch.setattr(trial_worker, "start", start)
    monkeypatch.setattr(widths, "_TURN_S", 0.0)
    return orders


def learn(folder: Path, selected: Selected, *, again: bool = False, **fields: Any) -> float | None:
    settings = Settings.flat(**{"cache_dir": str(folder), "mode": Mode.THROUGHPUT, **fields})
    widths.learn_one_core(settings, PEN, selected, {}, "a CPU", again=again)
    return FigureCache(settings, "a CPU").load().one_core_gain


def test_a_worker_a_core_is_compared_with_one_on_all_of_them(
    tmp_path: Path, started: list[TrialOrder]
) -> None:
    gain = learn(tmp_path, SEARCHED)
    # Two that make 55.6 images/s each, beside one that makes 100.
    assert gain == pytest.approx(2 / 1.8 - 1)
    assert [list(order.cpus) for order in started] == [[4, 6], [4], [6]]
    assert {order.settings.engine.backend for order in started} == {BackendName.OPENVINO}


def test_it_is_measured_once_and_again_only_when_asked_to(
    tmp_path: Path, started: list[TrialOrder]
) -> None:
    learn(tmp_path, SEARCHED)
    learn(tmp_path, SEARCHED)
    assert len(started) == 3
    learn(tmp_path, SEARCHED, again=True)
    assert len(started) == 6


@pytest.mark.parametrize(
    "fields", [{"mode": Mode.RTI}, {"workers": 2}, {"cores_per_worker": 2}], ids=str
)
def test_nothing_is_measured_where_the_width_is_not_up_to_the_plan(
    tmp_path: Path, started: list[TrialOrder], fields: dict[str, Any]
) -> None:
    assert learn(tmp_path, SEARCHED, again=True, **fields) is None
    assert not started


def test_engines_that_were_named_are_measured_on_request(
    tmp_path: Path, started: list[TrialOrder]
) -> None:
    assert learn(tmp_path, NAMED) is None
    assert not started
    assert learn(tmp_path, NAMED, again=True) is not None


def test_a_failure_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextlib.contextmanager
    def start(order: TrialOrder, environ: Mapping[str, str]) -> Iterator[Trial]:
        raise ModelError("no memory")
        yield

    monkeypatch.setattr(trial_worker, "start", start)
    assert learn(tmp_path, SEARCHED) is None
    assert "no memory" in caplog.text
