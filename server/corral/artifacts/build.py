"""From weights to an artefact that an engine loads: build, convert, quantize, save.

``backends/registry.py`` names each engine's builder. INT8 is made of the FP32 artefact, on crops of
photographs that ship with corral, or on a user's own pictures. BF16 is the FP32 artefact, run with
a hint.

**Overflow.** Without VNNI, an engine adds pairs of u8 x i8 products in 16 bits, where they can
saturate. Weights of one bit less cannot; whether the CPU's sums are narrow is part of the
artefact's key, and a builder that searches measures both (backends/openvino/quantize.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from corral import extras
from corral.artifacts import store as artefact
from corral.artifacts.order import (
    BEFORE_SORTS,
    FOR_ANY_CPU,
    FOR_WIDE_SUMS,
    IN_BF16,
    IN_FP32,
    JUDGED,
    LEFT_OUT,
    OVERFLOW_FIX,
    Order,
    versions,
)
from corral.artifacts.store import Artefact
from corral.backends import calibration, layer_search
from corral.backends.engine import ArtifactForm
from corral.backends.job import BuildJob
from corral.backends.registry import WIDE_SUMS, engine, runs, that_take
from corral.backends.telemetry import silence_telemetry
from corral.backends.thrown import explain
from corral.errors import ConfigError, CorralError, ModelError, PassingError
from corral.models import registry
from corral.models.custom import weight_files
from corral.models.files import kind_of
from corral.models.linked_files import as_plain
from corral.models.spec import ModelSpec, Weights
from corral.settings import AccuracySettings, BackendName, Precision, Settings

#: called with what is being done and the share of the whole that is done, 0 to 1
Progress = Callable[[str, float], None]

#: where nothing was asked for
_DEFAULTS = AccuracySettings()
#: the first step, and the only one where the cache holds everything
FIND_WEIGHTS = "find weights"
#: among a file's ingredients: how it takes one item, where its batch is fixed at more
_ONE_BY_ONE = "one by one"
#: the last step
READY = "ready"
#: the steps and the seconds that each took for ResNet50 on two cores: the progress bar's scale
_FP32_STEPS_S = {FIND_WEIGHTS: 0.1, "build model": 20.0, "convert": 2.5, "save": 0.3}
_INT8_STEPS_S = {
    FIND_WEIGHTS: 0.1,
    "build model": 20.0,
    "convert": 2.5,
    "save FP32": 0.3,
    "cut pictures": 1.0,
    "analyse": 4.0,
    "calibrate": 13.0,
    "correct biases": 3.0,
    "search layers": 20.0,
    "save": 0.1,
}


def prepare(settings: Settings, progress: Progress, isa: frozenset[str]) -> Artefact:
    """The artefact that these settings ask for: from the cache, else made and cached.

    A cached one takes as long as reading it once and imports no framework. Of several processes
    that ask at once, one prepares and the others wait for it.

    Args:
        settings: model, weights, precision, cache folder, offline.
        progress: told what is being done.
        isa: the CPU's flags as /proc/cpuinfo names them.

    Raises:
        ConfigError: no such model, or the CPU lacks the precision.
        ModelError: weights, frameworks or disk do not allow it.
    """
    spec = registry.get(settings.model.name, settings.model.shape)
    # What is in INT8 already is the file that FP32 would be.
    precision = "fp32" if spec.quantized else resolve_precision(settings.engine.precision, isa)
    cache_dir = Path(settings.model.cache_dir)
    steps = _Steps(progress, _INT8_STEPS_S if precision == "int8" else _FP32_STEPS_S)
    steps.at(FIND_WEIGHTS)
    weights = spec.find_weights(settings.model.weights, cache_dir, settings.model.offline)
    order = make_order(
        spec, weights, precision, isa, settings.engine.backend, accuracy=settings.accuracy
    )
    found = artefact.find(cache_dir, order)
    check_engine(settings, spec, precision, is_made=found is not None)

    def fp32() -> Path:
        """What INT8 is made of."""
        return prepare(settings.replace(precision=Precision.FP32), steps.nested, isa).path

    def write(file: Path) -> str:
        remarks: list[str] = []
        _write(
            BuildJob(
                backend=settings.engine.backend,
                spec=spec,
                weights=weights,
                precision=Precision(order.precision),
                thresholds=settings.accuracy.thresholds,
                calibration=settings.accuracy.calibration,
                narrow_sums=order.ingredients.get(OVERFLOW_FIX) == FOR_ANY_CPU,
                left_out_in_bf16=order.ingredients.get(LEFT_OUT) == IN_BF16,
                at=steps.at,
                remark=remarks.append,
                fp32=fp32,
                file=file,
            )
        )
        return "; ".join(remarks)

    if found is None:
        with artefact.exclusive(
            cache_dir, order, lambda: progress("wait for another process that prepares it", 0.0)
        ):
            # Whoever held the lock before may have made it.
            found = artefact.find(cache_dir, order) or artefact.store(cache_dir, order, write)
    progress(READY, 1.0)
    return artefact.to_be_run(found, "int8" if spec.quantized else precision, spec.fixed_batch)


def is_made(settings: Settings, isa: frozenset[str]) -> bool:
    """Whether the cache holds the artefact that these settings ask for."""
    spec = registry.get(settings.model.name, settings.model.shape)
    cache_dir = Path(settings.model.cache_dir)
    weights = spec.find_weights(settings.model.weights, cache_dir, settings.model.offline)
    precision = resolve_precision(settings.engine.precision, isa)
    order = make_order(
        spec, weights, precision, isa, settings.engine.backend, accuracy=settings.accuracy
    )
    return artefact.find(cache_dir, order) is not None


def resolve_precision(precision: Precision, isa: frozenset[str]) -> str:
    """What is to be run: "fp32", "bf16" or "int8".

    Raises:
        ConfigError: the CPU lacks it.
    """
    if precision is Precision.BF16 and not runs(precision, isa):
        raise ConfigError("--precision bf16: this CPU has no BF16 arithmetic; use fp32 or int8")
    return "fp32" if precision is Precision.AUTO else precision.value


def make_order(
    spec: ModelSpec,
    weights: Weights,
    precision: str,
    isa: frozenset[str],
    backend: BackendName = BackendName.AUTO,
    *,
    accuracy: AccuracySettings = _DEFAULTS,
) -> Order:
    """What the artefact is made of; decides on the overflow fix by the CPU's flags.

    AUTO counts as the default engine, whose artefact every search needs first.
    """
    form = engine(backend).artifact
    if form is None:
        raise ConfigError(f"--backend {backend}: loads no artefact")
    # A user's file passes through no module.
    made_with = [
        name
        for name in form.made_with
        if name != "torch" or spec.file is None or kind_of(spec.file) in {".pt", ".pt2"}
    ]
    ingredients = {
        "engine": form.engine,
        "format": str(form.format),
        "weights": weights.digest,
        "model revision": str(spec.revision),
        # It is not in a user's file, and neither INT8 nor the guard holds for another one.
        "recipe": str(spec.signature.recipe),
        **versions(made_with),
    }
    if spec.file is not None:
        ingredients |= _of_a_file(spec, form)
    if precision == "int8":
        ingredients |= versions(form.quantized_with)
        ingredients |= calibration.ingredients(
            synthetic=weights.synthetic, folder=accuracy.calibration
        )
        if form.searches and not weights.synthetic:
            ingredients["thresholds"] = str(accuracy.thresholds)
            ingredients["search"] = str(layer_search.FORMAT)
            if not spec.signature.by_classes:
                ingredients[JUDGED] = BEFORE_SORTS
            if form.leaves_out_in_bf16:
                bf16 = engine(backend).arithmetic[Precision.BF16]
                ingredients[LEFT_OUT] = IN_BF16 if bf16.suits(isa, named=False) else IN_FP32
        ingredients["transformer"] = str(spec.transformer)
        ingredients[OVERFLOW_FIX] = FOR_WIDE_SUMS if isa & WIDE_SUMS else FOR_ANY_CPU
    return Order(
        model=spec.name,
        precision="int8" if precision == "int8" else "fp32",
        synthetic=weights.synthetic,
        weights=weights.description,
        ingredients=ingredients,
        files=form.int8_files if precision == "int8" else form.files,
    )


def _of_a_file(spec: ModelSpec, form: ArtifactForm) -> dict[str, str]:
    """What more decides an artefact of a user's file."""
    found = {
        # Else what an earlier corral made of it, or that it failed to, would be believed.
        "reading": str(form.reading),
        # What its file leaves open is settled elsewhere.
        "inputs": str(spec.signature.input_specs(spec.native)),
    }
    if spec.fixed_batch not in {None, 1}:
        # Of a file that is like another but for its batch, and of how one item is made of it.
        found["batch"] = f"{spec.fixed_batch}, {_ONE_BY_ONE}"
    return found


