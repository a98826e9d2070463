"""From weights to an artefact that an engine loads: build, convert, quantize, save.

``makers`` has what each engine needs done. INT8 is made of the FP32 artefact, on crops of
photographs that ship with corral. BF16 is the FP32 artefact, run with a hint.

**Overflow.** Without VNNI, an engine adds pairs of u8 x i8 products in 16 bits, where they can
saturate. NNCF's fix leaves weights one bit less, so that they cannot; it is on for all layers
where the CPU has no VNNI, and off where it has. Which one is part of the artefact's key.

What that is worth on AVX2 is in docs/precision.md: EfficientNet-Lite0 keeps a signal-to-noise ratio
of 12.7 dB with the fix and 7.4 dB without, ResNet50 with synthetic weights 9.3 dB and 11.2 dB.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from corral.artifacts import store as artefact
from corral.artifacts.store import Artefact, Order
from corral.backends import calibration
from corral.backends.calibration import Calibration
from corral.backends.onnxruntime import build as onnx_maker
from corral.backends.openvino import build as ir_maker
from corral.backends.telemetry import silence_telemetry
from corral.backends.torch import build as torch_maker
from corral.errors import ConfigError, CorralError, ModelError, PassingError, telling_line
from corral.models import registry
from corral.models.spec import ModelSpec, Weights
from corral.settings import BackendName, Precision, Settings

#: called with what is being done and the share of the whole that is done, 0 to 1
Progress = Callable[[str, float], None]

#: CPU flags of instructions that sum u8 x i8 products in 32 bits: AVX, AVX-512, AMX, Arm
WIDE_SUMS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"})
_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})

#: importable packages that a backend needs, and those that its INT8 needs beyond
_PACKAGES: Mapping[BackendName, tuple[str, ...]] = {
    BackendName.OPENVINO: ("openvino",),
    BackendName.ONNXRUNTIME: ("onnxruntime", "onnx"),
    BackendName.TORCH: ("torch",),
    BackendName.IPEX: ("torch", "intel_extension_for_pytorch"),
}
_INT8_PACKAGES: Mapping[BackendName, tuple[str, ...]] = {
    BackendName.OPENVINO: ("nncf",),
    BackendName.TORCH: ("torchao",),
}


@dataclasses.dataclass(frozen=True)
class _Form:
    """What an engine loads: by whom it is made, and its files."""

    engine: str
    #: of the maker
    format: int
    made_with: tuple[str, ...]
    quantized_with: tuple[str, ...]
    files: tuple[str, ...]
    int8_files: tuple[str, ...]


_STATE = (torch_maker.STATE_FILE,)
_ONNX = (onnx_maker.ONNX_FILE,)
_IR = artefact.IR_FILES
_FORMS: Mapping[BackendName, _Form] = {
    BackendName.OPENVINO: _Form(
        "openvino", ir_maker.FORMAT, ("openvino", "torch"), ("nncf",), _IR, _IR
    ),
    BackendName.ONNXRUNTIME: _Form(
        "onnxruntime", onnx_maker.FORMAT, ("torch", "onnx"), ("onnxruntime",), _ONNX, _ONNX
    ),
    BackendName.TORCH: _Form(
        "torch", torch_maker.FORMAT, ("torch",), ("torchao",), _STATE, (torch_maker.PT2E_FILE,)
    ),
    BackendName.IPEX: _Form(
        "torch",
        torch_maker.FORMAT,
        ("torch",),
        ("intel_extension_for_pytorch",),
        _STATE,
        (torch_maker.IPEX_FILE,),
    ),
}

#: the first step, and the only one where the cache holds everything
FIND_WEIGHTS = "find weights"
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
    precision = resolve_precision(settings.engine.precision, isa)
    spec = registry.get(settings.model.name)
    cache_dir = Path(settings.model.cache_dir)
    steps = _Steps(progress, _INT8_STEPS_S if precision == "int8" else _FP32_STEPS_S)
    steps.at(FIND_WEIGHTS)
    weights = spec.find_weights(settings.model.weights, cache_dir, settings.model.offline)
    check_engine(settings, spec, precision)
    order = make_order(spec, weights, precision, isa, settings.engine.backend)

    def fp32() -> Path:
        """What INT8 is made of."""
        wanted = settings.replace(precision=Precision.FP32)
        return prepare(wanted, steps.nested, isa).path

    found = artefact.find(cache_dir, order)
    if found is None:
        with artefact.exclusive(
            cache_dir, order, lambda: progress("wait for another process that prepares it", 0.0)
        ):
            # Whoever held the lock before may have made it.
            found = artefact.find(cache_dir, order) or artefact.store(
                cache_dir,
                order,
                lambda file: _write(
                    _Job(
                        spec=spec,
                        weights=weights,
                        order=order,
                        backend=settings.engine.backend,
                        steps=steps,
                        fp32=fp32,
                        file=file,
                    )
                ),
            )
    progress("ready", 1.0)
    return artefact.with_precision(found, precision)


def resolve_precision(precision: Precision, isa: frozenset[str]) -> str:
    """What is to be run: "fp32", "bf16" or "int8".

    Raises:
        ConfigError: the CPU lacks it.
    """
    if precision is Precision.BF16 and not isa & _BF16:
        raise ConfigError("--precision bf16: this CPU has no BF16 arithmetic; use fp32 or int8")
    return "fp32" if precision is Precision.AUTO else precision.value


def make_order(
    spec: ModelSpec,
    weights: Weights,
    precision: str,
    isa: frozenset[str],
    backend: BackendName = BackendName.OPENVINO,
) -> Order:
    """What the artefact is made of; decides on the overflow fix by the CPU's flags.

    AUTO counts as OpenVINO, whose artefact every search needs first.
    """
    form = _FORMS[BackendName.OPENVINO if backend is BackendName.AUTO else backend]
    # A user's file passes through no module.
    made_with = [name for name in form.made_with if spec.file is None or name != "torch"]
    ingredients = {
        "engine": form.engine,
        "format": str(form.format),
        "weights": weights.digest,
        "model revision": str(spec.revision),
        # It is not in a user's file, and neither INT8 nor the guard holds for another one.
        "recipe": str(spec.signature.recipe),
        **artefact.versions(made_with),
    }
    if precision == "int8":
        ingredients |= artefact.versions(form.quantized_with)
        ingredients |= calibration.ingredients()
        ingredients["transformer"] = str(spec.transformer)
        ingredients["overflow_fix"] = "disable" if isa & WIDE_SUMS else "enable"
    return Order(
        model=spec.name,
        precision="int8" if precision == "int8" else "fp32",
        synthetic=weights.synthetic,
        weights=weights.description,
        ingredients=ingredients,
        files=form.int8_files if precision == "int8" else form.files,
    )


def check_engine(settings: Settings, spec: ModelSpec, precision: str) -> None:
    """Refuses what an engine cannot run, before anything is made.

    Raises:
        ConfigError: the backend's packages are not here, or it does not take the model's file.
    """
    backend = settings.engine.backend
    for package in (*_PACKAGES.get(backend, ()), *_INT8_PACKAGES.get(backend, ())):
        needed = precision == "int8" or package in _PACKAGES[backend]
        if needed and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--backend {backend}: {package} is not installed; {_remedy(backend)}"
            )
    if spec.file is None:
        return
    if backend in {BackendName.TORCH, BackendName.IPEX}:
        raise ConfigError(
            f"--backend {backend}: runs the zoo's models only, not {spec.file}; "
            "use openvino or onnxruntime"
        )
    if backend is BackendName.ONNXRUNTIME and spec.file.suffix != ".onnx":
        raise ConfigError(f"--backend onnxruntime: {spec.file} is no ONNX file; use openvino")
    if backend is BackendName.ONNXRUNTIME and spec.fixed_batch not in {None, 1}:
        raise ConfigError(
            f"--backend onnxruntime: the batch of {spec.file} is fixed at {spec.fixed_batch}; "
            "export it with a dynamic first dimension, or use openvino"
        )
    if precision == "int8" and not spec.takes_pictures:
        raise ConfigError(
            f"--precision int8: {spec.file} is calibrated on pictures, and has no [preprocessing] "
            f"in {spec.file.with_suffix('.toml')}"
        )


def _remedy(backend: BackendName) -> str:
    if backend is BackendName.IPEX:
        return "make ipex, then --worker-python .venv-ipex/bin/python"
    return f"pip install 'corral[{backend}]'"


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """What is to be written: an order's file; INT8 of what ``fp32`` makes or finds."""

    spec: ModelSpec
    weights: Weights
    order: Order
    backend: BackendName
    steps: _Steps
    fp32: Callable[[], Path]
    file: Path


