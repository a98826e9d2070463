"""OpenVINO on a worker's own cores: fixed shapes, no copy in, no copy out.

What was measured (OpenVINO 2026.4, 2 Zen 3 cores, ResNet50) and what follows from it:

- The region's arrays are the request's tensors: 74 MB of input at batch 128 leave the process
  5 MB larger than before, so the engine keeps no input of its own.
- ``infer()`` computes in the calling thread and N - 1 more, in 31 µs for a graph that does next
  to nothing; ``start_async`` and ``wait`` hand over to one thread more and take 44 µs. They are
  for graphs that values can make fail (refusing.py).
- The process's affinity is the worker's own when the engine starts, and the engine reads it
  then: with pinning on, each of its threads stays on one CPU of the mask while it computes, and
  two workers never meet. Pinning is off where the masks overlap (``--oversubscribe``): all would
  pin to the same CPUs. Siblings of a core that the mask holds whole are left out (hyper-threading
  off, but for ``--siblings-as-cores``); a sibling that is in it alone counts as a core.
- A size of one datatype takes 0.3 s to compile, and 35 to 40 MB in INT8, 115 MB in FP32. The
  engine's cache of compiled models saves 0.17 s of that, for 26 MB of disk and 25 MB of resident
  memory: it is not used.
- The IR's weights are mapped, not read: all workers share the page cache's copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.openvino.hints import inference_precision, is_marked_bf16
from corral.backends.openvino.kernels import main_kernel
from corral.backends.openvino.open_shapes import shapes_by_values
from corral.backends.openvino.passed_through import copy_passed_through, of_64_bits
from corral.backends.openvino.refusing import may_refuse
from corral.backends.openvino.types import indexes, tensor, type_name
from corral.backends.telemetry import silence_telemetry
from corral.backends.thrown import THROWN, explain, refusal, shape_moves
from corral.errors import ConfigError, ModelError, ValuesRefused
from corral.ipc.messages import WorkerBoot
from corral.settings import BackendName
from corral.tensors import Datatype, Recipe, Signature

if TYPE_CHECKING:
    import openvino

_DEVICE = "CPU"


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """One size of one datatype, and the arrays that its request works on."""

    model: openvino.CompiledModel
    request: openvino.InferRequest
    tensors: Sequence[openvino.Tensor]
    arrays: Sequence[NDArray[np.generic]]
    #: whether values can make a run fail; see ``may_refuse``
    refusing: bool
    #: an input's array and the output's that it is copied to behind each run; see ``of_64_bits``
    passed: Sequence[tuple[NDArray[np.generic], NDArray[np.generic]]] = ()


class OpenVINOBackend:
    """Runs an OpenVINO IR, its tensors lying in the worker's region."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[Datatype, int], _Compiled] = {}
        self._core: openvino.Core
        self._model: openvino.Model
        self._signature: Signature
        #: where the model's inputs and outputs are among the engine's, unless there is one of each
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self._recipe: Recipe | None = None
        self._model_name = ""
        self._properties: dict[str, Any] = {}
        self._native = Datatype.FP32
        self._precision = ""

    def load(self, boot: WorkerBoot) -> None:
        """Reads the IR. The process must be pinned before.

        Raises:
            ConfigError: the CPU has no BF16.
            ModelError: the IR cannot be read or has another signature.
        """
        silence_telemetry()
        import openvino as ov

        path = boot.model.artefact
        self._signature = boot.signature
        self._native = boot.signature.native
        self._model_name = boot.settings.model.name
        if path is None:
            raise ModelError("the openvino backend needs an artefact")
        self._recipe = boot.signature.recipe
        self._precision = boot.model.precision
        try:
            self._core = ov.Core()
            able = self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        except THROWN as error:
            raise ModelError(f"OpenVINO does not start: {_said(error)}") from None
        if self._precision == "bf16" and "BF16" not in able:
            raise ConfigError("--precision bf16: this CPU has no BF16 arithmetic; use fp32 or int8")
        try:
            self._model = self._core.read_model(path)
        except THROWN as error:
            raise ModelError(
                f"the artefact {path} of {self._model_name} cannot be read: {_said(error)}"
            ) from None
        if self._signature.plain:
            _check_signature(self._model, path, self._native)
        else:
            self._inputs = indexes(
                self._model.inputs, self._signature.input_specs(self._native), path
            )
            self._outputs = indexes(self._model.outputs, self._signature.output_specs, path)
        # Of artefacts that were made when nobody knew of it.
        copy_passed_through(self._model)
        self._properties = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": boot.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": not boot.settings.placement.oversubscribe,
            "ENABLE_HYPER_THREADING": boot.settings.placement.siblings_as_cores,
            "INFERENCE_PRECISION_HINT": inference_precision(
                self._precision, marked_bf16=is_marked_bf16(self._model), able=able
            ),
        }

    def compile(
        self,
        datatype: Datatype,
        inputs: NDArray[np.generic],
        outputs: NDArray[np.float32],
    ) -> None:
        """Compiles for exactly ``inputs.shape`` and binds both arrays to the request.

        Raises:
            ModelError: the engine refuses the model at this shape.
        """
        import openvino as ov

        model = self._model.clone()
        try:
            if datatype is not self._native:
                assert self._recipe is not None
                model = accept_pixels(model, self._recipe)
            model.reshape(list(inputs.shape))
            compiled = self._core.compile_model(model, _DEVICE, self._properties)
            _check_answer(compiled, outputs.shape)
            if not self._compiled:
                # The others are the same graph.
                _check_shapes_stay(compiled)
            request = compiled.create_infer_request()
            tensors = (
                ov.Tensor(inputs, shared_memory=True),
                ov.Tensor(outputs, shared_memory=True),
            )
            request.set_input_tensor(tensors[0])
            request.set_output_tensor(tensors[1])
        except THROWN as error:
            raise ModelError(
                f"OpenVINO cannot compile {self._model_name} for {datatype.name} "
                f"{list(inputs.shape)}: {_said(error)}"
            ) from None
        self._compiled[datatype, len(inputs)] = _Compiled(
            compiled, request, tensors, (inputs, outputs), may_refuse(model)
        )

    def compile_ports(
        self,
        datatype: Datatype,
        inputs: Sequence[NDArray[np.generic]],
        outputs: Sequence[NDArray[np.generic]],
    ) -> None:
        """As ``compile``, each input and output bound to its own array.

        Raises:
            ModelError: the engine refuses the model at these shapes.
        """
        specs = (self._signature.input_specs(datatype), self._signature.output_specs)
        model = self._model.clone()
        count = len(inputs[0])
        try:
            if datatype is not self._native:
                assert self._recipe is not None
                model = accept_pixels(model, self._recipe)
            model.reshape(
                {
                    index: list(array.shape)
                    for index, array in zip(self._inputs, inputs, strict=True)
                }
            )
            compiled = self._core.compile_model(model, _DEVICE, self._properties)
            for index, array in zip(self._outputs, outputs, strict=True):
                _check_answer(compiled, array.shape, index)
            if not self._compiled:
                # The others are the same graph.
                _check_shapes_stay(compiled)
            request = compiled.create_infer_request()
            tensors = []
            for index, array, spec in zip(self._inputs, inputs, specs[0], strict=True):
                tensors.append(tensor(array, spec.datatype))
                request.set_input_tensor(index, tensors[-1])
            for index, array, spec in zip(self._outputs, outputs, specs[1], strict=True):
                tensors.append(tensor(array, spec.datatype))
                request.set_output_tensor(index, tensors[-1])
        except THROWN as error:
            given = zip(inputs, specs[0], strict=True)
            shapes = ", ".join(f"{spec.name} {list(array.shape)}" for array, spec in given)
            raise ModelError(
                f"OpenVINO cannot compile {self._model_name} for {shapes}: {_said(error)}"
            ) from None
        passed = [
            (inputs[self._inputs.index(source)], outputs[self._outputs.index(target)])
            for source, target in of_64_bits(model)
        ]
        arrays = (*inputs, *outputs)
        self._compiled[datatype, count] = _Compiled(
            compiled, request, tensors, arrays, may_refuse(model), passed
        )

    def run(self, datatype: Datatype, count: int) -> None:
        """Runs the batch that lies in the input array; the logits are in the output array then.

        Raises:
            ValuesRefused: the model does not take what lies there.
        """
        ready = self._compiled[datatype, count]
        try:
            if ready.refusing:
                ready.request.start_async()
                ready.request.wait()
            else:
                # Without share_outputs the wrapper copies the result once more.
                ready.request.infer(share_outputs=True)
        except THROWN as error:
            if reason := refusal(error):
                raise ValuesRefused(reason) from None
            raise
        for source, target in ready.passed:
            target[...] = source

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets a batch size and frees its memory."""
        del self._compiled[datatype, count]

    def describe(self) -> dict[str, str]:
        """Engine, version, precision and threads, as the engine itself reports them."""
        import openvino as ov

        described = {"engine": "openvino", "version": ov.get_version().partition("-")[0]}
        if not self._compiled:
            return {**described, "precision": self._precision}
        model = next(iter(self._compiled.values())).model
        hint = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        kernel = main_kernel(model)
        return {
            **described,
            **({"isa": kernel} if kernel else {}),
            "precision": self._precision,
            "arithmetic": hint,
            "threads": str(model.get_property("INFERENCE_NUM_THREADS")),
            "streams": str(model.get_property("NUM_STREAMS")),
            "pinning": "on" if model.get_property("ENABLE_CPU_PINNING") else "off",
        }


def _said(error: Exception) -> str:
    return explain(error, BackendName.OPENVINO)


def _check_signature(model: openvino.Model, path: str, native: Datatype) -> None:
    """Raises ModelError unless there is one input of that datatype and one FP32 output."""
    given = type_name(native)
    fits = (
        len(model.inputs) == len(model.outputs) == 1
        and model.inputs[0].element_type.get_type_name() == given
        and model.outputs[0].element_type.get_type_name() == "f32"
    )
    if not fits:
        raise ModelError(f"the artefact {path} has not one {native.name} input and one FP32 output")


def _check_answer(
    compiled: openvino.CompiledModel, wanted: tuple[int, ...], index: int = 0
) -> None:
    """Raises RuntimeError where the graph fixes another shape: its batch is baked into it."""
    import openvino as ov

    given = compiled.output(index).partial_shape
    if not given.compatible(ov.PartialShape(list(wanted))):
        raise RuntimeError(f"the graph answers {given}, not {list(wanted)}")


def _check_shapes_stay(compiled: openvino.CompiledModel) -> None:
    """Raises RuntimeError where an answer's shape hangs on the values, not on the inputs' shapes.

    It would be cut to the shape that is served, in silence. Only what the graph leaves open is run.
    """
    if not any(port.partial_shape.is_dynamic for port in compiled.outputs):
        return
    shapes = shapes_by_values(compiled, [list(port.shape) for port in compiled.inputs])
    for port, (first, second) in zip(compiled.outputs, shapes, strict=True):
        if first != second:
            raise RuntimeError(shape_moves(port.any_name, str(list(first)), str(list(second))))


def accept_pixels(model: openvino.Model, recipe: Recipe) -> openvino.Model:
    """Puts the recipe's normalisation in front: the input becomes UINT8 [n,h,w,3]."""
    import openvino as ov
    from openvino.preprocess import ColorFormat, PrePostProcessor

    chain = PrePostProcessor(model)
    tensor_info = chain.input().tensor()
    tensor_info.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    chain.input().model().set_layout(ov.Layout(recipe.layout))
    steps = chain.input().preprocess()
    if recipe.colors == "GREY":
        tensor_info.set_color_format(ColorFormat.RGB)
        # In floats: of pixels it would be rounded.
        steps.convert_element_type(ov.Type.f32).convert_color(ColorFormat.GRAY)
    elif recipe.colors == "BGR":
        steps.reverse_channels().convert_element_type(ov.Type.f32)
    else:
        steps.convert_element_type(ov.Type.f32)
    channels = recipe.channels
    steps.mean(list(recipe.mean[:channels])).scale(list(recipe.std[:channels]))
    steps.convert_layout(ov.Layout(recipe.layout))
    return chain.build()