def check_engine(
    settings: Settings, spec: ModelSpec, precision: str, *, is_made: bool = False
) -> None:
    """Refuses what an engine cannot run, before anything is made.

    Args:
        settings: name the backend.
        spec: of the model.
        precision: "fp32", "bf16" or "int8".
        is_made: the artefact is there, so that what only makes one is not needed.

    Raises:
        ConfigError: the backend's packages are not here, or it does not take the model's file.
    """
    backend = settings.engine.backend
    row = engine(backend)
    only_to_make = row.artifact.only_to_make if row.artifact and is_made else ()
    for package in () if backend is BackendName.AUTO else row.needs(Precision(precision)):
        if package in only_to_make:
            continue
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"--backend {backend}: {package} is not installed; {row.advice}")
    if spec.file is None:
        return
    if not row.model_files:
        raise ConfigError(
            f"--backend {backend}: runs the zoo's models only, not {spec.file}; "
            f"use {that_take(spec)}"
        )
    if kind_of(spec.file) not in row.model_files:
        kinds = " or ".join(suffix.removeprefix(".").upper() for suffix in row.model_files)
        raise ConfigError(
            f"--backend {backend}: {spec.file} is no {kinds} file; use {that_take(spec)}"
        )
    if not row.ports and not spec.signature.plain:
        raise ConfigError(
            f"--backend {backend}: takes one input and one FP32 output, {spec.file} has others; "
            f"use {that_take(spec)}"
        )
    if precision == "int8" and not spec.takes_pictures:
        raise ConfigError(
            f"--precision int8: {spec.file} is calibrated on pictures, and has no [preprocessing] "
            f"in {spec.file.with_suffix('.toml')}"
        )


