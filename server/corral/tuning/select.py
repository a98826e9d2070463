"""Which engine and precision serve: what was asked for, what a search found, what the guard says.

Asked for by name, backend and precision both, an arithmetic serves; the guard only warns. Where
either is ``auto``, all that passes the guard is measured once, and the outcome is cached by all
that it depends on: model, weights, mode, CPU, cores of a worker, engines' versions, thresholds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

import msgspec

from corral import accuracy
from corral.accuracy import AccuracyReport
from corral.artifacts import build
from corral.artifacts.json_cache import JsonCache
from corral.artifacts.served_model import boot_model
from corral.artifacts.store import Artefact, versions
from corral.backends.calibration import own_pictures
from corral.backends.registry import DEFAULT, packages
from corral.errors import ConfigError
from corral.ipc.messages import ModelBoot
from corral.planning import topology
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Precision, Settings
from corral.tuning.accuracy import (
    evaluation_pictures,
    measure_fidelity,
    pictures_name,
    runners,
)
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Search, candidates, guard_report
from corral.tuning.search import search

logger = logging.getLogger(__name__)

#: raise it whenever candidates are measured or ranked in another way, or Search changes
SEARCH_FORMAT = 2


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be served."""

    backend: BackendName
    precision: Precision
    model: ModelBoot
    #: None where nothing was searched for
    search: Search | None = None


def select(
    settings: Settings,
    pen: PlannedWorker,
    environ: Mapping[str, str],
    progress: Callable[[str, float], None],
    *,
    again: bool = False,
    every: bool = False,
) -> Selected:
    """Settles backend and precision, and prepares the model for them.

    Args:
        settings: either may be auto.
        pen: what a worker gets; trials run there.
        environ: this process's environment.
        progress: told what is being done.
        again: measure even where a cached search says who wins.
        every: measure also what takes minutes to prepare; later starts go by that search.

    Raises:
        ConfigError: the CPU, the torch mode, or what is installed, lacks it.
        ModelError: weights, frameworks or disk do not allow it.
    """
    machine = topology.read_machine()
    bench = Bench(
        settings=settings,
        pen=pen,
        environ=environ,
        isa=machine.isa,
        cpu_model=machine.model_name,
        progress=progress,
    )
    precision = Precision(build.resolve_precision(settings.engine.precision, machine.isa))
    # A mode that cannot run what was named is told before minutes are spent on preparing it.
    bench.title(Candidate(backend=settings.engine.backend, precision=precision))
    installed = {name for name in packages() if importlib.util.find_spec(name) is not None}
    _check_pictures(bench)
    if not bench.spec.takes_pictures or not bench.spec.signature.plain:
        return without_pictures(bench, precision, installed)
    if not settings.engine.is_searched:
        return _as_asked(bench)
    options = options_for(bench, settings.engine.precision, installed, every=every)
    exact = options_for(bench, Precision.FP32, installed)
    if not options or not exact:
        raise ConfigError(
            f"--backend {settings.engine.backend} --precision {settings.engine.precision}: nothing "
            f"that is installed can do that; pip install 'corral[{DEFAULT},torch]'"
        )
    found = None
    if not again:
        # What was measured in full counts for every start that follows.
        whole = options_for(bench, settings.engine.precision, installed, every=True)
        found = remembered(bench, whole, exact[0])
        if found is None and options != whole:
            found = remembered(bench, options, exact[0])
    if found is None and options == exact[:1]:
        made = bench.prepare(options[0], 0.0, 1.0)
        progress("ready", 1.0)
        return _selected(options[0], made, None, None)
    return by_search(bench, options, exact[0], found)


def _check_pictures(bench: Bench) -> None:
    """A user's own pictures, before minutes are spent on preparing."""
    accuracy = bench.settings.accuracy
    for name in ("calibration", "evaluation"):
        path = getattr(accuracy, name)
        if path is not None and not bench.spec.takes_pictures:
            raise ConfigError(f"--{name} {path}: {bench.settings.model.name} takes no pictures")
    evaluation_pictures(bench)
    if accuracy.calibration is not None:
        own_pictures(accuracy.calibration)


def options_for(
    bench: Bench, precision: Precision, installed: Set[str], *, every: bool = False
) -> list[Candidate]:
    """What there is to choose from, FP32 first; also what is slow to prepare if all is slow."""
    asked = (bench.settings.engine.backend, precision, bench.isa, installed)
    quick = [] if every else _able(bench, candidates(*asked))
    return quick or _able(bench, candidates(*asked, every=True))


def _able(bench: Bench, options: Sequence[Candidate]) -> list[Candidate]:
    """Those that run in the torch mode, and take the model's file where no engine was named."""
    spec = bench.spec
    found = []
    for option in options:
        with contextlib.suppress(ConfigError):
            bench.title(option)
            if bench.settings.engine.backend is BackendName.AUTO:
                build.check_engine(bench.settings_for(option), spec, option.precision.value)
            found.append(option)
    return found


