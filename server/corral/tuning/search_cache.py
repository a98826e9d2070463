"""The searches of earlier starts, cached by all that they depend on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from corral.artifacts import build, store
from corral.artifacts.json_cache import JsonCache
from corral.artifacts.order import ABSENT, made_of_the_same, versions
from corral.backends.registry import packages
from corral.settings import BackendName, Precision
from corral.system.limits import refuses_executable_memory
from corral.system.other_load import MOST_TRIES
from corral.tuning.accuracy import FIDELITY_FORMAT, pictures_name, runners
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


def search_ingredients(
    bench: Bench, options: Sequence[Candidate], *, as_found: bool = False
) -> dict[str, str]:
    """All that a search among these depends on, by name.

    Args:
        bench: where.
        options: what there is to choose from.
        as_found: artefacts by the keys of those that are cached, wherever they were made.
    """
    settings = bench.settings
    spec = bench.spec
    weights = spec.find_weights(
        settings.model.weights, Path(settings.model.cache_dir), settings.model.offline
    )

    def key(precision: str, backend: BackendName = BackendName.AUTO) -> str:
        order = build.make_order(
            spec, weights, precision, bench.isa, backend, accuracy=settings.accuracy
        )
        found = store.find(Path(settings.model.cache_dir), order) if as_found else None
        return order.key if found is None else found.key

    made = {
        f"artefact of {option.name}": key(option.precision.value, option.backend)
        for option in options
    }
    return {
        "model": key("fp32"),
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
        # How the zoo's scores of classes are judged has not changed since searches are cached.
        **(
            {}
            if spec.signature.by_classes and spec.file is None
            else {"fidelity": str(FIDELITY_FORMAT)}
        ),
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
    found = cache.read(_entry_name(bench), ingredients) or searched_elsewhere(bench, options)
    judged = is_judged(bench)
    if found is not None and not _usable(found, [*options, *references], judged=judged):
        file = cache.file(_entry_name(bench), ingredients)
        logger.warning("the cached search %s contradicts itself, and is made again", file)
        return None
    return found


def searched_elsewhere(bench: Bench, options: Sequence[Candidate]) -> Search | None:
    """The part of a search that was made where more was installed: when an image was built.

    It counts where something is absent here, and with any number of cores: a container that
    cannot write to its cache would search at every start.
    """
    wanted = search_ingredients(bench, options, as_found=True)
    if ABSENT not in wanted.values():
        return None
    found = searches(bench).read_like(
        _entry_name(bench), lambda other: searched_the_same(wanted, other)
    )
    return None if found is None else narrowed(found, options)


def searched_the_same(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether a search of ``found`` chose from all that is ``wanted``, and perhaps from more."""
    lists = ("options", "runners")
    if not all(
        set(wanted[name].split(", ")) <= set(found.get(name, "").split(", ")) for name in lists
    ):
        return False
    rest = {name: value for name, value in wanted.items() if name not in {*lists, "cores"}}
    return rest.keys() <= found.keys() and made_of_the_same(
        rest, {name: found[name] for name in rest}
    )


def narrowed(found: Search, options: Sequence[Candidate]) -> Search | None:
    """A search without what cannot be chosen here; None where nothing is left."""
    rows = [row for row in found.rows if row.candidate in options]
    able = [row for row in rows if not row.excluded]
    if not able:
        return None
    # Here is less to choose from than there was, so nothing is compared once more.
    return msgspec.structs.replace(
        found, rows=rows, winner=able[0].candidate, tries=max(MOST_TRIES, found.tries)
    )


def _usable(found: Search, options: Sequence[Candidate], *, judged: bool) -> bool:
    """Whether the winner is one of these, and was compared where that is asked of it."""
    if found.winner.precision is Precision.FP32 or not judged:
        return found.winner in options
    rows = [row for row in found.rows if row.candidate == found.winner]
    compared = any(row.fidelity is not None and not row.excluded for row in rows)
    return found.winner in options and compared