def _write(job: _Job) -> None:
    silence_telemetry()
    spec, backend = job.spec, job.backend
    subject = spec.name if spec.file is None else f"--model {spec.file}"
    with _quiet():
        try:
            match backend:
                case BackendName.ONNXRUNTIME:
                    _write_onnx(job)
                case BackendName.TORCH | BackendName.IPEX:
                    _write_torch(job)
                case _:
                    _write_ir(job)
        except CorralError:
            raise
        except MemoryError:
            raise PassingError(f"{subject} cannot be prepared: out of memory") from None
        except ImportError as error:
            raise ModelError(
                f"preparing {subject} needs the extras: pip install "
                f"'corral[{','.join(dict.fromkeys((backend.value, 'torch')))}]' ({error})"
            ) from error
        except Exception as error:
            raise ModelError(f"{subject} cannot be prepared: {telling_line(error)}") from error


def _write_ir(job: _Job) -> None:
    spec, weights, order, file, steps = job.spec, job.weights, job.order, job.file, job.steps
    if order.precision == "int8":
        exact = job.fp32()
        pictures = Calibration(spec, steps.at)
        model = ir_maker.quantize(
            exact, pictures, order.ingredients["overflow_fix"], transformer=spec.transformer
        )
    elif spec.file is not None:
        steps.at("convert")
        model = ir_maker.read(spec)
    else:
        steps.at("build model")
        module = spec.build(weights)
        steps.at("convert")
        model = ir_maker.convert(module, spec)
    steps.at("save")
    ir_maker.save(model, file)


def _write_onnx(job: _Job) -> None:
    spec, weights, order, file, steps = job.spec, job.weights, job.order, job.file, job.steps
    if order.precision == "int8":
        exact = job.fp32()
        narrow = order.ingredients["overflow_fix"] == "enable"
        onnx_maker.write_int8(exact, file, Calibration(spec, steps.at), reduce_range=narrow)
    else:
        steps.at("build model")
        onnx_maker.write_fp32(spec, weights, file)


def _write_torch(job: _Job) -> None:
    spec, weights, order, file, steps = job.spec, job.weights, job.order, job.file, job.steps
    steps.at("build model")
    if order.precision != "int8":
        torch_maker.write_state(spec, weights, file)
    elif job.backend is BackendName.IPEX:
        torch_maker.write_ipex_int8(spec, weights, file, Calibration(spec, steps.at))
    else:
        narrow = order.ingredients["overflow_fix"] == "enable"
        torch_maker.write_pt2e(
            spec, weights, file, Calibration(spec, steps.at), reduce_range=narrow
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the frameworks' progress bars and advice away from standard output."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
