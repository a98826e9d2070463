"""Workers of one kind, as they are started apart to be measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from corral.ipc.messages import ModelBoot
from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.slo.space import Arithmetic, Memory
from corral.tensors import Datatype, Signature
from corral.tuning.trial_worker import TrialOrder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crew:
    """Workers to measure.

    Attributes:
        arithmetic: what they compute with.
        memory: what theirs is like.
        model: as prepared for the arithmetic.
        workers: their CPUs.
        sizes: of batches, ascending from 1; the profiler's if None.
    """

    arithmetic: Arithmetic
    memory: Memory
    model: ModelBoot
    workers: Sequence[PlannedWorker]
    sizes: Sequence[int] | None = None

    def orders(
        self, settings: Settings, signature: Signature, datatype: Datatype, sizes: Sequence[int]
    ) -> list[TrialOrder]:
        """What to start, one for each worker.

        Args:
            settings: of the server; the crew's go before them.
            signature: of the model.
            datatype: of the batches.
            sizes: of batches, ascending.
        """
        settings = settings.replace(
            backend=self.arithmetic.backend,
            precision=self.arithmetic.precision,
            torch_mode=self.arithmetic.torch_mode,
            allocator=self.memory.allocator,
            huge_pages=self.memory.huge_pages,
            openmp_spin_ms=self.memory.openmp_spin_ms,
        )
        return [
            TrialOrder(
                settings=settings,
                model=self.model,
                signature=signature,
                cpus=worker.cpus,
                memory_node=worker.memory_node,
                sizes=sizes,
                datatype=datatype,
                threads=worker.cores,
            )
            for worker in self.workers
        ]
