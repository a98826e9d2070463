"""What a worker under trial reports, as its trial passes it on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from corral.errors import ModelError, PassingError
from corral.ipc import channel
from corral.ipc.messages import ModelBoot, WorkerFailed
from corral.ipc.region import Region, create_region
from corral.settings import BackendName, Settings
from corral.tensors import Datatype, Signature
from corral.tuning.trial_worker import Trial, TrialOrder

_SIGNATURE = Signature({Datatype.FP32: (4,)}, (3,))
_MODEL = ModelBoot(name="tiny", artefact=None, precision="fp32", synthetic=True, weights="none")
_ORDER = TrialOrder(
    settings=Settings(backend=BackendName.NULL), model=_MODEL, signature=_SIGNATURE, cpus=[0]
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
