"""What workers get beyond their CPUs: an allocator, batch sizes, and the curve that says which."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from corral.backends.registry import BRINGS_ENVIRONMENT
from corral.errors import ConfigError
from corral.planning.environment import allocator_environment
from corral.settings import Allocator, EngineSettings, PlacementSettings

_OLDEST = "3.11"
_RUNS = b"corral can run"
_LOOK = f"import sys; sys.version_info >= (3, 11) and print({_RUNS.decode()!r})"
#: for an interpreter to start, on a machine that is busy
_PATIENCE_S = 4.0

_PACKAGES = {Allocator.TCMALLOC: "libtcmalloc-minimal4", Allocator.JEMALLOC: "libjemalloc2"}


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


def worker_python(engine: EngineSettings) -> str:
    """The interpreter that workers run on.

    Raises:
        ConfigError: there is no such interpreter.
    """
    if engine.worker_python is None:
        return sys.executable
    # Not resolved: a virtual environment's interpreter is a link, and its place is what counts.
    path = Path(engine.worker_python).absolute()
    if not os.access(path, os.X_OK) or not path.is_file():
        raise ConfigError(
            f"--worker-python {engine.worker_python}: no such interpreter; {BRINGS_ENVIRONMENT}"
        )
    _check_runs(path, engine.worker_python)
    return str(path)


@functools.cache
def _check_runs(path: Path, named: str) -> None:
    """Raises ConfigError where a program is no Python that is new enough, or does not end."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-S", "-c", _LOOK], env={}, stdin=subprocess.DEVNULL,
            capture_output=True, check=False, timeout=_PATIENCE_S,
        )  # fmt: skip
        said = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = b""
    if said != _RUNS:
        raise ConfigError(f"--worker-python {named}: no Python {_OLDEST} or newer")


def python_path(engine: EngineSettings) -> dict[str, str]:
    """What lets a worker in another environment import corral: where this corral lies."""
    if engine.worker_python is None:
        return {}
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def worker_extras(
    placement: PlacementSettings, libraries: Mapping[str, Path | None]
) -> WorkerExtras:
    """Preloads the allocator where it was found; else workers run on the C library's.

    Args:
        placement: allocator and huge pages.
        libraries: see libraries.find_libraries.
    """
    allocator = placement.allocator
    path = libraries.get(allocator.value)
    warnings = []
    if path is None and allocator is not Allocator.SYSTEM:
        warnings.append(
            f"{allocator.value} is not installed: workers run on the C library's allocator, which "
            f"is slower (Debian, Ubuntu: apt-get install {_PACKAGES[allocator]})"
        )
    openmp = libraries.get("openmp")
    expected = {"allocator": path, "openmp": openmp}
    env = allocator_environment(allocator, libraries, placement.huge_pages)
    if openmp is not None:
        env["KMP_BLOCKTIME"] = str(placement.openmp_spin_ms)
    return WorkerExtras(
        env=env,
        expected_libraries={name: str(file) for name, file in expected.items() if file},
        warnings=warnings,
    )
