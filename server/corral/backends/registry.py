"""The engines: a row each. What is a module here is a name, imported only when it is needed.

To add an engine: a folder with ``runtime.py`` (five methods, see ``base.Backend``) and ``build.py``
(``write(job)``), a row here, and its name among the options (``settings.BackendName``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from corral.backends.engine import Arithmetic, ArtifactForm, Engine, TorchModes
from corral.errors import ConfigError
from corral.models.files import SAVED_MODEL
from corral.settings import BackendName, Precision, TorchMode

if TYPE_CHECKING:
    from corral.backends.base import Backend, Profiler
    from corral.models.spec import ModelSpec

#: CPU flags of instructions that sum u8 x i8 products in 32 bits: AVX, AVX-512, AMX, Arm
WIDE_SUMS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp"})
#: CPU flags of BF16 arithmetic: of x86, where it was measured to pay, and of Arm
_BF16_X86 = frozenset({"avx512_bf16", "amx_bf16"})
_BF16 = _BF16_X86 | {"bf16"}
#: where ``make ipex`` puts an environment with IPEX, beside this one
OWN_ENVIRONMENT = ".venv-ipex/bin/python"
#: what brings it
BRINGS_ENVIRONMENT = f"make ipex makes {OWN_ENVIRONMENT}"

_ROWS = (
    Engine(
        name=BackendName.OPENVINO,
        runtime="corral.backends.openvino.runtime:OpenVINOBackend",
        profiler="corral.backends.openvino.profile:OpenVINOProfiler",
        builder="corral.backends.openvino.build",
        distribution="openvino",
        revision=2,
        packages=("openvino",),
        arithmetic={
            Precision.FP32: Arithmetic(quick=True),
            Precision.BF16: Arithmetic(runs_on=_BF16, pays_on=_BF16_X86, quick=True),
            Precision.INT8: Arithmetic(packages=("nncf",), quick=True),
        },
        artifact=ArtifactForm(
            engine="openvino",
            format=2,
            made_with=("openvino", "torch"),
            quantized_with=("nncf",),
            only_to_make=("nncf",),
            files=("model.xml", "model.bin"),
            int8_files=("model.xml", "model.bin"),
            searches=True,
            leaves_out_in_bf16=True,
        ),
        model_files=(
            *(".onnx", ".xml", ".pb", SAVED_MODEL, ".tflite", ".pdmodel"),
            *(".pt2", ".pt"),
        ),
        describer="corral.backends.openvino.describe",
        sorts="corral.backends.openvino.sorts",
        ports=True,
        writes_code=True,
        keeps_code="openvino",
    ),
    Engine(
        name=BackendName.ONNXRUNTIME,
        runtime="corral.backends.onnxruntime.runtime:OnnxRuntimeBackend",
        profiler="corral.backends.onnxruntime.profile:OnnxRuntimeProfiler",
        builder="corral.backends.onnxruntime.build",
        distribution="onnxruntime",
        revision=1,
        packages=("onnxruntime", "onnx"),
        arithmetic={
            Precision.FP32: Arithmetic(quick=True),
            Precision.INT8: Arithmetic(quick=True),
        },
        artifact=ArtifactForm(
            engine="onnxruntime",
            format=1,
            made_with=("torch", "onnx"),
            quantized_with=("onnxruntime",),
            files=("model.onnx",),
            int8_files=("model.onnx",),
            searches=True,
        ),
        model_files=(".onnx",),
        sorts="corral.backends.onnxruntime.sorts",
        ports=True,
    ),
    Engine(
        name=BackendName.TORCH,
        runtime="corral.backends.torch.runtime:TorchBackend",
        profiler="corral.backends.torch.profile:TorchProfiler",
        builder="corral.backends.torch.build",
        distribution="torch",
        revision=1,
        packages=("torch",),
        arithmetic={
            Precision.FP32: Arithmetic(),
            Precision.BF16: Arithmetic(runs_on=_BF16, pays_on=_BF16_X86),
            Precision.INT8: Arithmetic(packages=("torchao",)),
        },
        artifact=ArtifactForm(
            engine="torch",
            format=1,
            made_with=("torch",),
            quantized_with=("torchao",),
            files=("model.safetensors",),
            int8_files=("model.pt2",),
            searches=True,
        ),
        keeps_code="inductor",
        needs_code=True,
        obeys_openmp=True,
        torch_modes=TorchModes(
            preferred=TorchMode.COMPILE,
            allowed=(
                TorchMode.EAGER,
                TorchMode.CHANNELS_LAST,
                TorchMode.TRACED,
                TorchMode.COMPILE,
            ),
        ),
    ),
    Engine(
        name=BackendName.IPEX,
        runtime="corral.backends.torch.runtime:TorchBackend",
        profiler="corral.backends.torch.profile:TorchProfiler",
        builder="corral.backends.torch.build",
        distribution="torch",
        revision=1,
        packages=("torch", "intel_extension_for_pytorch"),
        arithmetic={
            Precision.FP32: Arithmetic(),
            Precision.BF16: Arithmetic(runs_on=_BF16, pays_on=_BF16_X86),
            Precision.INT8: Arithmetic(),
        },
        artifact=ArtifactForm(
            engine="torch",
            format=1,
            made_with=("torch",),
            quantized_with=("intel_extension_for_pytorch",),
            files=("model.safetensors",),
            int8_files=("model.pt",),
        ),
        keeps_code="inductor",
        needs_code=True,
        obeys_openmp=True,
        torch_modes=TorchModes(
            preferred=TorchMode.TRACED,
            allowed=(
                TorchMode.EAGER,
                TorchMode.CHANNELS_LAST,
                TorchMode.TRACED,
                TorchMode.COMPILE,
            ),
            unsearched=(TorchMode.COMPILE,),
        ),
        remedy=f"make ipex, then --worker-python {OWN_ENVIRONMENT}",
    ),
    Engine(
        name=BackendName.NULL,
        runtime="corral.backends.null.runtime:NullBackend",
        distribution="corral",
        revision=1,
        ports=True,
    ),
)

#: the row of each engine
ENGINES: Mapping[BackendName, Engine] = {row.name: row for row in _ROWS}
#: what AUTO stands for until a search has settled it: its FP32 artefact is what a search needs
DEFAULT = BackendName.OPENVINO


def engine(name: BackendName) -> Engine:
    """The row of an engine; AUTO has the default engine's."""
    return ENGINES[DEFAULT if name is BackendName.AUTO else name]


