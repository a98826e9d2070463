"""Which engine and precision serve: what was asked for, what a search found, what the guard says.

Asked for by name, backend and precision both, an arithmetic serves; the guard only warns. Where
either is ``auto``, all that passes the guard is measured once, and cached by what it depends on.
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
from corral.artifacts.order import versions
from corral.artifacts.served_model import boot_model
from corral.artifacts.store import Artefact
from corral.backends.calibration import own_pictures
from corral.backends.registry import DEFAULT, packages
from corral.errors import ConfigError
from corral.ipc.messages import ModelBoot
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Precision, Settings
from corral.system.limits import refuses_executable_memory
from corral.tuning.accuracy import evaluation_pictures, measure_fidelity, pictures_name, runners
from corral.tuning.bench import Bench, make_bench
from corral.tuning.candidates import Candidate, Search, candidates, guard_report
from corral.tuning.fallback import first_that_runs, is_judged, is_measured
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
    apart: Callable[[Settings], object] | None = None,
) -> Selected:
    """Settles backend and precision, and prepares the model for them.

    Args:
        settings: either may be auto.
        pen: what a worker gets; trials run there.
        environ: this process's environment.
        progress: told what is being done.
        again: measure even where a cached search says who wins.
        every: measure also what takes minutes to prepare; later starts go by that search.
        apart: see Bench.

    Raises:
        ConfigError: the CPU, the torch mode, or what is installed, lacks it.
        ModelError: weights, frameworks or disk do not allow it.
    """
    bench = make_bench(settings, pen, environ, progress, apart)
    precision = Precision(build.resolve_precision(settings.engine.precision, bench.isa))
    # A mode that cannot run what was named is told before minutes are spent on preparing it.
    bench.title(Candidate(backend=settings.engine.backend, precision=precision))
    installed = {name for name in packages() if importlib.util.find_spec(name) is not None}
    _check_pictures(bench)
    if not is_judged(bench):
        return _uncompared(bench, precision, installed, again=again)
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
        found = remembered(bench, whole, *exact)
        if found is None and options != whole:
            found = remembered(bench, options, *exact)
    if found is None and options == exact[:1]:
        made = bench.prepare(options[0], 0.0, 1.0)
        progress("ready", 1.0)
        return _selected(options[0], made, None, None)
    return by_search(bench, options, _reference(bench, exact, found), found)


def _reference(bench: Bench, exact: Sequence[Candidate], found: Search | None) -> Candidate:
    """What others are compared with, and what serves where none of them will do: FP32 that runs."""
    if found is not None or len(exact) == 1:
        return exact[0]
    return first_that_runs(bench, exact)[0].winner


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


def _uncompared(
    bench: Bench, precision: Precision, installed: Set[str], *, again: bool
) -> Selected:
    if bench.spec.quantized:
        return as_it_is(bench, installed, again=again)
    return without_pictures(bench, precision, installed, again=again)


def without_pictures(
    bench: Bench, precision: Precision, installed: Set[str], *, again: bool = False
) -> Selected:
    """What takes no pictures cannot be compared on any: FP32, or what was asked for by name."""
    # One that is missing gets its own error.
    options = options_for(bench, precision, installed) or [_default(bench, precision)]
    chosen, made = _first(bench, options, again=again)
    report = None
    if precision is not Precision.FP32:
        report = AccuracyReport(candidate=chosen.name, fidelity=None, faults=[])
    return _selected(chosen, made, report, None)


def as_it_is(bench: Bench, installed: Set[str], *, again: bool = False) -> Selected:
    """A file that is in INT8 already, on the engine that is fastest with it.

    No precision changes it; without pictures to measure on, the first engine that runs it serves.
    """
    asked = bench.settings.engine.precision
    if asked not in {Precision.AUTO, Precision.INT8}:
        logger.warning(
            "--precision %s: %s is in INT8 already, and serves as it is", asked, bench.spec.file
        )
    able = options_for(bench, Precision.FP32, installed) or [_default(bench, Precision.FP32)]
    options = [msgspec.structs.replace(one, precision=Precision.INT8) for one in able]
    if not is_measured(bench) or len(options) == 1:
        return _selected(*_first(bench, options, again=again), None, None)
    found = None if again else remembered(bench, options)
    return by_search(bench, options, _reference(bench, options, found), found)


def _default(bench: Bench, precision: Precision) -> Candidate:
    asked = bench.settings.engine.backend
    return Candidate(backend=DEFAULT if asked is BackendName.AUTO else asked, precision=precision)


def _first(
    bench: Bench, options: Sequence[Candidate], *, again: bool
) -> tuple[Candidate, Artefact]:
    """The first that runs. Later starts go by that."""
    if len(options) == 1:
        return options[0], bench.prepare(options[0], 0.0, 1.0)
    found = None if again else remembered(bench, options)
    if found is not None:
        return found.winner, bench.prepare(found.winner, 0.0, 1.0)
    found, made = first_that_runs(bench, options)
    _remember(bench, options, found)
    return found.winner, made


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
    found = found or _search(bench, options, reference)
    made = bench.prepare(found.winner, 0.99, 1.0)
    bench.progress("ready", 1.0)
    asked = bench.settings.engine.precision
    report = None
    if not bench.spec.quantized:
        report = guard_report(found, asked, bench.thresholds, synthetic=made.synthetic)
    return _selected(found.winner, made, report, found)


def _search(bench: Bench, options: Sequence[Candidate], reference: Candidate) -> Search:
    began_s = time.monotonic()
    rows = search(bench, options, reference)
    best = rows[0]
    winner = reference if best.excluded else best.candidate
    found = Search(winner=winner, rows=rows, took_s=time.monotonic() - began_s)
    _remember(bench, options, found)
    return found


def _remember(bench: Bench, options: Sequence[Candidate], found: Search) -> None:
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
