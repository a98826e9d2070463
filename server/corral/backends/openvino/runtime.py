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
- A size of one datatype takes 0.3 s to compile, and 35 to 40 MB in INT8, 115 MB in FP32. Most of
  the time is passes over the graph, which a second start need not make: see compiled_cache.py.
- The IR's weights are mapped, not read: all workers share the page cache's copy.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.code_folder import code_folder
from corral.backends.openvino import sample
from corral.backends.openvino.compiled_cache import CompiledCache, Graph
from corral.backends.openvino.hints import inference_precision, is_marked_bf16
from corral.backends.openvino.kernels import main_kernel
from corral.backends.openvino.open_shapes import shapes_by_values
from corral.backends.openvino.passed_through import copy_passed_through, of_64_bits
from corral.backends.openvino.pixels import accept_pixels
from corral.backends.openvino.refusing import may_refuse
from corral.backends.openvino.types import indexes, tensor, type_name
from corral.backends.telemetry import silence_telemetry
from corral.backends.thrown import CORRECT, THROWN, explain, refusal, shape_moves
from corral.errors import ConfigError, ModelError, ValuesRefused
from corral.ipc.messages import WorkerBoot
from corral.settings import BackendName
from corral.tensors import Datatype, Recipe, Signature

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

_DEVICE = "CPU"


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """One size of one datatype, and the arrays that its request works on."""

    graph: Graph
    request: openvino.InferRequest
    tensors: Sequence[openvino.Tensor]
    inputs: Sequence[NDArray[np.generic]]
    outputs: Sequence[NDArray[np.generic]]
    #: an input's array and the output's that it is copied to behind each run
    copied: Sequence[tuple[NDArray[np.generic], NDArray[np.generic]]]

    def run(self) -> None:
        """Runs what lies in the inputs; raises what the engine does."""
        if self.graph.refusing:
            self.request.start_async()
            self.request.wait()
        else:
            # Without share_outputs the wrapper copies the result once more.
            self.request.infer(share_outputs=True)
        for source, target in self.copied:
            target[...] = source

    def answers(self) -> list[bytes]:
        """See ``sample.answers``."""
        return sample.answers(self.run, self.inputs, self.outputs)


