"""What a worker is told at its start, for tests that need no more of it than an engine does."""

from __future__ import annotations

from collections.abc import Sequence

from corral.ipc.messages import ModelBoot, WorkerBoot
from corral.settings import Settings
from corral.tensors import Signature


def model_boot(
    artefact: str | None = None, *, name: str = "tiny", precision: str = "fp32"
) -> ModelBoot:
    """A model with made-up weights."""
    return ModelBoot(
        name=name, artefact=artefact, precision=precision, synthetic=True, weights="made up"
    )


def worker_boot(
    signature: Signature,
    settings: Settings,
    model: ModelBoot,
    *,
    sizes: Sequence[int] = (1,),
    cpus: Sequence[int] = (0,),
    threads: int = 1,
    worker: int = 0,
) -> WorkerBoot:
    """A worker of so many threads; the largest of ``sizes``, ascending, fits into its region."""
    return WorkerBoot(
        worker=worker,
        cell=0,
        cpus=[*cpus],
        threads=threads,
        signature=signature,
        region_batch=sizes[-1],
        sizes=[*sizes],
        find_knee=False,
        expected_libraries={},
        settings=settings,
        model=model,
    )
