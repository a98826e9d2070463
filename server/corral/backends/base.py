"""Engines, behind five methods. A backend is imported only when a worker asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from corral.backends.operators import EngineProfile
from corral.ipc.messages import WorkerBoot
from corral.tensors import Datatype


class Backend(Protocol):
    """One engine in one worker, used from one thread."""

    def load(self, boot: WorkerBoot) -> None:
        """Reads the model. Raises ModelError or ConfigError when that can never work."""

    def compile(
        self,
        datatype: Datatype,
        inputs: NDArray[np.generic],
        outputs: NDArray[np.float32],
    ) -> None:
        """Readies batches of exactly ``len(inputs)`` items of ``datatype``.

        The arrays lie in the worker's region: ``run`` reads and writes them, without a copy.
        """

    def run(self, datatype: Datatype, count: int) -> None:
        """Runs the batch that lies in the input array that was compiled for these two.

        Raises:
            ValuesRefused: the engine says what is wrong with the values; a client is told.
        """

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets what ``compile`` made for these two, and frees its memory."""

    def describe(self) -> dict[str, str]:
        """Engine, version, precision, threads: what the start-up table shows."""


@runtime_checkable
class PortsBackend(Backend, Protocol):
    """An engine for models of several inputs or outputs, or of others than FP32 and UINT8.

    Its row in the registry says ``ports``.
    """

    def compile_ports(
        self,
        datatype: Datatype,
        inputs: Sequence[NDArray[np.generic]],
        outputs: Sequence[NDArray[np.generic]],
    ) -> None:
        """As ``compile``, for a model whose signature is not ``plain``: an array each.

        They lie in the region, in the order of the signature's specs.
        """


class Profiler(Backend, Protocol):
    """A backend whose engine says where the time goes, operator by operator."""

    def profile(self, datatype: Datatype, count: int, seconds: float) -> EngineProfile:
        """Runs batches that were compiled for these two for so long; says where time went."""
