"""``corral evaluate DIR``: what is evaluated, and where its results go."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from corral import extras
from corral.backends.calibration import own_pictures
from corral.backends.registry import DEFAULT, packages
from corral.errors import ConfigError, printable
from corral.images import picture_folder
from corral.lab.evaluate import page, tables
from corral.lab.evaluate.measure import answers_scores, batch_size, evaluate
from corral.lab.evaluate.results import Evaluation
from corral.models.labels import labels_of
from corral.planning.plan import PlannedWorker
from corral.settings import Precision, Settings
from corral.settings.files import write_text
from corral.system.progress_bar import progress_bar
from corral.system.terminal import standard_output
from corral.tensors import Signature
from corral.tuning.bench import Bench, make_bench
from corral.tuning.select import options_for

logger = logging.getLogger(__name__)


class EvaluateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for, settings aside."""

    source: Path
    #: most pictures, spread evenly; None for all
    limit: int | None = None
    json: bool = False
    html: Path | None = None


def run(
    settings: Settings, asked: EvaluateOptions, pen: PlannedWorker, environ: Mapping[str, str]
) -> int:
    """Evaluates, prints, and writes the page; returns the exit code.

    Raises:
        ConfigError: the pictures, their labels or the model do not allow it.
        ModelError: nothing could be run.
        KeyboardInterrupt: a signal came; what was known by then is printed.
    """
    with progress_bar(f"evaluating {settings.model.name}") as bar:
        progress = bar or (lambda phase, share: None)
        found = _evaluation(make_bench(settings, pen, environ, progress), asked, progress)
    interrupted = found.pictures < found.asked
    if asked.html is not None and not interrupted:
        write_text(asked.html, "--html", page.render(found))
    if asked.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        standard_output().print(tables.render(found))
    if interrupted:
        raise KeyboardInterrupt
    return 0


def _evaluation(
    bench: Bench, asked: EvaluateOptions, progress: Callable[[str, float], None]
) -> Evaluation:
    spec, settings = bench.spec, bench.settings
    names = labels_of(spec)
    if not spec.takes_pictures:
        raise ConfigError(
            f"--model {settings.model.name}: takes no pictures; there is nothing to evaluate"
        )
    if not names or not answers_scores(spec.signature):
        raise ConfigError(
            f"--model {settings.model.name}: answers with {_told(spec.signature)}; evaluate needs "
            "scores of classes: one output of floats, [n,classes]"
        )
    folder = picture_folder.read(asked.source, "evaluate", names)
    if folder.labels is None:
        why = f", for {folder.unlabelled}" if folder.unlabelled else ""
        raise ConfigError(
            f"{folder.option}: its pictures have no labels{why}; a folder for each class is "
            "needed, or a CSV of file,label"
        )
    calibration = settings.accuracy.calibration
    seen = "" if calibration is None else folder.told_seen(own_pictures(calibration))
    for told in filter(None, (*folder.told(), seen)):
        logger.warning("%s", told)
    if asked.limit is not None:
        folder = folder.spread(asked.limit)
    installed = {name for name in packages() if importlib.util.find_spec(name) is not None}
    asked_for = options_for(bench, settings.engine.precision, installed)
    # What is lost is lost of FP32.
    exact = options_for(bench, Precision.FP32, installed)[:1]
    options = [*exact, *(option for option in asked_for if option not in exact)]
    if not asked_for:
        raise ConfigError(
            f"--backend {settings.engine.backend} --precision {settings.engine.precision}: nothing "
            f"that is installed can do that; {extras.install(DEFAULT, 'torch')}"
        )
    made = evaluate(bench, options, folder, progress)
    model = made.model
    return Evaluation(
        model=model.name,
        weights=model.weights,
        synthetic=model.synthetic,
        source=printable(str(asked.source)),
        pictures=made.pictures,
        asked=len(folder),
        left_out={printable(end): times for end, times in folder.left_out.items()},
        strays=folder.strays,
        copies=folder.copies,
        torn=folder.torn,
        classes_seen=len(set((folder.labels or ())[: made.pictures])),
        classes=len(names),
        cpu=bench.cpu_model,
        cores=bench.pen.cores,
        batch=batch_size(bench),
        rows=made.rows,
    )


def _told(signature: Signature) -> str:
    """Its outputs, in words."""
    return " and ".join(
        f"{one.name} {one.datatype.name} [{','.join(map(str, ('n', *one.shape)))}]"
        for one in signature.output_specs
    )
