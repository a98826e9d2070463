"""Whether workers of one core answer more than wider ones: measured in turns on the same cores.

Threads that wait for one another at the end of every layer lose what single threads do not, and
more processes share the memory and its bandwidth: which weighs more is a matter of machine, engine
and model. So a search in throughput mode ends with it, and ``corral tune`` repeats it.
"""

from __future__ import annotations

import contextlib
import logging
import select
import statistics
import time
from collections.abc import Mapping, Sequence

from corral.artifacts.figures import FigureCache
from corral.errors import ModelError
from corral.models import registry
from corral.models.evaluation import guard_pictures
from corral.planning.plan import PlannedWorker
from corral.settings import Mode, Settings
from corral.tensors import Datatype
from corral.tuning import trial_worker
from corral.tuning.select import Selected
from corral.tuning.trial_worker import Trial, TrialOrder
from corral.tuning.turns import my_turn

logger = logging.getLogger(__name__)

_ROUNDS = 5
_TURN_S = 0.4
#: a lone image, and the batch that stands for large ones
_SIZES = (1, 8)


def learn_one_core(
    settings: Settings,
    pen: PlannedWorker,
    selected: Selected,
    environ: Mapping[str, str],
    cpu_model: str,
    *,
    again: bool,
) -> None:
    """Measures, where it is not known, and keeps it for the plan; a failure is a warning.

    Args:
        settings: as they were asked for.
        pen: a worker's CPUs.
        selected: what serves. Where engine and precision were named, only ``again`` measures.
        environ: this process's environment.
        cpu_model: the CPU's name.
        again: measure even where it is known.
    """
    up_to_us = settings.placement.workers is None and settings.placement.cores_per_worker is None
    if settings.model.mode is not Mode.THROUGHPUT or not up_to_us or pen.cores < 2:
        return
    cache = FigureCache(settings, cpu_model)
    known = cache.load().one_core_gain is not None
    if not again and (known or selected.search is None):
        return
    try:
        with my_turn(logger.info):
            gain = measure_one_core(settings, pen, selected, environ)
    except ModelError as error:
        logger.warning("workers of one core could not be measured: %s", error)
        return
    logger.info("workers of one core make %+.0f %% images a second here", gain * 100)
    cache.learn_one_core(gain)


def measure_one_core(
    settings: Settings, pen: PlannedWorker, selected: Selected, environ: Mapping[str, str]
) -> float:
    """By which share workers of one core are faster than one on all of the pen's cores.

    Raises:
        ModelError: a worker failed.
    """
    spec = registry.get(settings.model.name, settings.model.shape)
    sizes: tuple[int, ...] = (
        _SIZES if settings.queue.max_batch is None else (settings.queue.max_batch,)
    )
    order = TrialOrder(
        settings=settings.replace(backend=selected.backend, precision=selected.precision),
        model=selected.model,
        signature=spec.signature,
        cpus=pen.cpus,
        memory_node=pen.memory_node,
        sizes=sizes,
        datatype=spec.native,
    )
    orders = [order, *(_on(order, cpu) for cpu in pen.cpus)]
    inputs = guard_pictures(spec, max(sizes)) if spec.takes_pictures else None
    with contextlib.ExitStack() as stack:
        trials = [stack.enter_context(trial_worker.start(each, environ)) for each in orders]
        for trial in trials:
            if inputs is not None:
                trial.fill(inputs, spec.native)
        sizes = tuple(trials[0].sizes)
        rates: dict[tuple[bool, int], list[float]] = {}
        for _ in range(_ROUNDS):
            for size in sizes:
                for wide, group in ((True, trials[:1]), (False, trials[1:])):
                    rate = images_per_s(group, spec.native, size)
                    rates.setdefault((wide, size), []).append(rate)
    best = {
        wide: max(statistics.median(rates[wide, size]) for size in sizes) for wide in (True, False)
    }
    return best[False] / best[True] - 1


def _on(order: TrialOrder, cpu: int) -> TrialOrder:
    """The same worker on one CPU."""
    return TrialOrder(
        settings=order.settings,
        model=order.model,
        signature=order.signature,
        cpus=[cpu],
        memory_node=order.memory_node,
        sizes=order.sizes,
        datatype=order.datatype,
    )


def images_per_s(trials: Sequence[Trial], datatype: Datatype, size: int) -> float:
    """What workers make together while all of them compute, one batch after another.

    Raises:
        ModelError: a batch failed, or a worker died.
    """
    spans: dict[Trial, list[float]] = {trial: [] for trial in trials}
    end_s = time.monotonic() + _TURN_S
    for trial in trials:
        trial.submit(datatype, size)
    computing = set(trials)
    while computing:
        ready, _, _ = select.select(list(computing), [], [])
        for trial in ready:
            spans[trial].append(trial.collect())
            if time.monotonic() < end_s:
                trial.submit(datatype, size)
            else:
                computing.remove(trial)
    return sum(size / statistics.median(times) for times in spans.values())
