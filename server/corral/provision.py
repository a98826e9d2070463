"""Which batch sizes workers compile, and where the cost curve that says so is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from corral.artefact import versions
from corral.config import BackendName, Mode, Settings
from corral.messages import ModelBoot
from corral.profile import (
    CostCurve,
    candidate_sizes,
    curve_key,
    load_curve,
    save_curve,
    sizes_up_to,
)

#: the largest batch that is tried where nobody said what is the largest
_MAX_TRIED = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Which batch sizes a worker compiles.

    Attributes:
        sizes: ascending, from 1.
        find_knee: the worker stops where batching stops paying.
    """

    sizes: list[int]
    find_knee: bool


def batch_sizes(settings: Settings, curve: CostCurve | None) -> BatchSizes:
    """What is to be compiled: what was asked for, else 1 for rti, else up to the knee.

    Args:
        settings: mode and max-batch.
        curve: what an earlier start measured, or None.
    """
    if settings.max_batch is not None:
        return BatchSizes(sizes=candidate_sizes(settings.max_batch), find_knee=False)
    if settings.mode is Mode.RTI:
        return BatchSizes(sizes=[1], find_knee=False)
    candidates = candidate_sizes(_MAX_TRIED)
    if curve is None:
        return BatchSizes(sizes=candidates, find_knee=True)
    return BatchSizes(sizes=sizes_up_to(curve.knee(), candidates), find_knee=False)


class CurveCache:
    """The cost curve of this model, on this engine, with workers this wide, on this CPU.

    Args:
        settings: cache folder, backend, mode.
        model: its artefact.
        cores: of the narrowest worker.
        cpu_model: the CPU's name.
    """

    def __init__(self, settings: Settings, model: ModelBoot, cores: int, cpu_model: str) -> None:
        # The null backend's curve is quickly measured, and nobody wants it kept.
        self._used = settings.backend is not BackendName.NULL
        self._folder = Path(settings.cache_dir) / "curves"
        self._key = curve_key(
            artefact=model.artefact or "",
            backend=f"{settings.backend.value} {model.precision}",
            engine=versions([settings.backend.value])[settings.backend.value],
            cores=cores,
            cpu_model=cpu_model,
            mode=settings.mode.value,
        )

    def load(self) -> CostCurve | None:
        """What an earlier start measured, or None."""
        return load_curve(self._folder, self._key) if self._used else None

    def save(self, costs_s: dict[str, float]) -> None:
        """Keeps what a worker measured, by "DATATYPE:count"."""
        if self._used:
            save_curve(self._folder, self._key, CostCurve.from_names(costs_s))
