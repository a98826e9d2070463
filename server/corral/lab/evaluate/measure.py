"""Runs labelled pictures through each candidate's own worker, one after another in turns."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.accuracy import compare, faults, why_noise
from corral.errors import ConfigError, ModelError, PictureError
from corral.images.picture_folder import PictureFolder
from corral.ipc.messages import ModelBoot
from corral.lab.evaluate.results import EvaluationRow, row
from corral.models import pictures
from corral.models.labels import labels_of
from corral.settings import Mode, Precision
from corral.tensors import Signature
from corral.tuning import prepare, trial_worker
from corral.tuning.accuracy import as_floats
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate
from corral.tuning.fallback import float_outputs
from corral.tuning.trial_worker import Trial, TrialOrder

#: the batch that stands for large ones in throughput mode
_LARGE_BATCH = 8


@dataclasses.dataclass
class _Running:
    """A candidate whose worker is up."""

    candidate: Candidate
    model: ModelBoot
    trial: Trial
    logits: list[NDArray[np.float32]]
    seconds: list[float]
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What is known of all candidates.

    Attributes:
        rows: every candidate's, in order.
        model: what was served of the first.
        pictures: that all have answered; fewer than there are where a signal came.
    """

    rows: list[EvaluationRow]
    model: ModelBoot
    pictures: int


def answers_scores(signature: Signature) -> bool:
    """Whether its answer can be scores of classes: one output of floats, all along one dimension.

    Exporters leave an average pool's [classes,1,1] as it is.
    """
    floats = float_outputs(signature)
    return len(floats) == len(signature.output_specs) == 1 and (
        max(floats[0].shape, default=0) == floats[0].size
    )


def batch_size(bench: Bench) -> int:
    """Of the batches that pictures are run in."""
    most = bench.settings.queue.max_batch or _LARGE_BATCH
    return 1 if bench.settings.model.mode is Mode.RTI else min(most, _LARGE_BATCH)


def evaluate(
    bench: Bench,
    options: Sequence[Candidate],
    folder: PictureFolder,
    progress: Callable[[str, float], None],
) -> Evaluated:
    """Every candidate's row, in order, and what was served of the first.

    Args:
        bench: where.
        options: what is evaluated; the first FP32 among them is what others are compared with.
        folder: labelled pictures.
        progress: told what is being done and the share of the whole.

    Raises:
        PictureError: a picture cannot be read.
        ModelError: not one candidate could be run.
        KeyboardInterrupt: a signal came before anything was known.
    """
    failed: dict[Candidate, str] = {}
    with contextlib.ExitStack() as stack:
        running: list[_Running] = []
        for number, candidate in enumerate(options):
            progress(f"prepare {candidate.name}", 0.5 * number / len(options))
            try:
                running.append(_start(bench, candidate, stack))
            except PictureError:
                raise
            except (ModelError, ConfigError) as error:
                failed[candidate] = str(error)
        if not running:
            raise ModelError(next(iter(failed.values())))
        try:
            _run(bench, running, folder, progress)
        except KeyboardInterrupt:
            # Minutes of measuring are not lost.
            if not _answered(running):
                raise
    labels = np.asarray(folder.labels)[: _answered(running)]
    rows = _rows(bench, running, labels)
    for candidate, reason in failed.items():
        rows[candidate] = EvaluationRow(candidate=candidate.name, reason=reason)
    return Evaluated(
        rows=[rows[candidate] for candidate in options],
        model=running[0].model,
        pictures=len(labels),
    )


def _start(bench: Bench, candidate: Candidate, stack: contextlib.ExitStack) -> _Running:
    settings = bench.settings_for(candidate)
    model = prepare.make_apart(settings)
    order = TrialOrder(
        settings=settings,
        model=model,
        signature=bench.spec.signature,
        cpus=bench.pen.cpus,
        memory_node=bench.pen.memory_node,
        sizes=sorted({1, batch_size(bench)}),
        datatype=bench.spec.native,
    )
    trial = stack.enter_context(trial_worker.start(order, bench.environ))
    return _Running(candidate, model, trial, [], [])


def _run(
    bench: Bench,
    running: Sequence[_Running],
    folder: PictureFolder,
    progress: Callable[[str, float], None],
) -> None:
    size, native = batch_size(bench), bench.spec.native
    (scores,) = bench.spec.signature.output_specs
    for begin in range(0, len(folder), size):
        progress("evaluate", 0.5 + 0.5 * begin / len(folder))
        chosen = range(begin, min(begin + size, len(folder)))
        pixels = np.stack([folder.crop(index, bench.spec.recipe) for index in chosen])
        batch = pictures.as_input(pixels, bench.spec)
        for one in running:
            if one.reason:
                continue
            try:
                # What does not fill a batch was compiled for one picture alone.
                parts = [batch] if len(batch) == size else np.split(batch, len(batch))
                for part in parts:
                    took_s, answers = one.trial.batch(part, native)
                    floats = as_floats(answers, scores.datatype)
                    one.logits.append(floats.astype(np.float32, copy=False))
                    if len(part) == size:
                        one.seconds.append(took_s)
            except ModelError as error:
                one.reason = str(error)


def _answered(running: Sequence[_Running]) -> int:
    """How many pictures have all answers of those that did not fail."""
    counts = [sum(map(len, one.logits)) for one in running if not one.reason]
    return min(counts, default=0)


def _rows(
    bench: Bench, running: Sequence[_Running], labels: NDArray[np.intp]
) -> dict[Candidate, EvaluationRow]:
    names, size = labels_of(bench.spec), batch_size(bench)
    exact: NDArray[np.float32] | None = None
    rows = {}
    for one in running:
        if one.reason:
            rows[one.candidate] = EvaluationRow(candidate=one.candidate.name, reason=one.reason)
            continue
        logits = np.concatenate(one.logits)[: len(labels)].reshape(len(labels), -1)
        rate = size / statistics.median(one.seconds) if one.seconds else 0.0
        found = row(one.candidate.name, logits, labels, names, rate)
        found = msgspec.structs.replace(found, remark=one.model.remark)
        if exact is None and one.candidate.precision is Precision.FP32:
            exact = logits
        elif exact is not None:
            fidelity = compare(exact, logits, labels=labels)
            found = msgspec.structs.replace(
                found,
                fidelity=fidelity,
                faults=faults(fidelity, bench.thresholds, synthetic=one.model.synthetic),
                why_snr=why_noise(fidelity, bench.thresholds, synthetic=one.model.synthetic),
            )
        rows[one.candidate] = found
    return rows
