"""INT8 of an IR: NNCF quantizes all of it, and layers that cost too much go back to FP32 or BF16.

backends/layer_search.py decides which.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.layer_search import Judge, Quantized, within_thresholds
from corral.backends.openvino import layers as surgery
from corral.backends.openvino.hints import inference_precision, is_marked_bf16, mark_bf16
from corral.backends.openvino.sorts import FLOATS, cut_before_sorts, is_by_picture

if TYPE_CHECKING:
    import openvino

    from corral.backends.calibration import Calibration
    from corral.backends.job import BuildJob


def quantize(exact_file: Path, job: BuildJob) -> openvino.Model:
    """The IR in INT8: weights per channel, activations per tensor; some layers may be left out."""
    import openvino as ov

    exact = ov.Core().read_model(exact_file)
    pictures = job.pictures()
    whole = by_nncf(exact, pictures, job)
    if not job.weights.synthetic:
        made = _Made(exact, bf16=job.left_out_in_bf16)
        ways = [made.in_int8(whole, f"weights of {7 if job.narrow_sums else 8} bits")]
        if job.narrow_sums:
            ways.append(made.in_int8(surgery.full_range(whole), "weights of 8 bits"))
        by_classes = job.spec.signature.by_classes
        runner = _Runner(cut=not by_classes)
        judge = Judge(runner.answers, exact, *pictures.judging(), by_classes=by_classes)
        whole = within_thresholds(ways, judge, job)
    return compressed(whole)


def by_nncf(exact: openvino.Model, pictures: Calibration, job: BuildJob) -> openvino.Model:
    """All of it in INT8, with FakeQuantize operations.

    Args:
        exact: the model.
        pictures: what it takes, a batch of one each.
        job: whether the CPU's sums are narrow, and whether the model is a transformer: attention
            is quantized by NNCF's patterns for it, with SmoothQuant.
    """
    import nncf

    # Not nncf.set_log_level: it changes the level of whatever handlers others have attached.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf.quantize(
        exact.clone(),
        nncf.Dataset(pictures),
        subset_size=len(pictures),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        model_type=nncf.ModelType.TRANSFORMER if job.spec.transformer else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix("enable" if job.narrow_sums else "disable"),
            backend_params={"compress_weights": False},
        ),
    )


def compressed(model: openvino.Model) -> openvino.Model:
    """The same with its weights stored in INT8."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    compress_quantize_weights_transformation(model)
    return model


@dataclasses.dataclass(frozen=True)
class _Made:
    """What a search may make of one model.

    Attributes:
        exact: the model in FP32.
        bf16: whether layers left out may run in BF16, which is quicker and adds noise.
    """

    exact: openvino.Model
    bf16: bool

    def in_int8(self, whole: openvino.Model, name: str) -> Quantized[openvino.Model]:
        """All of it in INT8, and how layers are left out of that."""

        def in_fp32(names: frozenset[str]) -> openvino.Model:
            return surgery.left_out(whole, self.exact, names)

        def in_bf16(names: frozenset[str]) -> openvino.Model:
            model = in_fp32(names)
            mark_bf16(model)
            return model

        without = {"BF16": in_bf16} if self.bf16 else {}
        return Quantized(name, whole, lambda: surgery.layers(whole), {**without, "FP32": in_fp32})


class _Runner:
    """Runs models as a worker would.

    Args:
        cut: answer with what sorts take, where there are any.
    """

    def __init__(self, *, cut: bool) -> None:
        import openvino as ov

        self._cut = cut
        self._core = ov.Core()
        self._able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def answers(
        self, model: openvino.Model, inputs: Sequence[NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Each output's that is floats, [n,...]."""
        shape = list(inputs[0].shape)
        fixed = cut_before_sorts(model) if self._cut else None
        if fixed is not None:
            fixed.reshape(shape)
        if fixed is None or not is_by_picture(fixed):
            fixed = model.clone()
            fixed.reshape(shape)
        hint = inference_precision("int8", marked_bf16=is_marked_bf16(model), able=self._able)
        request = self._core.compile_model(
            fixed, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        ).create_infer_request()
        names = {
            index: min(port.get_names(), default=str(index))
            for index, port in enumerate(fixed.outputs)
            if port.element_type.get_type_name() in FLOATS
        }
        answers: dict[str, list[NDArray[Any]]] = {name: [] for name in names.values()}
        for item in inputs:
            request.infer([item])
            for index, name in names.items():
                answers[name].append(request.get_output_tensor(index).data[0].copy())
        return {name: np.stack(found) for name, found in answers.items()}
