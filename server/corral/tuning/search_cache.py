"""The searches of earlier starts, cached by all that they depend on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from corral.artifacts import build
from corral.artifacts.json_cache import JsonCache
from corral.artifacts.order import versions
from corral.backends.registry import packages
from corral.settings import Precision
from corral.system.limits import refuses_executable_memory
from corral.tuning.accuracy import pictures_name, runners
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Search
from corral.tuning.fallback import is_judged

logger = logging.getLogger(__name__)

#: raise it whenever candidates are measured or ranked in another way, or Search changes
SEARCH_FORMAT = 2


def remember(bench: Bench, options: Sequence[Candidate], found: Search) -> None:
    """Caches a search, unless what failed in it may pass."""
    failed = [row for row in found.rows if row.passing]
    if not failed:
        searches(bench).write(_entry_name(bench), search_ingredients(bench, options), found)
    for row in failed:
        logger.warning(
            "%s could not be measured, and the next start tries again: %s",
            row.candidate.name,
            row.excluded,
        )


def search_ingredients(bench: Bench, options: Sequence[Candidate]) -> dict[str, str]:
    """All that a search among these depends on, by name."""
    settings = bench.settings
    spec = bench.spec
    weights = spec.find_weights(
        settings.model.weights, Path(settings.model.cache_dir), settings.model.offline
    )
    exact = build.make_order(spec, weights, "fp32", bench.isa)
    made = {
        f"artefact of {option.name}": build.make_order(
            spec,
            weights,
            option.precision.value,
            bench.isa,
            option.backend,
            accuracy=settings.accuracy,
        ).key
        for option in options
    }
    return {
        "model": exact.key,
        **made,
        "options": ", ".join(bench.title(option) for option in options),
        "runners": runners(options),
        "mode": settings.model.mode.value,
        "max-batch": str(settings.queue.max_batch),
        "allocator": settings.placement.memory,
        "cpu": bench.cpu_model,
        "isa": " ".join(sorted(bench.isa)),
        "cores": str(bench.pen.cores),
        "thresholds": str(bench.thresholds),
        "pictures": pictures_name(bench, synthetic=weights.synthetic),
        "worker python": settings.engine.worker_python or "",
        # Where engines may not write machine code, another one wins.
        **({"executable memory": "refused"} if refuses_executable_memory() else {}),
        **versions(sorted(packages())),
    }


def searches(bench: Bench) -> JsonCache[Search]:
    """The searches that are cached."""
    folder = Path(bench.settings.model.cache_dir) / "profiles"
    return JsonCache(folder, Search, format_number=SEARCH_FORMAT, title="search")


def _entry_name(bench: Bench) -> str:
    return f"{bench.spec.name}-{bench.settings.model.mode.value}"


def remembered(bench: Bench, options: Sequence[Candidate], *references: Candidate) -> Search | None:
    """The search among these that is cached; one that cannot be gone by is a warning and None."""
    cache, ingredients = searches(bench), search_ingredients(bench, options)
    found = cache.read(_entry_name(bench), ingredients)
    judged = is_judged(bench)
    if found is not None and not _usable(found, [*options, *references], judged=judged):
        file = cache.file(_entry_name(bench), ingredients)
        logger.warning("the cached search %s contradicts itself, and is made again", file)
        return None
    return found


def _usable(found: Search, options: Sequence[Candidate], *, judged: bool) -> bool:
    """Whether the winner is one of these, and was compared where that is asked of it."""
    if found.winner.precision is Precision.FP32 or not judged:
        return found.winner in options
    rows = [row for row in found.rows if row.candidate == found.winner]
    compared = any(row.fidelity is not None and not row.excluded for row in rows)
    return found.winner in options and compared
