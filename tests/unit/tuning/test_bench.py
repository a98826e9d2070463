"""The bench says what it is told that may not be meant."""

from __future__ import annotations

import logging

import pytest

from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.tuning.bench import make_bench

_PEN = PlannedWorker(id=0, cpus=[0], cores=1, memory_node=None, env={})


@pytest.mark.parametrize(("loss", "told"), [(0.01, False), (0.1, False), (0.5, True)])
def test_a_loss_that_may_be_meant_as_a_percentage_is_told(
    loss: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make_bench(Settings.flat(accuracy_loss=loss), _PEN, {}, lambda step, share: None)
    assert ("up to 50 % of FP32's accuracy passes" in caplog.text) is told
