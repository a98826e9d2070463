"""A search: candidates are prepared, compared with FP32, and measured in turns on their own CPUs.

All candidates' workers are up at once and take turns of a fraction of a second, so that what
else happens on the machine meets all of them alike. Only one computes at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity, Thresholds, compare, faults
from corral.artifacts import build
from corral.artifacts.json_cache import JsonCache
from corral.artifacts.served_model import boot_model
from corral.artifacts.store import Artefact, versions
from corral.backends.registry import ENGINES, packages, resolve_mode
from corral.errors import ConfigError, CorralError, ModelError, PassingError
from corral.models import photos, registry
from corral.models.evaluation import guard_pictures
from corral.models.spec import ModelSpec
from corral.planning.plan import PlannedWorker
from corral.settings import Mode, Precision, Settings
from corral.tensors import Datatype
from corral.tuning import trial_worker
from corral.tuning.candidates import Candidate, Row, rank
from corral.tuning.trial_worker import Trial, TrialOrder

logger = logging.getLogger(__name__)

#: raise it whenever a fidelity is measured in another way, or Fidelity changes
FIDELITY_FORMAT = 1
#: pictures that the guard compares on
GUARD_PICTURES = 64
_ROUNDS = 6
_TURN_S = 0.4
#: the batch that stands for large ones in throughput mode
_LARGE_BATCH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and how candidates are tried.

    Attributes:
        settings: of the server; backend and precision are replaced by each candidate's.
        pen: a worker's CPUs and memory node.
        environ: this process's environment.
        isa: the CPU's flags.
        cpu_model: the CPU's name.
        progress: told what is being done and the share of the whole, 0 to 1.
    """

    settings: Settings
    pen: PlannedWorker
    environ: Mapping[str, str]
    isa: frozenset[str]
    cpu_model: str
    progress: Callable[[str, float], None]

    def settings_for(self, candidate: Candidate) -> Settings:
        """The server's settings with a candidate's engine and precision."""
        return self.settings.replace(backend=candidate.backend, precision=candidate.precision)

    def title(self, candidate: Candidate) -> str:
        """Its name, with the mode that torch runs it in: "torch int8 compile".

        Raises:
            ConfigError: torch cannot run this precision in the mode that was asked for.
        """
        asked = self.settings.engine.torch_mode
        mode = resolve_mode(asked, candidate.backend, candidate.precision.value)
        return candidate.name if mode is None else f"{candidate.name} {mode.value}"

    def prepare(self, candidate: Candidate, begin: float, end: float) -> Artefact:
        """Its artefact; progress goes from ``begin`` to ``end``."""

        def progress(phase: str, share: float) -> None:
            if phase != "ready":
                self.progress(f"{candidate.name}: {phase}", begin + share * (end - begin))

        return build.prepare(self.settings_for(candidate), progress, self.isa)

    @property
    def thresholds(self) -> Thresholds:
        """What passes the guard."""
        return Thresholds(
            top1=self.settings.accuracy.top1,
            cosine=self.settings.accuracy.cosine,
            snr_db=self.settings.accuracy.snr_db,
        )

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return registry.get(self.settings.model.name, self.settings.model.shape)

    def order(self, candidate: Candidate, made: Artefact, sizes: Sequence[int]) -> TrialOrder:
        """A worker under trial, as it would serve."""
        return TrialOrder(
            settings=self.settings_for(candidate),
            model=boot_model(made),
            signature=self.spec.signature,
            cpus=self.pen.cpus,
            memory_node=self.pen.memory_node,
            sizes=sizes,
            datatype=self.spec.native,
        )


def measure_fidelity(
    bench: Bench, candidate: Candidate, made: Artefact, reference: Candidate, exact: Artefact
) -> Fidelity:
    """How close a candidate is to FP32: from the cache, else measured and cached.

    Args:
        bench: where.
        candidate: what is judged, prepared as ``made``.
        made: its artefact.
        reference: the FP32 candidate, prepared as ``exact``.
        exact: its artefact.

    Raises:
        ModelError: a worker failed.
        ConfigError: torch cannot run the precision in the mode that was asked for.
    """
    cache = _fidelities(bench)
    ingredients = fidelity_ingredients(bench, candidate, made, reference, exact)
    known = cache.read(made.model, ingredients)
    if known is not None:
        return known
    bench.progress(f"guard: {candidate.name} against FP32", 0.7)
    inputs = guard_pictures(bench.spec, GUARD_PICTURES)
    expected = _answers(bench, reference, exact, inputs)
    fidelity = compare(expected, _answers(bench, candidate, made, inputs))
    cache.write(made.model, ingredients, fidelity)
    return fidelity


def _answers(
    bench: Bench, candidate: Candidate, made: Artefact, inputs: NDArray[np.generic]
) -> NDArray[np.float32]:
    with trial_worker.start(bench.order(candidate, made, [1]), bench.environ) as trial:
        return trial.answer(inputs, bench.spec.native)


def fidelity_ingredients(
    bench: Bench, candidate: Candidate, made: Artefact, reference: Candidate, exact: Artefact
) -> dict[str, str]:
    """All that a candidate's fidelity depends on, by name; see measure_fidelity."""
    return {
        "artefact": made.key,
        "reference": exact.key,
        "candidate": f"{bench.title(candidate)} against {bench.title(reference)}",
        "runners": runners([candidate, reference]),
        "cpu": bench.cpu_model,
        "isa": " ".join(sorted(bench.isa)),
        "cores": str(bench.pen.cores),
        "pictures": guard_pictures_name(),
        "worker python": bench.settings.engine.worker_python or "",
        **versions(sorted(packages())),
    }