def without_pictures(bench: Bench, precision: Precision, installed: Set[str]) -> Selected:
    """What takes no pictures cannot be compared on any: FP32, or what was asked for by name."""
    default = Candidate(backend=DEFAULT, precision=precision)
    if bench.settings.engine.backend is not BackendName.AUTO:
        default = msgspec.structs.replace(default, backend=bench.settings.engine.backend)
    # One that is missing gets its own error.
    chosen = next(iter(options_for(bench, precision, installed)), default)
    report = None
    if precision is not Precision.FP32:
        report = AccuracyReport(candidate=chosen.name, fidelity=None, faults=[])
    return _selected(chosen, bench.prepare(chosen, 0.0, 1.0), report, None)


def _as_asked(bench: Bench) -> Selected:
    settings = bench.settings
    asked = Candidate(backend=settings.engine.backend, precision=settings.engine.precision)
    if asked.precision is Precision.FP32:
        made = build.prepare(settings, bench.progress, bench.isa)
        return _selected(asked, made, None, None)
    reference = Candidate(backend=settings.engine.backend, precision=Precision.FP32)
    made = bench.prepare(asked, 0.0, 0.7)
    exact = bench.prepare(reference, 0.7, 0.7)
    fidelity = measure_fidelity(bench, asked, made, reference, exact)
    bench.progress("ready", 1.0)
    report = AccuracyReport(
        candidate=asked.name,
        fidelity=fidelity,
        faults=accuracy.faults(fidelity, bench.thresholds, synthetic=made.synthetic),
    )
    return _selected(asked, made, report, None)


def by_search(
    bench: Bench, options: Sequence[Candidate], reference: Candidate, found: Search | None
) -> Selected:
    """By the search that is remembered, or by a new one."""
    if found is None:
        found = _search(bench, options, reference)
    made = bench.prepare(found.winner, 0.99, 1.0)
    bench.progress("ready", 1.0)
    asked = bench.settings.engine.precision
    report = guard_report(found, asked, bench.thresholds, synthetic=made.synthetic)
    return _selected(found.winner, made, report, found)


def _search(bench: Bench, options: Sequence[Candidate], reference: Candidate) -> Search:
    began_s = time.monotonic()
    rows = search(bench, options, reference)
    best = rows[0]
    winner = reference if best.excluded else best.candidate
    found = Search(winner=winner, rows=rows, took_s=time.monotonic() - began_s)
    failed = [row for row in rows if row.passing]
    if not failed:
        searches(bench).write(_entry_name(bench), search_ingredients(bench, options), found)
    for row in failed:
        logger.warning(
            "%s could not be measured, and the next start tries again: %s",
            row.candidate.name,
            row.excluded,
        )
    return found


def _selected(
    candidate: Candidate, made: Artefact, report: AccuracyReport | None, found: Search | None
) -> Selected:
    return Selected(
        backend=candidate.backend,
        precision=candidate.precision,
        model=boot_model(made, report, "" if found is None else found.sentence()),
        search=found,
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
    place = bench.settings.placement
    return {
        "model": exact.key,
        **made,
        "options": ", ".join(bench.title(option) for option in options),
        "runners": runners(options),
        "mode": settings.model.mode.value,
        "max-batch": str(settings.queue.max_batch),
        "allocator": f"{place.allocator.value}, huge pages {place.huge_pages}",
        "cpu": bench.cpu_model,
        "isa": " ".join(sorted(bench.isa)),
        "cores": str(bench.pen.cores),
        "thresholds": str(bench.thresholds),
        "pictures": pictures_name(bench, synthetic=weights.synthetic),
        "worker python": settings.engine.worker_python or "",
        **versions(sorted(packages())),
    }


def searches(bench: Bench) -> JsonCache[Search]:
    """The searches that are cached."""
    folder = Path(bench.settings.model.cache_dir) / "profiles"
    return JsonCache(folder, Search, format_number=SEARCH_FORMAT, title="search")


def _entry_name(bench: Bench) -> str:
    return f"{bench.spec.name}-{bench.settings.model.mode.value}"


def remembered(bench: Bench, options: Sequence[Candidate], reference: Candidate) -> Search | None:
    """The search among these that is cached; one that cannot be gone by is a warning and None."""
    cache, ingredients = searches(bench), search_ingredients(bench, options)
    found = cache.read(_entry_name(bench), ingredients)
    if found is not None and not _usable(found, [*options, reference]):
        file = cache.file(_entry_name(bench), ingredients)
        logger.warning("the cached search %s contradicts itself, and is made again", file)
        return None
    return found


def _usable(found: Search, options: Sequence[Candidate]) -> bool:
    """Whether the winner is one of these, and was compared where that is asked of it."""
    if found.winner.precision is Precision.FP32:
        return found.winner in options
    rows = [row for row in found.rows if row.candidate == found.winner]
    compared = any(row.fidelity is not None and not row.excluded for row in rows)
    return found.winner in options and compared
