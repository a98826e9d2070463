"""What took hold in this process: affinity of every thread, allocator, OpenMP, memory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from corral.system import amx, procfs
from corral.system.cpu_list import format_cpus

#: what the allocators' libraries are called
_ALLOCATORS = ("libtcmalloc", "libjemalloc", "libmimalloc")
SYSTEM_ALLOCATOR = "system"


@dataclasses.dataclass(frozen=True)
class Found:
    """The result.

    Attributes:
        checks: see messages.WorkerReady.
        warnings: one sentence for everything that is not as it was meant to be.
        memory_bytes: proportional (PSS): weights that are mapped count once, however many
            compiled sizes and workers map them.
    """

    checks: dict[str, str]
    warnings: list[str]
    memory_bytes: int


def look(cpus: Iterable[int], expected_libraries: Mapping[str, str]) -> Found:
    """Looks at this process.

    Args:
        cpus: the mask that every thread should keep inside of.
        expected_libraries: shared objects that should be mapped, by what they are for.
    """
    pid = os.getpid()
    affinities = procfs.thread_affinities(pid)
    affinity, affinity_warnings = check_affinity(set(cpus), affinities)
    mapped = {Path(path).name for path in procfs.mapped_libraries(pid)}
    libraries, library_warnings = check_libraries(mapped, expected_libraries)
    return Found(
        checks={
            "affinity": affinity,
            "threads": str(len(affinities)),
            **libraries,
            **check_amx(procfs.cpu_flags(), amx.permitted()),
        },
        warnings=affinity_warnings + library_warnings,
        memory_bytes=procfs.memory(pid).proportional_bytes,
    )


def check_affinity(cpus: set[int], affinities: Mapping[int, set[int]]) -> tuple[str, list[str]]:
    """Where the threads may run, as a CPU list, and a warning if that is not inside ``cpus``.

    Args:
        cpus: the mask.
        affinities: CPUs by thread id.
    """
    allowed: set[int] = set().union(*affinities.values())
    strays = sum(not mask <= cpus for mask in affinities.values())
    shown = format_cpus(allowed)
    if not strays:
        return shown, []
    stray = f"{strays} of {len(affinities)} threads may run on CPUs {shown}"
    return shown, [f"{stray}, outside the worker's {format_cpus(cpus)}"]


def check_libraries(
    mapped: set[str], expected: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Which allocator and which expected libraries are really there; a warning for the others.

    Args:
        mapped: file names of what is mapped.
        expected: paths or file names by what they are for; "allocator" is always reported.
    """
    allocator = next((name for name in sorted(mapped) if name.startswith(_ALLOCATORS)), None)
    checks = {"allocator": allocator or SYSTEM_ALLOCATOR}
    warnings = []
    for purpose, path in expected.items():
        name = Path(path).name
        # A link's target is what the kernel shows: libtcmalloc_minimal.so.4.5.10 for ….so.4.
        found = next((m for m in sorted(mapped) if m == name or m.startswith(f"{name}.")), None)
        if found is None:
            warnings.append(f"{name} was preloaded as {purpose} and is not mapped")
        else:
            checks[purpose] = name
    return checks, warnings


def check_amx(flags: frozenset[str], permitted: bool | None) -> dict[str, str]:
    """Whether this process may use AMX; nothing where the CPU shows none, or no kernel says.

    Args:
        flags: of the CPU.
        permitted: what the kernel says.
    """
    if "amx_tile" not in flags or permitted is None:
        return {}
    return {"amx": "permitted" if permitted else "not permitted"}