def _fidelities(bench: Bench) -> JsonCache[Fidelity]:
    folder = Path(bench.settings.model.cache_dir) / "guard"
    return JsonCache(folder, Fidelity, format_number=FIDELITY_FORMAT, title="guard result")


def runners(candidates: Iterable[Candidate]) -> str:
    """How corral runs these candidates' engines, in their backends' own numbers."""
    names = sorted({candidate.backend for candidate in candidates})
    return ", ".join(f"{name.value} {ENGINES[name].revision}" for name in names)


def guard_pictures_name() -> str:
    """What decides which pictures the guard compares on, beside the model's recipe."""
    return f"{GUARD_PICTURES} of {photos.digest()}, cut by format {photos.FORMAT}"


def search(bench: Bench, options: Sequence[Candidate], reference: Candidate) -> list[Row]:
    """Prepares, guards and measures; returns the best first, those excluded last.

    Args:
        bench: where and how.
        options: what to choose from.
        reference: the FP32 candidate that others are compared with.

    Raises:
        ModelError: not even the reference can be prepared.
    """
    exact = bench.prepare(reference, 0.0, 0.3)
    ready: dict[Candidate, Artefact] = {reference: exact}
    rows = []
    for index, candidate in enumerate(options):
        try:
            if candidate not in ready:
                begin = 0.3 + 0.4 * index / len(options)
                ready[candidate] = bench.prepare(candidate, begin, begin + 0.4 / len(options))
            row = _guarded(bench, candidate, ready[candidate], reference, exact)
        except (ModelError, ConfigError) as error:
            row = _failed(Row(candidate=candidate), error)
        rows.append(row)
    left = [row.candidate for row in rows if not row.excluded]
    if len(left) < 2:
        return rank(rows, bench.settings.model.mode)
    speeds = measure_speeds(bench, {candidate: ready[candidate] for candidate in left})
    rows = [_with_speed(row, speeds.get(row.candidate)) for row in rows]
    return rank(rows, bench.settings.model.mode)


def _failed(row: Row, error: CorralError) -> Row:
    return msgspec.structs.replace(
        row, excluded=str(error), passing=isinstance(error, PassingError)
    )


def _guarded(
    bench: Bench, candidate: Candidate, made: Artefact, reference: Candidate, exact: Artefact
) -> Row:
    if candidate.precision is Precision.FP32:
        return Row(candidate=candidate)
    fidelity = measure_fidelity(bench, candidate, made, reference, exact)
    found = faults(fidelity, bench.thresholds, synthetic=made.synthetic)
    excluded = f"the guard refuses it ({', '.join(found)})" if found else ""
    return Row(candidate=candidate, fidelity=fidelity, excluded=excluded)


def measure_speeds(
    bench: Bench, ready: Mapping[Candidate, Artefact]
) -> dict[Candidate, dict[int, float] | ModelError]:
    """Median seconds of a batch by candidate and batch size, or why there are none."""
    sizes = _sizes(bench.settings)
    native = bench.spec.native
    inputs = guard_pictures(bench.spec, max(sizes))
    spent_s = _ROUNDS * _TURN_S * len(sizes) * len(ready)
    logger.info("measuring %d candidates, for about %.0f s", len(ready), spent_s + 3 * len(ready))
    seconds: dict[Candidate, dict[int, list[float]]] = {}
    failed: dict[Candidate, ModelError] = {}
    with contextlib.ExitStack() as stack:
        running: dict[Candidate, Trial] = {}
        for candidate, made in ready.items():
            bench.progress(f"start {candidate.name}", 0.8)
            try:
                order = bench.order(candidate, made, sizes)
                trial = stack.enter_context(trial_worker.start(order, bench.environ))
            except ModelError as error:
                failed[candidate] = error
                continue
            # What engines compute on zeros takes another time than what they compute on data.
            trial.fill(inputs, native)
            running[candidate] = trial
        for turn in range(_ROUNDS):
            bench.progress("measure in turns", 0.85 + 0.15 * turn / _ROUNDS)
            for candidate, trial in list(running.items()):
                try:
                    for size in trial.sizes:
                        by_size = seconds.setdefault(candidate, {})
                        by_size.setdefault(size, []).extend(_turn(trial, native, size))
                except ModelError as error:
                    failed[candidate] = error
                    del running[candidate]
    medians = {
        candidate: {size: statistics.median(spans) for size, spans in turns.items()}
        for candidate, turns in seconds.items()
        if candidate not in failed
    }
    return {**medians, **failed}


def _turn(trial: Trial, datatype: Datatype, size: int) -> list[float]:
    """Runs batches of a size for a fraction of a second; returns each one's seconds."""
    spans: list[float] = []
    end_s = time.monotonic() + _TURN_S
    while not spans or time.monotonic() < end_s:
        spans.append(trial.run(datatype, size))
    return spans


def _sizes(settings: Settings) -> list[int]:
    if settings.model.mode is Mode.RTI:
        return [1]
    return sorted({1, min(settings.queue.max_batch or _LARGE_BATCH, _LARGE_BATCH)})


def _with_speed(row: Row, speed: dict[int, float] | ModelError | None) -> Row:
    if speed is None:
        return row
    if isinstance(speed, ModelError):
        return _failed(row, speed)
    best = max(speed, key=lambda size: size / speed[size])
    return msgspec.structs.replace(
        row, images_per_s=best / speed[best], p50_ms=speed[1] * 1000, batch=best
    )
