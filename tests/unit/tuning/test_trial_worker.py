"""What a worker under trial reports, as its trial passes it on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import ModelError, PassingError
from corral.ipc import channel
from corral.ipc.messages import ModelBoot, WorkerFailed
from corral.ipc.packets import BATCH, RESULT, ResultStatus
from corral.ipc.region import Region, create_region
from corral.settings import BackendName, Settings
from corral.tensors import Datatype, Signature
from corral.tuning.trial_worker import Trial, TrialOrder, start

_SIGNATURE = Signature({Datatype.FP32: (4,)}, (3,))
_MODEL = ModelBoot(name="tiny", artefact=None, precision="fp32", synthetic=True, weights="none")
_ORDER = TrialOrder(
    settings=Settings.flat(backend=BackendName.NULL), model=_MODEL, signature=_SIGNATURE, cpus=[0]
)


class _Process:
    """What a trial needs of a process to hear its report."""

    def __init__(self) -> None:
        self.control, self.theirs = channel.pair()
        self.stderr_fd, self._stderr = os.pipe()

    def close(self) -> None:
        self.control.close()
        self.theirs.close()
        os.close(self.stderr_fd)
        os.close(self._stderr)


@pytest.fixture
def process() -> Iterator[_Process]:
    found = _Process()
    yield found
    found.close()


@pytest.mark.parametrize(("passing", "kind"), [(True, PassingError), (False, ModelError)])
def test_a_failure_that_may_pass_is_told_from_one_that_stays(
    process: _Process, passing: bool, kind: type[ModelError]
) -> None:
    fd = create_region(_SIGNATURE, 1)
    region = Region(fd, _SIGNATURE, 1)
    os.close(fd)
    ours, theirs = channel.pair()
    trial = Trial(process, ours, region, _ORDER)  # type: ignore[arg-type]
    channel.send(process.theirs, WorkerFailed(worker=0, message="no room", passing=passing))
    with ours, theirs, pytest.raises(ModelError, match="no room") as caught:
        trial.wait_until_ready()
    assert caught.type is kind
    region.close()


def _open_descriptors() -> set[Path]:
    # The descriptor that lists the folder is among them, and is gone when it is asked about.
    return {fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}


def test_a_trial_that_cannot_be_started_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = _open_descriptors()
    with pytest.raises(PassingError, match="no process") as caught, start(_ORDER, {}):
        pass
    # While the error is held, no collector closes what its frames had opened.
    assert _open_descriptors() == before, caught


def test_an_answer_to_another_batch_is_no_measurement(process: _Process) -> None:
    fd = create_region(_SIGNATURE, 1)
    region = Region(fd, _SIGNATURE, 1)
    os.close(fd)
    ours, theirs = channel.pair()
    trial = Trial(process, ours, region, _ORDER)  # type: ignore[arg-type]
    with ours, theirs:
        trial.submit(Datatype.FP32, 1)
        number, *_ = BATCH.unpack(theirs.recv(BATCH.size))
        theirs.send(RESULT.pack(number + 1, ResultStatus.OK, 1_000, 0))
        with pytest.raises(PassingError, match="nonsense"):
            trial.collect()
    region.close()
