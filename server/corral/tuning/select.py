"""Which engine and precision serve: what was asked for, what a search found, what the guard says.

Asked for by name, backend and precision both, an arithmetic serves; the guard only warns. Where
either is ``auto``, all that passes the guard is measured once, and cached by what it depends on.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set

import msgspec

from corral import accuracy, extras
from corral.accuracy import AccuracyReport
from corral.artifacts import build
from corral.artifacts.served_model import boot_model
from corral.artifacts.store import Artefact
from corral.backends.calibration import own_pictures
from corral.backends.registry import DEFAULT
from corral.errors import ConfigError
from corral.ipc.messages import ModelBoot
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Precision, Settings
from corral.system.other_load import OtherLoad, is_doubtful, kept
from corral.tuning.accuracy import (
    NothingToCompareError,
    evaluation_pictures,
    measure_fidelity,
)
from corral.tuning.bench import Bench, make_bench
from corral.tuning.candidates import Candidate, Search, candidates, guard_report
from corral.tuning.fallback import first_that_runs, is_judged, is_measured, judges_outputs
from corral.tuning.installed import is_made_elsewhere, what_is_installed
from corral.tuning.search import search
from corral.tuning.search_cache import remember, remembered
from corral.tuning.turns import my_turn

logger = logging.getLogger(__name__)


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
    installed = what_is_installed(bench)
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
            f"that is installed can do that; {extras.install(DEFAULT, 'torch')}"
        )
    # What was measured in full counts for every start that follows.
    whole = options_for(bench, settings.engine.precision, installed, every=True)
    look = functools.partial(_look, bench, [] if again else [whole, options], exact)
    found = look()
    if found is None and options == exact[:1]:
        made = bench.prepare(options[0], 0.0, 1.0)
        progress(build.READY, 1.0)
        return _selected(options[0], made, None, None)
    if found is None or is_doubtful(found):
        found = _search_alone(bench, options, exact, look)
    return by_search(bench, found)


def _look(
    bench: Bench, among: Sequence[list[Candidate]], exact: Sequence[Candidate]
) -> Search | None:
    """The first search that is cached among these options, or those."""
    for number, options in enumerate(among):
        found = None if options in among[:number] else remembered(bench, options, *exact)
        if found is not None:
            return found
    return None


def _search_alone(
    bench: Bench,
    options: Sequence[Candidate],
    exact: Sequence[Candidate],
    look: Callable[[], Search | None],
) -> Search:
    """Searches when nobody else on this machine does."""
    before = look()
    with my_turn(lambda text: bench.progress(text, 0.0)) as waited:
        # Whoever was waited for may have measured the same, for the same cache.
        found = look() if waited else None
        if found is None or found == before:
            found = search_again(bench, options, _reference(bench, exact), before)
        return found


def _reference(bench: Bench, exact: Sequence[Candidate]) -> Candidate:
    """What others are compared with, and what serves where none of them will do: FP32 that runs."""
    return exact[0] if len(exact) == 1 else first_that_runs(bench, exact)[0].winner


def _check_pictures(bench: Bench) -> None:
    """A user's own pictures, before minutes are spent on preparing."""
    accuracy = bench.settings.accuracy
    for name in ("calibration", "evaluation"):
        path = getattr(accuracy, name)
        if path is not None and not bench.spec.takes_pictures:
            raise ConfigError(f"--{name} {path}: {bench.settings.model.name} takes no pictures")
    judging = evaluation_pictures(bench)
    calibrating = None if accuracy.calibration is None else own_pictures(accuracy.calibration)
    told = [line for found in (judging, calibrating) if found is not None for line in found.told()]
    if judging is not None and calibrating is not None:
        told.append(judging.told_seen(calibrating))
    for line in filter(None, told):
        logger.warning("%s", line)


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
                made = is_made_elsewhere(bench, option)
                settings = bench.settings_for(option)
                build.check_engine(settings, spec, option.precision.value, is_made=made)
            found.append(option)
    return found


def _uncompared(
    bench: Bench, precision: Precision, installed: Set[str], *, again: bool
) -> Selected:
    if bench.spec.quantized:
        return as_it_is(bench, installed, again=again)
    if judges_outputs(bench):
        return several_outputs(bench, precision, installed, again=again)
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


def several_outputs(
    bench: Bench, precision: Precision, installed: Set[str], *, again: bool = False
) -> Selected:
    """A model of several outputs, or one of integers: FP32, or what was asked for, judged.

    Nothing is searched. What fails serves with a warning where backend and precision were named,
    else FP32 on the same engine does.
    """
    found = without_pictures(bench, precision, installed, again=again)
    chosen = Candidate(backend=found.backend, precision=found.precision)
    if chosen.precision is Precision.FP32:
        return found
    reference = msgspec.structs.replace(chosen, precision=Precision.FP32)
    # Both are in the cache, or are made once.
    made, exact = bench.prepare(chosen, 0.5, 0.6), bench.prepare(reference, 0.6, 0.7)
    try:
        fidelity = measure_fidelity(bench, chosen, made, reference, exact)
    except NothingToCompareError as error:
        bench.progress(build.READY, 1.0)
        report = AccuracyReport(candidate=chosen.name, fidelity=None, faults=[str(error)])
        return _selected(chosen, made, report, None)
    bench.progress(build.READY, 1.0)
    too_low = accuracy.faults(fidelity, bench.thresholds, synthetic=made.synthetic)
    falls_back = bool(too_low) and bench.settings.engine.is_searched
    report = AccuracyReport(
        candidate=chosen.name, fidelity=fidelity, faults=too_low, fell_back=falls_back
    )
    if falls_back:
        return _selected(reference, exact, report, None)
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
    look = functools.partial(_look, bench, [] if again else [options], ())
    found = look()
    if found is None or is_doubtful(found):
        found = _search_alone(bench, options, options, look)
    return by_search(bench, found)


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
    remember(bench, options, found)
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
    bench.progress(build.READY, 1.0)
    report = AccuracyReport(
        candidate=asked.name,
        fidelity=fidelity,
        faults=accuracy.faults(fidelity, bench.thresholds, synthetic=made.synthetic),
    )
    return _selected(asked, made, report, None)


def by_search(bench: Bench, found: Search) -> Selected:
    """What a search says, made ready."""
    made = bench.prepare(found.winner, 0.99, 1.0)
    bench.progress(build.READY, 1.0)
    asked = bench.settings.engine.precision
    report = None
    if not bench.spec.quantized:
        report = guard_report(found, asked, bench.thresholds, synthetic=made.synthetic)
    return _selected(found.winner, made, report, found)


def search_again(
    bench: Bench, options: Sequence[Candidate], reference: Candidate, before: Search | None
) -> Search:
    """Searches, and remembers the less disturbed of this time and the one ``before``."""
    began_s = time.monotonic()
    load = OtherLoad()
    rows = search(bench, options, reference, load)
    best = rows[0]
    winner = reference if best.excluded else best.candidate
    took_s = time.monotonic() - began_s
    measured = Search(winner=winner, rows=rows, took_s=took_s, other_load=load.share)
    found = kept(measured, before)
    if is_doubtful(found):
        logger.warning(
            "others took %.0f %% of the CPUs while engines were compared: the next start compares "
            "them again",
            load.share * 100,
        )
    remember(bench, options, found)
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