class _Steps:
    """Turns steps into a share of the whole."""

    def __init__(self, progress: Progress, steps_s: dict[str, float]) -> None:
        self._progress = progress
        self._steps_s = steps_s

    def at(self, name: str, share: float = 0.0) -> None:
        """``share`` of the step ``name`` is done, and all steps before it."""
        names = list(self._steps_s)
        before_s = sum(self._steps_s[done] for done in names[: names.index(name)])
        done_s = before_s + share * self._steps_s[name]
        self._progress(name, done_s / sum(self._steps_s.values()))

    def nested(self, name: str, share: float) -> None:
        """Progress of FP32, as a part of INT8's; what is not a step of that is left out."""
        name = "save FP32" if name == "save" else name
        if name in self._steps_s and name != FIND_WEIGHTS:
            self.at(name)


def _write(job: BuildJob) -> None:
    silence_telemetry()
    spec, row = job.spec, engine(job.backend)
    subject = spec.name if spec.file is None else f"--model {spec.file}"
    if row.builder is None:
        raise ConfigError(f"--backend {row.name}: loads no artefact")
    with _quiet(), contextlib.ExitStack() as stack:
        try:
            if spec.file is not None and spec.file.suffix == ".onnx":
                plain = as_plain(spec.file, weight_files(spec.file), job.file.parent)
                job = dataclasses.replace(job, source=stack.enter_context(plain))
            importlib.import_module(row.builder).write(job)
        except CorralError:
            raise
        except MemoryError:
            raise PassingError(f"{subject} cannot be prepared: out of memory") from None
        except ImportError as error:
            raise ModelError(
                f"preparing {subject} needs the extras: "
                f"{extras.install(*dict.fromkeys((job.backend.value, 'torch')))} ({error})"
            ) from error
        # Frameworks raise whatever they like; to a user it is one thing: this model, this reason.
        except Exception as error:
            # A disk that is full may have room on another day.
            kind = PassingError if isinstance(error, OSError) else ModelError
            raise kind(f"{subject} cannot be prepared: {explain(error, row.name)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the frameworks' progress bars and advice away from standard output."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
