"""The null backend: answers that tell requests apart, and the time it was told to take."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support.worker_boot import model_boot, worker_boot

from corral.backends.registry import create
from corral.ipc.messages import WorkerBoot
from corral.ipc.region import Region, create_region
from corral.settings import BackendName, Settings
from corral.tensors import Datatype, Signature

_SIGNATURE = Signature({Datatype.FP32: (3, 4, 4), Datatype.UINT8: (4, 4, 3)}, (10,))


def _boot(**settings: float | bool) -> WorkerBoot:
    told = Settings.flat(backend=BackendName.NULL, **settings)
    return worker_boot(_SIGNATURE, told, model_boot(), sizes=[1, 2, 4])


def _region() -> Region:
    return Region(create_region(_SIGNATURE, 4), _SIGNATURE, 4)


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.UINT8])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_answers_depend_on_the_items(datatype: Datatype, count: int) -> None:
    backend, region = create(BackendName.NULL), _region()
    backend.load(_boot())
    inputs, outputs = region.inputs(datatype, count), region.outputs(count)
    outputs[:] = -1
    backend.compile(datatype, inputs, outputs)
    items = inputs.reshape(count, -1)
    for run in range(2):
        items[:, 0] = np.arange(count) + 10 * run
        items[:, -1] = np.arange(count) + 100
        backend.run(datatype, count)
        assert outputs[:, 0].tolist() == [i + 10 * run for i in range(count)]
        assert outputs[:, 1].tolist() == [100 + i for i in range(count)]
        assert outputs[:, 2].tolist() == [datatype] * count
        assert not outputs[:, 3:].any()


def test_sizes_share_the_region() -> None:
    backend, region = create(BackendName.NULL), _region()
    backend.load(_boot())
    for count in (4, 1):
        for datatype in _SIGNATURE.datatypes:
            backend.compile(datatype, region.inputs(datatype, count), region.outputs(count))
    region.inputs(Datatype.FP32, 4)[:] = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    backend.run(Datatype.FP32, 4)
    assert region.outputs(4)[:, 0].tolist() == [0, 1, 2, 3]
    region.inputs(Datatype.UINT8, 1)[:] = 7
    backend.run(Datatype.UINT8, 1)
    assert region.outputs(1)[0, :3].tolist() == [7, 7, Datatype.UINT8]


def test_discarded_size_is_gone() -> None:
    backend, region = create(BackendName.NULL), _region()
    backend.load(_boot())
    backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, 1), region.outputs(1))
    backend.discard(Datatype.FP32, 1)
    with pytest.raises(KeyError):
        backend.run(Datatype.FP32, 1)


def test_sleeps_for_the_batch_and_each_item(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(time, "sleep", slept_s.append)
    backend, region = create(BackendName.NULL), _region()
    backend.load(_boot(null_batch_ms=10.0, null_item_ms=2.5))
    for count in (1, 4):
        backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, count), region.outputs(count))
        backend.run(Datatype.FP32, count)
    assert slept_s == pytest.approx([0.0125, 0.020])


def test_spins_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks_s = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks_s) / 1000)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it slept"))
    backend, region = create(BackendName.NULL), _region()
    backend.load(_boot(null_batch_ms=20.0, null_spin=True))
    backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, 1), region.outputs(1))
    backend.run(Datatype.FP32, 1)
    # 0 was read at the start; 20 ms later is the first reading that ends it.
    assert next(ticks_s) == 21


def test_takes_no_time_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it slept"))
    backend, region = create(BackendName.NULL), _region()
    backend.load(_boot())
    backend.compile(Datatype.FP32, region.inputs(Datatype.FP32, 1), region.outputs(1))
    backend.run(Datatype.FP32, 1)


def test_describes_itself() -> None:
    backend = create(BackendName.NULL)
    backend.load(_boot(null_batch_ms=10.0, null_item_ms=0.5))
    described = backend.describe()
    assert described["engine"] == "null"
    assert described["threads"] == "1"
    assert described["time"] == "10 ms + 0.5 ms an item, sleeping"
