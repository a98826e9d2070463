"""ONNX Runtime on a worker's own cores: its sessions read and write the region itself.

Inputs and outputs are bound by address, so nothing is copied; one session serves every batch
size. Pixels get a session of their own, with the normalisation in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.onnxruntime.build import with_pixels
from corral.backends.telemetry import silence_telemetry
from corral.backends.thrown import explain, refusal
from corral.errors import ModelError, ValuesRefused
from corral.ipc.messages import WorkerBoot
from corral.models import onnx_header
from corral.settings import BackendName
from corral.tensors import Datatype, Recipe, Signature

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeBackend:
    """Runs an ONNX file, its tensors lying in the worker's region."""

    def __init__(self) -> None:
        self._sessions: dict[Datatype, onnxruntime.InferenceSession] = {}
        self._bindings: dict[tuple[Datatype, int], Any] = {}
        #: the arrays that the bindings point at
        self._arrays: dict[tuple[Datatype, int], tuple[NDArray[Any], ...]] = {}
        #: outputs that are an input as it came, each behind that input: no session writes them
        self._passed: dict[tuple[Datatype, int], list[tuple[NDArray[Any], NDArray[Any]]]] = {}
        self._signature: Signature
        self._file = ""
        self._model_name = ""
        self._recipe: Recipe | None = None
        self._native = Datatype.FP32
        self._precision = ""
        self._threads = 0

    def load(self, boot: WorkerBoot) -> None:
        """Reads the model. The process must be pinned before.

        Raises:
            ModelError: the file cannot be read.
        """
        if boot.model.artefact is None:
            raise ModelError("the onnxruntime backend needs an artefact")
        self._file = boot.model.artefact
        self._model_name = boot.settings.model.name
        self._recipe = boot.signature.recipe
        self._signature = boot.signature
        self._native = boot.signature.native
        self._precision = boot.model.precision
        self._threads = boot.threads
        self._sessions[self._native] = self._session(self._file)

    def _options(self) -> onnxruntime.SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        # What it raises says the same.
        options.log_severity_level = 4
        return options

    def _session(self, model: str | bytes) -> onnxruntime.InferenceSession:
        silence_telemetry()
        import onnxruntime

        options = self._options()
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        # ONNX Runtime's errors have no common class but Exception.
        except Exception as error:
            raise ModelError(
                f"the artefact {self._file} of {self._model_name} cannot be read: "
                f"{explain(error, BackendName.ONNXRUNTIME)}"
            ) from None

    def compile(
        self,
        datatype: Datatype,
        inputs: NDArray[np.generic],
        outputs: NDArray[np.float32],
    ) -> None:
        """Binds both arrays for batches of exactly ``len(inputs)``.

        Raises:
            ModelError: the model does not take them.
        """
        session = self._session_for(datatype)
        binding = session.io_binding()
        source, target = session.get_inputs()[0].name, session.get_outputs()[0].name
        binding.bind_input(
            source, "cpu", 0, inputs.dtype.type, list(inputs.shape), inputs.ctypes.data
        )
        binding.bind_output(target, "cpu", 0, np.float32, list(outputs.shape), outputs.ctypes.data)
        self._try(session, binding, f"{datatype.name} {list(inputs.shape)}")
        key = datatype, len(inputs)
        self._bindings[key] = (session, binding)
        self._arrays[key] = (inputs, outputs)
        self._passed[key] = [(inputs, outputs)] if source == target else []

    def compile_ports(
        self,
        datatype: Datatype,
        inputs: Sequence[NDArray[np.generic]],
        outputs: Sequence[NDArray[np.generic]],
    ) -> None:
        """As ``compile``, each input and output bound to its own array, by its name.

        Raises:
            ModelError: the model does not take them.
        """
        session = self._session_for(datatype)
        binding = session.io_binding()
        specs = self._signature.input_specs(datatype)
        # The only input is called what the graph calls it, pixels otherwise than tensors.
        names = (
            [spec.name for spec in specs]
            if self._signature.inputs
            else [session.get_inputs()[0].name]
        )
        for name, array, spec in zip(names, inputs, specs, strict=True):
            kind = _element_type(spec.datatype)
            binding.bind_input(name, "cpu", 0, kind, list(array.shape), array.ctypes.data)
        sources = dict(zip(names, inputs, strict=True))
        passed = []
        for array, spec in zip(outputs, self._signature.output_specs, strict=True):
            kind = _element_type(spec.datatype)
            name = self._graph_name(session, spec.name)
            if name in sources:
                passed.append((sources[name], array))
            binding.bind_output(name, "cpu", 0, kind, list(array.shape), array.ctypes.data)
        given = zip(inputs, specs, strict=True)
        shapes = ", ".join(f"{spec.name} {list(array.shape)}" for array, spec in given)
        self._try(session, binding, shapes)
        key = datatype, len(inputs[0])
        self._bindings[key] = (session, binding)
        self._arrays[key] = (*inputs, *outputs)
        self._passed[key] = passed

    @staticmethod
    def _graph_name(session: onnxruntime.InferenceSession, name: str) -> str:
        """The only output is called what the graph calls it."""
        names = [output.name for output in session.get_outputs()]
        return names[0] if len(names) == 1 else name

    def _session_for(self, datatype: Datatype) -> onnxruntime.InferenceSession:
        if datatype not in self._sessions:
            assert self._recipe is not None
            self._sessions[datatype] = self._session(
                with_pixels(self._file, self._recipe.mean, self._recipe.std, self._recipe)
            )
        return self._sessions[datatype]

    def _try(self, session: onnxruntime.InferenceSession, binding: Any, what: str) -> None:
        """Runs once. Raises ModelError: the model does not take these shapes, or these values."""
        try:
            session.run_with_iobinding(binding)
        # ONNX Runtime's errors have no common class but Exception.
        except Exception as error:
            # A session forgets what contradicts its graph.
            outputs = onnx_header.read_ports(Path(self._file))[1]
            declared = {port.name: port.shape or () for port in outputs}
            kind = ValuesRefused if refusal(error) else ModelError
            raise kind(
                f"ONNX Runtime cannot run {self._model_name} for {what}: "
                f"{explain(error, BackendName.ONNXRUNTIME, declared)}"
            ) from None

    def run(self, datatype: Datatype, count: int) -> None:
        """Runs the batch that lies in the input array; the result is in the output array then.

        Raises:
            ValuesRefused: the model does not take what lies there.
        """
        session, binding = self._bindings[datatype, count]
        try:
            session.run_with_iobinding(binding)
        # ONNX Runtime's errors have no common class but Exception.
        except Exception as error:
            if reason := refusal(error):
                raise ValuesRefused(reason) from None
            raise
        for source, target in self._passed[datatype, count]:
            target[...] = source

    def discard(self, datatype: Datatype, count: int) -> None:
        """Forgets a batch size."""
        del self._bindings[datatype, count]
        del self._arrays[datatype, count]
        del self._passed[datatype, count]

    def describe(self) -> dict[str, str]:
        """Engine, version, precision and threads."""
        import onnxruntime

        return {
            "engine": "onnxruntime",
            "version": onnxruntime.__version__,
            "precision": self._precision,
            "threads": str(self._threads),
        }


def _element_type(datatype: Datatype) -> Any:
    """What ONNX Runtime wants to know of an array: numpy's type, or ONNX's number of it."""
    if datatype is Datatype.BF16:
        from onnx import TensorProto

        return TensorProto.BFLOAT16
    return datatype.numpy.type
