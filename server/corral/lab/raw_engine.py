"""The raw engine, to compare a server with: ``corral lab raw --backend torch ...``.

Takes the options of ``corral serve``. A worker as the server would start it runs batches of one,
one after another, with no server around it: no gRPC, no queue, no frontend. Says as a line of JSON
what it is once it is ready; then every line on standard input is a number of seconds to run for,
and is answered with what was measured. It ends with standard input.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping

from corral.errors import ConfigError
from corral.models import registry
from corral.models.evaluation import guard_pictures
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Settings
from corral.tensors import Datatype
from corral.tuning import prepare, trial_worker
from corral.tuning.trial_worker import Trial, TrialOrder

#: a day
MOST_TURN_S = 86_400


def run(settings: Settings, environ: Mapping[str, str], turns_s: Iterable[float]) -> Iterator[str]:
    """Lines of JSON: the worker, then a line a turn with images/s and p50 of the engine alone.

    Args:
        settings: backend and precision by name.
        environ: this process's environment.
        turns_s: seconds of each turn.

    Raises:
        CorralError: it cannot be prepared or started, or died.
    """
    spec = registry.get(settings.model.name, settings.model.shape)
    pen = plan_for(settings, topology.read_machine()).first_worker
    order = TrialOrder(
        settings=settings,
        model=prepare.make_apart(settings),
        signature=spec.signature,
        cpus=pen.cpus,
        memory_node=pen.memory_node,
    )
    with trial_worker.start(order, environ) as trial:
        trial.fill(guard_pictures(spec, 1), Datatype.FP32)
        report = trial.report
        ready = {"engine": report.engine, "checks": report.checks, "start_s": trial.start_s}
        yield json.dumps({**ready, "memory_bytes": report.memory_bytes})
        for seconds in turns_s:
            if not 0 <= seconds <= MOST_TURN_S:
                raise ConfigError(f"a turn takes 0 to {MOST_TURN_S} seconds, not {seconds:g}")
            spans_s = _turn(trial, seconds)
            rate, p50_ms = len(spans_s) / sum(spans_s), statistics.median(spans_s) * 1000
            yield json.dumps({"images_per_s": rate, "p50_ms": p50_ms})


def _turn(trial: Trial, seconds: float) -> list[float]:
    """The engine's seconds of every batch of one; the first is not counted."""
    trial.run(Datatype.FP32, 1)
    spans_s: list[float] = []
    end_s = time.monotonic() + seconds
    while not spans_s or time.monotonic() < end_s:
        spans_s.append(trial.run(Datatype.FP32, 1))
    return spans_s
