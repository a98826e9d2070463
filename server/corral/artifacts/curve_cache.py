"""Cost curves, kept from one start to the next."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from corral.artifacts.json_cache import JsonCache
from corral.artifacts.order import versions
from corral.backends.registry import ENGINES
from corral.batching.cost_curve import CostCurve
from corral.ipc.messages import ModelBoot
from corral.settings import EngineSettings, Settings
from corral.system.other_load import Measured, is_doubtful, kept

logger = logging.getLogger(__name__)

#: raise it whenever a worker measures costs in another way, or they are written in another form
FORMAT = 4
_NAME = "costs"


class _Curve(Measured, frozen=True, kw_only=True):
    """A curve as cached.

    Attributes:
        costs_s: seconds of one batch by "DATATYPE:count".
    """

    costs_s: dict[str, float]

    def __post_init__(self) -> None:
        """Raises ValueError where a name or a cost makes no sense."""
        CostCurve.from_names(self.costs_s)


def load_curve(folder: Path, ingredients: Mapping[str, str]) -> CostCurve | None:
    """The cached curve; None if there is none or it is empty, with a warning if it is broken.

    Args:
        folder: of the curves.
        ingredients: all that the curve depends on, by name.
    """
    found = _cache(folder).read(_NAME, ingredients)
    if found is None or not found.costs_s or is_doubtful(found):
        return None
    return CostCurve.from_names(found.costs_s)


def save_curve(
    folder: Path, ingredients: Mapping[str, str], curve: CostCurve, other_load: float = 0.0
) -> bool:
    """Caches a curve, whole or not at all; a folder that refuses it is a warning, no error.

    One that was measured while others took much of the CPUs is measured again by the next start:
    ``load_curve`` has none until it was quiet, or until it was measured often enough. The
    quietest is kept.

    Args:
        folder: of the curves.
        ingredients: all that the curve depends on, by name.
        curve: what was measured.
        other_load: the share of the worker's CPUs, 0 to 1, that others took meanwhile.

    Returns:
        whether it is to be measured again.
    """
    cache = _cache(folder)
    measured = _Curve(costs_s=curve.names(), other_load=other_load)
    found = kept(measured, cache.read(_NAME, ingredients))
    cache.write(_NAME, ingredients, found)
    again = is_doubtful(found)
    if again:
        logger.info(
            "others took %.0f %% of the worker's CPUs while it measured what batches cost: the "
            "next start measures again",
            other_load * 100,
        )
    return again


def _cache(folder: Path) -> JsonCache[_Curve]:
    return JsonCache(folder, _Curve, format_number=FORMAT, title="cost curve")


class CurveCache:
    """The cost curve of this model, on this engine, with workers this wide, on this CPU.

    Args:
        settings: cache folder, backend, mode.
        model: its artefact.
        cores: of the narrowest worker.
        cpu_model: the CPU's name.
        isa: the CPU's flags.
    """

    def __init__(
        self,
        settings: Settings,
        model: ModelBoot,
        cores: int,
        cpu_model: str,
        isa: frozenset[str],
    ) -> None:
        # The null backend's curve is quickly measured, and nobody wants it kept.
        self._used = ENGINES[settings.engine.backend].computes
        self._folder = Path(settings.model.cache_dir) / "curves"
        self._ingredients = {
            # Its folder is named after the key of all that is in it.
            "artefact": Path(model.artefact or "").parent.name,
            "engine": f"{settings.engine.backend.value} {_engine_version(settings.engine)}",
            "precision": model.precision,
            "torch mode": settings.engine.torch_mode.value,
            "runner": str(ENGINES[settings.engine.backend].revision),
            "allocator": settings.placement.memory,
            "cores": str(cores),
            "cpu": cpu_model,
            "isa": " ".join(sorted(isa)),
            "mode": settings.model.mode.value,
        }

    def load(self) -> CostCurve | None:
        """What an earlier start measured, or None."""
        return load_curve(self._folder, self._ingredients) if self._used else None

    def save(self, costs_s: dict[str, float], other_load: float = 0.0) -> bool:
        """Keeps what a worker measured, by "DATATYPE:count"; see ``save_curve``."""
        if not self._used:
            return False
        curve = CostCurve.from_names(costs_s)
        return save_curve(self._folder, self._ingredients, curve, other_load)


def _engine_version(engine: EngineSettings) -> str:
    """The version of the backend's own distribution, and where another environment has it."""
    name = ENGINES[engine.backend].distribution
    return f"{versions([name])[name]} {engine.worker_python or ''}".strip()
