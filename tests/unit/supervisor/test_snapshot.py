"""What the status says of the settings and of what workers reported."""

from __future__ import annotations

import pytest
from support.surveyed import MODEL

from corral.ipc.status import Phase, WarmStatus
from corral.settings import KeepWarm, Mode, Settings
from corral.supervisor import snapshot


class _Report:
    costs_s = {"FP32:1": 0.025, "UINT8:1": 0.02, "FP32:8": 0.2}  # noqa: RUF012


class _Slot:
    cell = 0
    report = _Report()


@pytest.mark.parametrize(
    ("asked", "mode", "warm"),
    [
        (KeepWarm.OFF, Mode.RTI, None),
        (KeepWarm.AUTO, Mode.RTI, WarmStatus(every_s=2.5, share=0.01)),
        (KeepWarm.AUTO, Mode.THROUGHPUT, None),
        (KeepWarm.ON, Mode.THROUGHPUT, WarmStatus(every_s=0.5, share=0.05)),
    ],
)
def test_what_warm_workers_cost(asked: KeepWarm, mode: Mode, warm: WarmStatus | None) -> None:
    settings = Settings().replace(keep_warm=asked, mode=mode)
    assert snapshot._warm(settings, [_Slot()]) == warm  # type: ignore[list-item]


def test_what_nobody_has_measured_is_not_told() -> None:
    settings = Settings().replace(keep_warm=KeepWarm.ON)
    found = snapshot.take(
        settings=settings, model=MODEL, phase=Phase.STARTING, started_at_s=0.0, ready_after_s=None,
        frontends=[], workers=[], warnings=[],
    )  # fmt: skip
    assert found.warm is None
