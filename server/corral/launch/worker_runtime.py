"""What workers get beyond their CPUs: an allocator, batch sizes, and the curve that says which."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from corral.artifacts.store import versions
from corral.batching.cost_curve import (
    CostCurve,
    candidate_sizes,
    curve_key,
    load_curve,
    save_curve,
    sizes_up_to,
)
from corral.errors import ConfigError
from corral.ipc.messages import ModelBoot
from corral.planning.environment import allocator_environment
from corral.settings import Allocator, BackendName, Mode, Settings

_PACKAGES = {Allocator.TCMALLOC: "libtcmalloc-minimal4", Allocator.JEMALLOC: "libjemalloc2"}
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerExtras:
    """What allocator and huge pages add to the workers' environment.

    Attributes:
        env: variables, LD_PRELOAD among them.
        expected_libraries: see messages.WorkerBoot.
        warnings: one sentence if the allocator is not to be had.
    """

    env: dict[str, str]
    expected_libraries: dict[str, str]
    warnings: list[str]


def worker_python(settings: Settings) -> str:
    """The interpreter that workers run on.

    Raises:
        ConfigError: there is no such interpreter.
    """
    if settings.worker_python is None:
        return sys.executable
    # Not resolved: a virtual environment's interpreter is a link, and its place is what counts.
    path = Path(settings.worker_python).absolute()
    if not os.access(path, os.X_OK) or not path.is_file():
        raise ConfigError(
            f"--worker-python {settings.worker_python}: no such interpreter; "
            "make ipex makes .venv-ipex/bin/python"
        )
    return str(path)


def python_path(settings: Settings) -> dict[str, str]:
    """What lets a worker in another environment import corral: where this corral lies."""
    if settings.worker_python is None:
        return {}
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def worker_extras(settings: Settings, libraries: Mapping[str, Path | None]) -> WorkerExtras:
    """Preloads the allocator where it was found; else workers run on the C library's.

    Args:
        settings: allocator and huge pages.
        libraries: see libraries.find_libraries.
    """
    allocator = settings.allocator
    path = libraries.get(allocator.value)
    warnings = []
    if path is None and allocator is not Allocator.SYSTEM:
        warnings.append(
            f"{allocator.value} is not installed: workers run on the C library's allocator, which "
            f"is slower (Debian, Ubuntu: apt-get install {_PACKAGES[allocator]})"
        )
    openmp = libraries.get("openmp")
    expected = {"allocator": path, "openmp": openmp}
    return WorkerExtras(
        env=allocator_environment(allocator, libraries, settings.huge_pages),
        expected_libraries={name: str(file) for name, file in expected.items() if file},
        warnings=warnings,
    )


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
    # The curve holds what was kept, so its largest batch is the knee: looking for the knee in it
    # again would allow the 3 % twice.
    largest = max(size for _, size in curve.costs_s)
    return BatchSizes(sizes=sizes_up_to(largest, candidates), find_knee=False)


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