class OpenVINOBackend:
    """Runs an OpenVINO IR, its tensors lying in the worker's region."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[Datatype, int], _Compiled] = {}
        self._core: openvino.Core
        self._model: openvino.Model
        self._signature: Signature
        #: where the model's inputs and outputs are among the engine's
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self._recipe: Recipe | None = None
        self._model_name = ""
        self._properties: dict[str, Any] = {}
        self._native = Datatype.FP32
        self._precision = ""
        #: None where the engine is to show what it makes of the graph itself
        self._cache: CompiledCache | None = None

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
            self._inputs, self._outputs = [0], [0]
        else:
            self._inputs = indexes(
                self._model.inputs, self._signature.input_specs(self._native), path
            )
            self._outputs = indexes(self._model.outputs, self._signature.output_specs, path)
        folder = code_folder(boot.settings)
        assert folder
        self._cache = CompiledCache(self._core, folder, Path(path))
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
        self.compile_ports(datatype, [inputs], [outputs])

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
        specs = self._signature.input_specs(datatype)
        names = [datatype.name] if self._signature.plain else [spec.name for spec in specs]
        given = zip(names, inputs, strict=True)
        what = ", ".join(f"{name} {list(array.shape)}" for name, array in given)
        # How pixels become the input is part of the graph that takes them.
        recipe = "" if datatype is self._native else f"; {self._recipe!r}"
        name = f"{datatype.name}: {what}{recipe}"
        bind = functools.partial(self._bind, datatype, inputs, outputs)
        ready = self._kept(name, bind)
        if ready is None:
            try:
                model = self._shaped(datatype, inputs)
                properties = CompiledCache.properties(self._properties)
                compiled = self._core.compile_model(model, _DEVICE, properties)
                for index, array in zip(self._outputs, outputs, strict=True):
                    _check_answer(compiled, array.shape, index)
                if not self._compiled:
                    # The others are the same graph.
                    _check_shapes_stay(compiled)
                ready = bind(Graph(compiled, may_refuse(model), of_64_bits(model)))
            except THROWN as error:
                raise ModelError(
                    f"OpenVINO cannot compile {self._model_name} for {what}: {_said(error)}"
                ) from None
            self._keep(name, ready)
        self._compiled[datatype, len(inputs[0])] = ready

    def _shaped(self, datatype: Datatype, inputs: Sequence[NDArray[np.generic]]) -> openvino.Model:
        """The graph for these inputs."""
        model = self._model.clone()
        if datatype is not self._native:
            assert self._recipe is not None
            model = accept_pixels(model, self._recipe)
        shapes = zip(self._inputs, inputs, strict=True)
        model.reshape({index: list(array.shape) for index, array in shapes})
        return model

    def _bind(
        self,
        datatype: Datatype,
        inputs: Sequence[NDArray[np.generic]],
        outputs: Sequence[NDArray[np.generic]],
        graph: Graph,
    ) -> _Compiled:
        """A request that works on these arrays."""
        request = graph.model.create_infer_request()
        tensors = []
        specs = self._signature.input_specs(datatype)
        for index, array, spec in zip(self._inputs, inputs, specs, strict=True):
            tensors.append(tensor(array, spec.datatype))
            request.set_input_tensor(index, tensors[-1])
        for index, array, spec in zip(
            self._outputs, outputs, self._signature.output_specs, strict=True
        ):
            tensors.append(tensor(array, spec.datatype))
            request.set_output_tensor(index, tensors[-1])
        copied = [
            (inputs[self._inputs.index(source)], outputs[self._outputs.index(target)])
            for source, target in graph.passed
        ]
        return _Compiled(graph, request, tensors, inputs, outputs, copied)

    def _kept(self, name: str, bind: Callable[..., _Compiled]) -> _Compiled | None:
        """What an earlier start compiled, if it answers as it did then."""
        if self._cache is None or (found := self._cache.load(name, self._properties)) is None:
            return None
        graph, answers = found
        try:
            ready = bind(graph)
            if sample.agree(answers, ready.answers(), ready.outputs):
                return ready
            logger.debug("what was compiled of %s answers otherwise: it is compiled again", name)
        except THROWN as error:
            logger.debug("what was compiled of %s is of no use: %s", name, error)
        return None

    def _keep(self, name: str, ready: _Compiled) -> None:
        if self._cache is None:
            return
        try:
            answers = ready.answers()
        except THROWN:
            # These values are not taken; with others it is compiled anew.
            return
        self._cache.keep(name, self._properties, ready.graph, answers)

    def run(self, datatype: Datatype, count: int) -> None:
        """Runs the batch that lies in the input array; the logits are in the output array then.

        Raises:
            ValuesRefused: the model does not take what lies there.
        """
        ready = self._compiled[datatype, count]
        try:
            ready.run()
        except THROWN as error:
            if reason := refusal(error):
                raise ValuesRefused(reason) from None
            raise

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets a batch size and frees its memory."""
        del self._compiled[datatype, count]

    def describe(self) -> dict[str, str]:
        """Engine, version, precision and threads, as the engine itself reports them."""
        import openvino as ov

        described = {"engine": "openvino", "version": ov.get_version().partition("-")[0]}
        if not self._compiled:
            return {**described, "precision": self._precision}
        model = next(iter(self._compiled.values())).graph.model
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
        told = f"the graph answers {given}, not {list(wanted)}"
        # Where the batch is wrong, no shape of an item mends it.
        batch = ov.PartialShape([wanted[0], *[-1] * (len(wanted) - 1)])
        raise RuntimeError(f"{told}: {CORRECT}" if given.compatible(batch) else told)


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
