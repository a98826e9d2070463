"""Which engine and precision serve: what was asked for, what a search found, what the guard says.

Asked for by name, backend and precision both, an arithmetic serves; the guard only warns. Where
either is ``auto``, all that passes the guard is measured once, and the outcome is cached by all
that it depends on: model, weights, mode, CPU, cores of a worker, engines' versions, thresholds.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from corral import guard, optimize, topology
from corral.artefact import Artefact, artefact_key, source_digest, versions
from corral.choice import Candidate, Row, Search, candidates, packages
from corral.config import BackendName, Precision, Settings
from corral.errors import ConfigError
from corral.guard import GuardReport
from corral.messages import ModelBoot
from corral.plan import PlannedWorker
from corral.search import Bench, boot_model, measure_fidelity, search, write_json

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
        ConfigError: the CPU, or what is installed, lacks it.
        ModelError: weights, frameworks or disk do not allow it.
    """
    machine = topology.read_machine()
    optimize.resolve_precision(settings.precision, machine.isa)
    bench = Bench(
        settings=settings,
        pen=pen,
        environ=environ,
        isa=machine.isa,
        cpu_model=machine.model_name,
        progress=progress,
    )
    if not bench.spec.takes_pictures:
        return _unguarded(bench)
    if BackendName.AUTO is not settings.backend and Precision.AUTO is not settings.precision:
        return _as_asked(bench)
    installed = {name for name in packages() if importlib.util.find_spec(name) is not None}
    asked = (settings.backend, settings.precision, machine.isa, installed)
    options = candidates(*asked, every=every)
    # What was measured in full counts for every start that follows.
    whole = candidates(*asked, every=True)
    if not again and _profile_file(bench, whole).exists():
        options = whole
    exact = candidates(settings.backend, Precision.FP32, machine.isa, installed)
    if not options or not exact:
        raise ConfigError(
            f"--backend {settings.backend} --precision {settings.precision}: nothing that is "
            "installed can do that; pip install 'corral[openvino,torch]'"
        )
    if options == exact[:1]:
        made = bench.prepare(options[0], 0.0, 1.0)
        progress("ready", 1.0)
        return _selected(options[0], made, None, None)
    return _searched(bench, options, exact[0], again=again)


def _unguarded(bench: Bench) -> Selected:
    """What takes no pictures cannot be compared on any: FP32, or what was asked for by name."""
    settings = bench.settings
    auto = settings.backend is BackendName.AUTO
    asked = Candidate(
        backend=BackendName.OPENVINO if auto else settings.backend,
        precision=Precision(optimize.resolve_precision(settings.precision, bench.isa)),
    )
    return _selected(asked, bench.prepare(asked, 0.0, 1.0), None, None)


def _as_asked(bench: Bench) -> Selected:
    settings = bench.settings
    asked = Candidate(backend=settings.backend, precision=settings.precision)
    if asked.precision is Precision.FP32:
        made = optimize.prepare(settings, bench.progress, bench.isa)
        return _selected(asked, made, None, None)
    reference = Candidate(backend=settings.backend, precision=Precision.FP32)
    made = bench.prepare(asked, 0.0, 0.7)
    exact = bench.prepare(reference, 0.7, 0.7)
    fidelity = measure_fidelity(bench, asked, made, reference, exact)
    bench.progress("ready", 1.0)
    report = GuardReport(
        candidate=asked.name,
        fidelity=fidelity,
        faults=guard.faults(fidelity, bench.thresholds, synthetic=made.synthetic),
    )
    return _selected(asked, made, report, None)


def _searched(
    bench: Bench, options: list[Candidate], reference: Candidate, *, again: bool
) -> Selected:
    file = _profile_file(bench, options)
    found = None if again else _load(file)
    if found is None:
        began_s = time.monotonic()
        rows = search(bench, options, reference)
        best = rows[0]
        winner = reference if best.excluded else best.candidate
        found = Search(winner=winner, rows=rows, took_s=time.monotonic() - began_s)
        failed = [row for row in rows if row.passing]
        if not failed:
            write_json(file, found)
        for row in failed:
            logger.warning(
                "%s could not be measured, and the next start tries again: %s",
                row.candidate.name,
                row.excluded,
            )
    made = bench.prepare(found.winner, 0.99, 1.0)
    bench.progress("ready", 1.0)
    return _selected(found.winner, made, _report(bench, found, made), found)


def _report(bench: Bench, found: Search, made: Artefact) -> GuardReport | None:
    """The guard's words on the winner, or on what FP32 serves in place of."""
    if found.winner.precision is Precision.FP32:
        refused = [row for row in found.rows if row.fidelity is not None and row.excluded]
        rows: list[Row] = refused[:1]
    else:
        rows = [row for row in found.rows if row.candidate == found.winner]
    for row in rows:
        assert row.fidelity is not None
        found_faults = guard.faults(row.fidelity, bench.thresholds, synthetic=made.synthetic)
        return GuardReport(
            candidate=row.candidate.name,
            fidelity=row.fidelity,
            faults=found_faults,
            fell_back=bool(found_faults),
        )
    return None


def _selected(
    candidate: Candidate, made: Artefact, report: GuardReport | None, found: Search | None
) -> Selected:
    return Selected(
        backend=candidate.backend,
        precision=candidate.precision,
        model=boot_model(made, report, "" if found is None else found.sentence()),
        search=found,
    )


def _profile_file(bench: Bench, options: list[Candidate]) -> Path:
    settings = bench.settings
    spec = bench.spec
    cache_dir = Path(settings.cache_dir)
    weights = spec.find_weights(settings.weights, cache_dir, settings.offline)
    order = optimize.make_order(spec, weights, "fp32", bench.isa)
    here = Path(__file__)
    sources = [here, *(here.with_name(f"{name}.py") for name in ("search", "choice", "guard"))]
    key = artefact_key(
        {
            "model": order.key,
            "options": ", ".join(option.name for option in options),
            "mode": settings.mode.value,
            "max-batch": str(settings.max_batch),
            "allocator": f"{settings.allocator.value}, huge pages {settings.huge_pages}",
            "cpu": bench.cpu_model,
            "isa": " ".join(sorted(bench.isa)),
            "cores": str(bench.pen.cores),
            "thresholds": str(bench.thresholds),
            "source": source_digest(sources),
            **versions(sorted(packages())),
        }
    )
    return cache_dir / "profiles" / f"{spec.name}-{settings.mode.value}-{key[:12]}.json"


def _load(file: Path) -> Search | None:
    """The cached search; a broken one is a warning and None."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Search)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("the cached choice %s is made again: %s", file, error)
        return None
