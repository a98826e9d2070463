"""A search: candidates are prepared, compared with FP32, and measured in turns on their own CPUs.

All candidates' workers are up at once and take turns of a fraction of a second, so that what
else happens on the machine meets all of them alike. Only one computes at a time.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Collection, Mapping, Sequence

import msgspec

from corral.accuracy import faults
from corral.artifacts.store import Artefact
from corral.errors import ConfigError, CorralError, ModelError, PassingError, PictureError
from corral.models.evaluation import guard_pictures
from corral.settings import Mode, Precision, Settings
from corral.system.limits import memory_left
from corral.system.other_load import OtherLoad, watched
from corral.tensors import Datatype
from corral.tuning import trial_worker
from corral.tuning.accuracy import measure_fidelity
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate, Row, rank
from corral.tuning.trial_worker import Trial

logger = logging.getLogger(__name__)

_ROUNDS = 6
_TURN_S = 0.4
#: the batch that stands for large ones in throughput mode
_LARGE_BATCH = 8
#: what a worker is taken to need beside its weights, and how often it is taken to hold those
_WORKER_BYTES = 250 * 10**6
_COPIES = 3


def search(
    bench: Bench, options: Sequence[Candidate], reference: Candidate, load: OtherLoad
) -> list[Row]:
    """Prepares, guards and measures; returns the best first, those excluded last.

    Args:
        bench: where and how.
        options: what to choose from.
        reference: the FP32 candidate that others are compared with.
        load: told what others took of the CPUs meanwhile.

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
        except PictureError:
            raise
        except (ModelError, ConfigError) as error:
            row = _failed(Row(candidate=candidate), error)
        rows.append(row)
    left = [row.candidate for row in rows if not row.excluded]
    if len(left) < 2:
        return rank(rows, bench.settings.model.mode)
    with watched(bench.pen.cpus, load):
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
    # A file that was quantized elsewhere has no FP32 to be compared with.
    if candidate.precision is Precision.FP32 or bench.spec.quantized:
        return Row(candidate=candidate)
    # It would be another candidate's equal by another name; who asks for it by name gets it.
    if made.remark and bench.settings.engine.precision is Precision.AUTO:
        return Row(candidate=candidate, excluded=made.remark)
    fidelity = measure_fidelity(bench, candidate, made, reference, exact)
    found = faults(fidelity, bench.thresholds, synthetic=made.synthetic)
    excluded = f"the guard refuses it ({', '.join(found)})" if found else ""
    return Row(candidate=candidate, fidelity=fidelity, remark=made.remark, excluded=excluded)


def measure_speeds(
    bench: Bench, ready: Mapping[Candidate, Artefact]
) -> dict[Candidate, dict[int, float] | ModelError]:
    """Median seconds of a batch by candidate and batch size, or why there are none.

    They take turns, so that what else happens meets all alike. Where memory is short, one is
    measured after the other; and so is what died beside others.
    """
    spent_s = _ROUNDS * _TURN_S * len(_sizes(bench.settings)) * len(ready)
    logger.info("measuring %d candidates, for about %.0f s", len(ready), spent_s + 3 * len(ready))
    if not memory_for(ready.values()):
        logger.warning("memory is short: candidates are measured one after another")
        return {one: _measured(bench, {one: made})[one] for one, made in ready.items()}
    found = _measured(bench, ready)
    for one, speed in list(found.items()):
        if isinstance(speed, PassingError) and len(ready) > 1:
            found |= _measured(bench, {one: ready[one]})
    return found


def memory_for(made: Collection[Artefact]) -> bool:
    """Whether there is memory for workers of all of these at once, as far as one can tell."""
    left = memory_left()
    if left is None:
        return True
    files = [file for one in made if one.path.is_file() for file in one.path.parent.iterdir()]
    weights = sum(file.stat().st_size for file in files)
    return left >= len(made) * _WORKER_BYTES + _COPIES * weights


def _measured(
    bench: Bench, ready: Mapping[Candidate, Artefact]
) -> dict[Candidate, dict[int, float] | ModelError]:
    """The same of workers that are all up at once."""
    sizes = _sizes(bench.settings)
    native = bench.spec.native
    inputs = guard_pictures(bench.spec, max(sizes))
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
