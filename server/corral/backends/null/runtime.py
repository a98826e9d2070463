"""The null backend: takes a settable time and computes nothing.

It takes any model's signature and needs no artefact, so that tests and benchmarks of the data
path measure the server and not an engine. Its answers depend on what was asked, so that a mix-up
of requests shows: of each item, output[0] is the input's first element, output[1] its last,
output[2] its datatype's number, and the rest 0. Writing that costs 2 µs a batch, for no pass
over the input is made. Of several inputs, output i tells of input i, as far as it has room; an
output that no input is left for tells of the first.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from corral.ipc.messages import WorkerBoot
from corral.tensors import Datatype

#: a module that the tests bring, for faults on demand; it is in no distribution of corral
_FAULTS_MODULE = "corral_null_faults"


def _faults() -> Callable[[NDArray[np.generic]], None] | None:
    """What brings about the faults that a batch asks for, by its items' first elements.

    None unless the tests put their module on the workers' path: no option and no setting does.
    """
    if importlib.util.find_spec(_FAULTS_MODULE) is None:
        return None
    module = importlib.import_module(_FAULTS_MODULE)
    return cast("Callable[[NDArray[np.generic]], None]", module.register())


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Views of the region, made once: an item a row."""

    first: NDArray[np.generic]
    last: NDArray[np.generic]
    answers: NDArray[Any]

    def answer(self) -> None:
        """Writes what there is room for, as the output's datatype has it."""
        if self.answers.shape[1]:
            self.answers[:, 0] = self.first
        if self.answers.shape[1] > 1:
            self.answers[:, 1] = self.last


class NullBackend:
    """Sleeps or spins ``null_batch_ms + n * null_item_ms`` for a batch of n."""

    def __init__(self) -> None:
        self._batches: dict[tuple[Datatype, int], _Batch] = {}
        self._ports: dict[tuple[Datatype, int], list[_Batch]] = {}
        self._batch_s = 0.0
        self._item_s = 0.0
        self._spin = False
        self._obey: Callable[[NDArray[np.generic]], None] | None = None
        self._threads = 0

    def load(self, boot: WorkerBoot) -> None:
        """Takes the times from the settings."""
        self._batch_s = boot.settings.null.batch_ms / 1000
        self._item_s = boot.settings.null.item_ms / 1000
        self._spin = boot.settings.null.spin
        self._obey = _faults()
        self._threads = boot.threads

    def compile(
        self,
        datatype: Datatype,
        inputs: NDArray[np.generic],
        outputs: NDArray[np.float32],
    ) -> None:
        """Readies batches of exactly ``len(inputs)`` items; the output has 3 elements or more."""
        count = len(inputs)
        items = inputs.reshape(count, -1)
        answers = outputs.reshape(count, -1)
        answers[:] = 0
        self._batches[datatype, count] = _Batch(items[:, 0], items[:, -1], answers)

    def compile_ports(
        self,
        datatype: Datatype,
        inputs: Sequence[NDArray[np.generic]],
        outputs: Sequence[NDArray[np.generic]],
    ) -> None:
        """Readies batches of several inputs and outputs."""
        count = len(inputs[0])
        batches = []
        for index, output in enumerate(outputs):
            items = inputs[index if index < len(inputs) else 0].reshape(count, -1)
            answers = output.reshape(count, -1)
            answers[:] = np.zeros((), answers.dtype)
            batches.append(_Batch(items[:, 0], items[:, -1], answers))
        self._ports[datatype, count] = batches

    def run(self, datatype: Datatype, count: int) -> None:
        """Waits as long as it was told and writes the answers."""
        started_s = time.perf_counter()
        batch = self._batches.get((datatype, count))
        if batch is None:
            for port in self._ports[datatype, count]:
                port.answer()
        else:
            if self._obey is not None:
                self._obey(batch.first)
            batch.answers[:, 0] = batch.first
            batch.answers[:, 1] = batch.last
            batch.answers[:, 2] = datatype
        duration_s = self._batch_s + count * self._item_s
        if not duration_s:
            return
        if self._spin:
            while time.perf_counter() - started_s < duration_s:
                pass
        else:
            time.sleep(duration_s)

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets a batch size."""
        self._batches.pop((datatype, count), None)
        self._ports.pop((datatype, count), None)

    def describe(self) -> dict[str, str]:
        """Engine, version, precision, threads, and the time it takes."""
        manner = "spinning" if self._spin else "sleeping"
        return {
            "engine": "null",
            "version": importlib.metadata.version("corral"),
            "precision": "none",
            "threads": str(self._threads),
            "time": f"{self._batch_s * 1000:g} ms + {self._item_s * 1000:g} ms an item, {manner}",
        }
