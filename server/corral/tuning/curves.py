"""Cost curves of a model that is prepared, so that the start that serves it measures none.

A worker measures what a batch costs while it warms up, once for each width. Where a start cannot
keep that (an image whose cache is read-only), it would measure at every start.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from corral.artifacts.curve_cache import CurveCache
from corral.artifacts.figures import FigureCache
from corral.batching.sizes import batch_sizes
from corral.errors import ModelError
from corral.ipc.messages import WorkerReady
from corral.launch.region_memory import that_fit
from corral.models import registry
from corral.planning.machine import Machine
from corral.planning.plan import PlannedWorker
from corral.settings import Settings
from corral.system.other_load import MOST_TRIES
from corral.tuning import trial_worker
from corral.tuning.select import Selected
from corral.tuning.trial_worker import TrialOrder

logger = logging.getLogger(__name__)


def widths(cores: int) -> list[int]:
    """The numbers of cores that a worker may get where this model is served: powers of 2, and all.

    A container may be allowed fewer than the machine that it was built on has.
    """
    return sorted({cores, *(1 << bit for bit in range(cores.bit_length()) if 1 << bit <= cores)})


def learn_curves(
    asked: Settings,
    pen: PlannedWorker,
    selected: Selected,
    environ: Mapping[str, str],
    machine: Machine,
) -> None:
    """Measures and keeps the curves that are not known; a worker that fails is a warning.

    Args:
        asked: the settings as they were written.
        pen: a worker's CPUs.
        selected: what serves.
        environ: this process's environment.
        machine: the CPU's name and flags.
    """
    settings = asked.replace(backend=selected.backend, precision=selected.precision)
    signature = registry.get(settings.model.name, settings.model.shape).signature
    for cores in widths(pen.cores):
        cache = CurveCache(settings, selected.model, cores, machine.model_name, machine.isa)
        batch = that_fit(batch_sizes(settings, cache.load()), signature, 1)
        if not batch.find_knee:
            continue
        order = TrialOrder(
            settings=settings,
            model=selected.model,
            signature=signature,
            cpus=pen.cpus[:cores],
            memory_node=pen.memory_node,
            sizes=batch.sizes,
            find_knee=True,
        )
        try:
            report = _learn(order, environ, cache)
        except ModelError as error:
            logger.warning("the costs of batches could not be measured: %s", error)
            return
        if cores == pen.cores:
            FigureCache(asked, machine.model_name).learn_costs(report.costs_s, cores)


def _learn(order: TrialOrder, environ: Mapping[str, str], cache: CurveCache) -> WorkerReady:
    """Measures one curve, again while others are busy, and keeps it; returns the last report.

    Raises:
        ModelError: the worker cannot serve.
    """
    for _ in range(MOST_TRIES):
        logger.info("measuring what batches cost a worker of %d cores", len(order.cpus))
        with trial_worker.start(order, environ) as trial:
            report = trial.report
        # Where the model itself limits its batches, each start finds that out, and says so.
        if report.findings.batch_limit or not cache.save(report.costs_s, report.other_load):
            break
    return report