def packages() -> set[str]:
    """The importable packages that engines need, all precisions together."""
    return {
        package
        for row in ENGINES.values()
        for precision in row.arithmetic
        for package in row.needs(precision)
    }


def pays(precision: Precision, isa: frozenset[str]) -> bool:
    """Whether some engine's speed in this precision is worth measuring on such a CPU."""
    return any(
        row.arithmetic[precision].suits(isa, named=False)
        for row in ENGINES.values()
        if precision in row.arithmetic
    )


def runs(precision: Precision, isa: frozenset[str]) -> bool:
    """Whether some engine runs this precision on a CPU with these flags."""
    return any(
        row.arithmetic[precision].suits(isa, named=True)
        for row in ENGINES.values()
        if precision in row.arithmetic
    )


def that_take(spec: ModelSpec) -> str:
    """The engines that run a user's file, as advice: "openvino or onnxruntime"."""
    return " or ".join(
        row.name.value for row in ENGINES.values() if row.computes and row.takes(spec)
    )


def resolve_mode(asked: TorchMode, name: BackendName, precision: str) -> TorchMode | None:
    """The torch mode that AUTO means, or the one that was asked for; None off torch.

    Raises:
        ConfigError: the engine or the precision cannot run in this mode.
    """
    modes = engine(name).torch_modes
    if modes is None:
        return None
    if asked is TorchMode.AUTO:
        return modes.preferred
    if precision == Precision.INT8 and asked is not modes.preferred:
        raise ConfigError(
            f"--torch-mode {asked.value}: INT8 on {name} runs in the mode "
            f"{modes.preferred.value} only"
        )
    if asked not in modes.allowed:
        able = [
            row.name.value
            for row in ENGINES.values()
            if row.torch_modes is not None and asked in row.torch_modes.allowed
        ]
        plain = [mode.value for mode in modes.allowed if mode is not TorchMode.CHANNELS_LAST]
        raise ConfigError(
            f"--torch-mode {asked.value}: for --backend {' or '.join(able)}; "
            f"{name} runs {' or '.join(plain)}"
        )
    return asked


def create(name: BackendName) -> Backend:
    """The backend of that name, its framework imported."""
    if name is BackendName.AUTO:
        raise ConfigError("--backend auto is settled before a worker starts")
    return cast("Backend", _made(ENGINES[name].runtime))


def create_profiler(name: BackendName) -> Profiler:
    """The backend of that name with the engine's own profiler on.

    Raises:
        ConfigError: it has none.
    """
    place = engine(name).profiler
    if place is None:
        raise ConfigError(f"--backend {name.value} has no profiler")
    return cast("Profiler", _made(place))


def _made(place: str) -> object:
    module, _, kind = place.partition(":")
    return getattr(importlib.import_module(module), kind)()
