"""Climbing: every rung's workers are started, kept, and measured in turns.

All rungs that can run are up at once, and each repeat goes over all of them: what else happens
on the machine meets all alike. Workers that have no turn wait for a packet and compute nothing.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.backends.registry import OWN_ENVIRONMENT, engine
from corral.errors import ConfigError, CorralError
from corral.lab.ladder.answers import Answers, ask
from corral.lab.ladder.results import RungResult, summarise
from corral.lab.ladder.rungs import Rung
from corral.models import registry
from corral.models.evaluation import guard_pictures
from corral.planning.environment import compute_environment
from corral.settings import EngineSettings, Settings
from corral.system.other_load import OtherLoad, watched
from corral.system.rapl import Meter
from corral.tensors import Datatype
from corral.tuning import prepare, trial_worker
from corral.tuning.trial_worker import Trial, TrialOrder

logger = logging.getLogger(__name__)

#: pictures whose answers are compared with the baseline's
FIDELITY_PICTURES = 32
#: what the engine's own defaults still need: see planning.environment
_PLAIN = {"TBB_ENABLE_SANITIZERS": "1"}

#: called with what is being done and the share of the whole, 0 to 1
Climbed = Callable[[str, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a climb happens.

    Attributes:
        settings: model, weights, cache; backend, precision and malloc are the rungs'.
        cpus: one a physical core, all that may be used.
        memory_node: NUMA node, or None.
        environ: this process's environment.
        repeats: turns of every rung.
        seconds: of each turn and batch size.
        meter: of the processors' energy.
        load: told how much of the CPUs others took while rungs took turns.
    """

    settings: Settings
    cpus: Sequence[int]
    memory_node: int | None
    environ: Mapping[str, str]
    repeats: int
    seconds: float
    meter: Meter = dataclasses.field(default_factory=Meter)
    load: OtherLoad = dataclasses.field(default_factory=OtherLoad)


def _by_size() -> dict[int, list[float]]:
    return collections.defaultdict(list)


@dataclasses.dataclass
class _Standing:
    """A rung whose workers are up."""

    rung: Rung
    trials: list[Trial]
    prepare_s: float
    answers: Answers
    native: Datatype
    remark: str
    #: of every batch, images/s and joules an image of every turn, by batch size
    seconds: dict[int, list[float]] = dataclasses.field(default_factory=_by_size)
    rates: dict[int, list[float]] = dataclasses.field(default_factory=_by_size)
    joules: dict[int, list[float]] = dataclasses.field(default_factory=_by_size)


class ClimbInterrupted(KeyboardInterrupt):
    """A signal ended the climb while rungs took turns.

    Attributes:
        rungs: what is known of them.
    """

    def __init__(self, rungs: list[RungResult]) -> None:
        super().__init__()
        self.rungs = rungs


def climb(place: Place, rungs: Sequence[Rung], progress: Climbed) -> list[RungResult]:
    """Measures all rungs; those that cannot run here come back with the reason.

    Raises:
        ConfigError: the model takes no pictures, which is what rungs are measured and compared on.
        ClimbInterrupted: a signal came while they were measured; it has what is known.
    """
    spec = registry.get(place.settings.model.name, place.settings.model.shape)
    if not spec.takes_pictures:
        raise ConfigError(
            f"--model {place.settings.model.name}: the ladder is measured on pictures, and this "
            "model takes none; a [preprocessing] table in a TOML file beside it would say how"
        )
    inputs = guard_pictures(spec, FIDELITY_PICTURES)
    reasons: dict[str, str] = {}
    standing: list[_Standing] = []
    with contextlib.ExitStack() as stack:
        for index, rung in enumerate(rungs):
            progress(f"{rung.title}: start", 0.5 * index / len(rungs))
            try:
                standing.append(_stand(place, rung, inputs, stack))
            except (CorralError, OSError) as error:
                reasons[rung.key] = str(error).splitlines()[0]
                logger.info("%s cannot run here: %s", rung.title, reasons[rung.key])
        interrupted = False
        try:
            with watched(place.cpus, place.load):
                _take_turns(place, standing, reasons, progress)
        except KeyboardInterrupt:
            # Minutes of measuring are not lost: rungs that had no turn say so.
            interrupted = True
            reasons |= {one.rung.key: "interrupted" for one in standing if not one.rates}
        by_key = {one.rung.key: one for one in standing if one.rung.key not in reasons}
        baseline = next(iter(by_key.values()), None)
        found = [
            _result(rung, by_key.get(rung.key), baseline, reasons.get(rung.key, ""))
            for rung in rungs
        ]
        if interrupted:
            raise ClimbInterrupted(found)
        return found


def _take_turns(
    place: Place, standing: Sequence[_Standing], reasons: dict[str, str], progress: Climbed
) -> None:
    """Measures all rungs in turns; of those that fail, notes why."""
    turns = [(turn, one) for turn in range(place.repeats) for one in standing]
    for done, (turn, one) in enumerate(turns):
        share = 0.5 + 0.5 * done / len(turns)
        progress(f"{one.rung.title}: {turn + 1} of {place.repeats}", share)
        if one.rung.key in reasons:
            continue
        try:
            for size in one.trials[0].sizes:
                _turn(one, size, place.seconds, place.meter)
        except CorralError as error:
            reasons[one.rung.key] = str(error).splitlines()[0]
    progress("done", 1.0)


