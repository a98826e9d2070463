"""Cost curves, kept from one start to the next."""

from __future__ import annotations

from pathlib import Path

from corral.artifacts.store import versions
from corral.batching.cost_curve import (
    CostCurve,
    curve_key,
    load_curve,
    save_curve,
)
from corral.ipc.messages import ModelBoot
from corral.settings import BackendName, Settings


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
            backend=f"{settings.backend.value} {settings.torch_mode.value} {model.precision}",
            engine=_engine_version(settings),
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


def _engine_version(settings: Settings) -> str:
    """The version of the backend's own distribution, and where another environment has it."""
    name = "torch" if settings.backend is BackendName.IPEX else settings.backend.value
    return f"{versions([name])[name]} {settings.worker_python or ''}".strip()
