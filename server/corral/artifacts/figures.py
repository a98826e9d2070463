"""What was measured on this machine for the plan: the frontend's cost and the workers' rate.

Two small files, for they depend on different things: what a request costs the frontend, on the
CPU and the model (its tensors); what a core of the workers makes, on all that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from corral.artifacts.json_cache import JsonCache
from corral.backends.registry import engine
from corral.batching.cost_curve import CostCurve
from corral.planning.front import ASSUMED_FRONT_US, Figures
from corral.settings import Settings

_Positive = Annotated[float, msgspec.Meta(gt=0)]
#: raise it whenever the figures are measured in another way, or written in another form
FORMAT = 1
#: a figure that differs by less from the one that is known is the same: plans are to stay
_SAME = 0.1


class _Front(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of CPU that a request costs the frontend, and over how many that was taken."""

    front_us: _Positive
    requests: int


class _Rate(msgspec.Struct, frozen=True, kw_only=True):
    """See planning.front.Figures."""

    images_per_core_s: _Positive | None = None
    one_core_gain: float | None = None


class FigureCache:
    """The figures of one machine, model and mode, kept from one start to the next.

    Args:
        asked: the settings as they were written, backend and precision not yet settled, so that a
            plan finds them before anything is prepared.
        cpu_model: the CPU's name.
    """

    def __init__(self, asked: Settings, cpu_model: str) -> None:
        folder = Path(asked.model.cache_dir) / "figures"
        self._fronts = JsonCache(folder, _Front, format_number=FORMAT, title="cost of a request")
        self._rates = JsonCache(folder, _Rate, format_number=FORMAT, title="rate of the workers")
        self._of_front = {"cpu": cpu_model, "model": asked.model.name}
        self._of_rate = {
            **self._of_front,
            "mode": asked.model.mode.value,
            "backend": asked.engine.backend.value,
            "precision": asked.engine.precision.value,
            "torch-mode": asked.engine.torch_mode.value,
            "worker-python": str(asked.engine.worker_python),
            "max-batch": str(asked.queue.max_batch),
        }
        # The null backend computes nothing, at whatever rate it is told to.
        self._has_rate = engine(asked.engine.backend).computes

    def load(self) -> Figures:
        """What is known; the rest is assumed, or None."""
        front = self._fronts.read("front", self._of_front)
        rate = self._load_rate()
        return Figures(
            front_us=front.front_us if front else ASSUMED_FRONT_US,
            front_source="measured here" if front else "assumed until it is measured",
            images_per_core_s=rate.images_per_core_s,
            images_source="measured here" if rate.images_per_core_s else "not measured yet",
            one_core_gain=rate.one_core_gain,
        )

    def learn_costs(self, costs_s: Mapping[str, float], cores: int) -> None:
        """Keeps the rate that a worker's cost curve shows.

        Args:
            costs_s: seconds of one batch, by "DATATYPE:count".
            cores: of the worker.
        """
        rate = _best_rate(costs_s) / cores
        known = self._load_rate()
        if self._has_rate and rate > 0 and not _same(rate, known.images_per_core_s):
            self._save_rate(msgspec.structs.replace(known, images_per_core_s=rate))

    def learn_one_core(self, gain: float) -> None:
        """Keeps by which share workers of one core are faster than wider ones."""
        self._save_rate(msgspec.structs.replace(self._load_rate(), one_core_gain=gain))

    def learn_front(self, front_us: float, requests: int) -> None:
        """Keeps what a request costs the frontend.

        Args:
            front_us: microseconds of CPU.
            requests: how many that was measured over.
        """
        known = self._fronts.read("front", self._of_front)
        if not _same(front_us, known.front_us if known else None):
            found = _Front(front_us=front_us, requests=requests)
            self._fronts.write("front", self._of_front, found)

    def _load_rate(self) -> _Rate:
        return (self._has_rate and self._rates.read("rate", self._of_rate)) or _Rate()

    def _save_rate(self, rate: _Rate) -> None:
        self._rates.write("rate", self._of_rate, rate)


def _best_rate(costs_s: Mapping[str, float]) -> float:
    """The most images/s of any datatype and batch size; 0 where nothing was measured."""
    curve = CostCurve.from_names(costs_s).costs_s
    return max((size / cost for (_, size), cost in curve.items() if cost > 0), default=0.0)


def _same(found: float, known: float | None) -> bool:
    return known is not None and abs(found - known) <= _SAME * known