def rung_settings(settings: Settings, rung: Rung) -> Settings:
    """The server's settings with a rung's."""
    return settings.replace(
        backend=rung.backend,
        torch_mode=rung.torch_mode,
        precision=rung.precision,
        allocator=rung.allocator,
        huge_pages=rung.huge_pages,
        # Only what pip does not bring beside the others runs in another environment.
        worker_python=_own_python(settings.engine) if engine(rung.backend).remedy else None,
        boot_timeout_s=max(settings.lifecycle.boot_timeout_s, 600.0),
    )


def _own_python(engine: EngineSettings) -> str | None:
    """The interpreter that was named, else what ``make ipex`` makes beside this environment."""
    made = Path(sys.prefix).parent / OWN_ENVIRONMENT
    return engine.worker_python or (str(made) if made.exists() else None)


def share_cpus(cpus: Sequence[int], workers: int) -> list[list[int]]:
    """CPUs by worker, as even as can be; all get all where there are too few."""
    if workers > len(cpus):
        return [list(cpus)] * workers
    bounds = [len(cpus) * n // workers for n in range(workers + 1)]
    return [list(cpus[a:b]) for a, b in itertools.pairwise(bounds)]


def _stand(
    place: Place, rung: Rung, inputs: NDArray[np.generic], stack: contextlib.ExitStack
) -> _Standing:
    """Prepares a rung's artefact and starts its workers; they end with ``stack``."""
    settings = rung_settings(place.settings, rung)
    spec = registry.get(settings.model.name, settings.model.shape)
    began_s = time.monotonic()
    model = prepare.make_apart(settings)
    prepare_s = time.monotonic() - began_s
    with contextlib.ExitStack() as undo:
        running = []
        for cpus in share_cpus(place.cpus, rung.workers):
            order = TrialOrder(
                settings=settings,
                model=model,
                signature=spec.signature,
                cpus=cpus,
                memory_node=place.memory_node,
                sizes=rung.sizes,
                datatype=spec.native,
                environment=compute_environment if rung.tuned else _defaults,
                openmp=rung.tuned,
            )
            running.append(undo.enter_context(trial_worker.start(order, place.environ)))
        answers = ask(running[0], order, inputs, place.environ)
        # What engines compute on zeros is not what they compute on data.
        for trial in running:
            trial.fill(np.resize(inputs, (max(trial.sizes), *inputs.shape[1:])), spec.native)
        stack.push(undo.pop_all())
    return _Standing(rung, running, prepare_s, answers, spec.native, model.remark)


def _defaults(cpus: Sequence[int]) -> dict[str, str]:
    """What a person gets who sets nothing: as many threads as the process may use CPUs."""
    return dict(_PLAIN)


def _turn(one: _Standing, size: int, seconds: float, meter: Meter) -> None:
    """All of a rung's workers run batches of a size for a time, side by side."""
    for trial in one.trials:
        trial.run(one.native, size)
    before = meter.total()
    began_s = time.monotonic()
    done = 0
    for trial in one.trials:
        trial.submit(one.native, size)
    busy = list(one.trials)
    last_s = began_s
    while busy:
        ready, _, _ = select.select(busy, [], [], 120)
        for trial in ready or busy:
            one.seconds[size].append(trial.collect())
            done += 1
            last_s = time.monotonic()
            if last_s - began_s < seconds:
                trial.submit(one.native, size)
            else:
                busy.remove(trial)
    one.rates[size].append(done * size / (last_s - began_s))
    after = meter.total()
    if before is not None and after is not None:
        one.joules[size].append((after - before) / (done * size))


def _result(
    rung: Rung,
    one: _Standing | None,
    baseline: _Standing | None,
    reason: str,
) -> RungResult:
    said = {
        "backend": rung.backend.value,
        "torch-mode": rung.torch_mode.value if engine(rung.backend).torch_modes else "-",
        "precision": rung.precision.value,
        "allocator": rung.allocator.value,
        "huge-pages": "on" if rung.huge_pages else "off",
        "workers": str(rung.workers),
        "openmp": _openmp(rung, one),
        "version": one.trials[0].report.engine["version"] if one else "-",
    }
    result = RungResult(
        key=rung.key,
        title=rung.title,
        change=rung.change,
        base=rung.base,
        settings=said,
        article=rung.article,
        reason=reason,
    )
    if one is None:
        return result
    exact = baseline is None or baseline is one
    return msgspec.structs.replace(
        result,
        sizes=summarise(one.seconds, one.rates, one.joules),
        memory_bytes=sum(trial.report.memory_bytes for trial in one.trials),
        prepare_s=one.prepare_s,
        start_s=max(trial.start_s for trial in one.trials),
        fidelity=None if exact or baseline is None else baseline.answers.fidelity(one.answers),
        remark=one.remark,
    )


def _openmp(rung: Rung, one: _Standing | None) -> str:
    """Whose environment it was, and the runtime that was found mapped where one was preloaded."""
    if not rung.tuned:
        return "defaults"
    runtime = one.trials[0].report.checks.get("openmp") if one else None
    return f"corral's, {runtime}" if runtime else "corral's"
