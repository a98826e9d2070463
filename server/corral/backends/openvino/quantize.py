"""INT8 of an IR: NNCF quantizes all of it, and layers that cost too much go back to FP32.

Three photographs of four calibrate; the fourth is held out, to judge what was made. It is run on
this CPU, so that what saturates here counts. Where the CPU sums u8 x i8 products in 16 bits,
weights of 7 bits and of 8 are both tried, and the better stays. Where that does not do, blocks of
layers are quantized one at a time to learn what noise each adds, and those go back that take most
noise for their time, until the accuracy lost and the noise are within the guard's thresholds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity, compare, describe, faults
from corral.backends import mixed_precision
from corral.backends.openvino import layers as surgery

if TYPE_CHECKING:
    import openvino

    from corral.backends.calibration import Calibration
    from corral.backends.job import BuildJob

_log = logging.getLogger(__name__)

#: that noise is measured of apart; more would take longer and find no more
_BLOCKS = 16
#: pictures that a block's noise is measured on: it varies less than what becomes of labels
_NOISE_PICTURES = 20
#: times that a larger set of blocks is tried
_TRIES = 6
#: the predicted noise is aimed lower than allowed, for it is a prediction
_MARGIN = 0.8


def quantize(exact_file: Path, job: BuildJob) -> openvino.Model:
    """The IR in INT8: weights per channel, activations per tensor, some layers perhaps in FP32."""
    import openvino as ov

    core = ov.Core()
    exact = core.read_model(exact_file)
    pictures = job.pictures()
    whole = by_nncf(exact, pictures, job)
    if not job.weights.synthetic:
        whole = _within_thresholds(core, exact, whole, job, pictures.held_out())
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


class _Judge:
    """Compares models with FP32 on pictures that did not calibrate."""

    def __init__(
        self,
        core: openvino.Core,
        exact: openvino.Model,
        inputs: list[NDArray[Any]],
        pictures: NDArray[np.intp],
    ) -> None:
        self._core = core
        self._inputs = inputs
        self._pictures = pictures
        self._expected = self._answers(exact, inputs)

    def fidelity(self, model: openvino.Model) -> Fidelity:
        """Against FP32."""
        return compare(self._expected, self._answers(model, self._inputs), self._pictures)

    def noise(self, model: openvino.Model) -> float:
        """Energy of the difference over that of FP32's answers, on a few pictures."""
        expected = self._expected[:_NOISE_PICTURES].astype(np.float64)
        found = self._answers(model, self._inputs[:_NOISE_PICTURES])
        return float(np.square(found - expected).sum() / max(np.square(expected).sum(), 1e-30))

    def _answers(self, model: openvino.Model, inputs: list[NDArray[Any]]) -> NDArray[np.float32]:
        fixed = model.clone()
        fixed.reshape(list(inputs[0].shape))
        request = self._core.compile_model(
            fixed, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        ).create_infer_request()
        answers = []
        for item in inputs:
            request.infer([item])
            answers.append(request.get_output_tensor(0).data[0].copy())
        return np.stack(answers)


def _within_thresholds(
    core: openvino.Core,
    exact: openvino.Model,
    whole: openvino.Model,
    job: BuildJob,
    held_out: tuple[list[NDArray[Any]], NDArray[np.intp]],
) -> openvino.Model:
    """The best of what is tried: the first that the guard's thresholds let pass, else the last."""
    job.at("search layers", 0.0)
    judge = _Judge(core, exact, *held_out)
    best, found = whole, judge.fidelity(whole)
    if job.narrow_sums:
        wide = surgery.full_range(whole)
        other = judge.fidelity(wide)
        _log.info("weights of 7 bits: %s; of 8 bits: %s", describe(found), describe(other))
        if other.snr_db > found.snr_db:
            best, found = wide, other
    if _passes(found, job):
        return best
    parts = surgery.layers(best)
    groups = mixed_precision.blocks(parts, _BLOCKS)
    every = frozenset(name for part in parts for name in part.names)
    noises = []
    for number, group in enumerate(groups):
        job.at("search layers", 0.1 + 0.6 * number / len(groups))
        alone = frozenset(name for part in group for name in part.names)
        noises.append(judge.noise(surgery.left_out(best, exact, every - alone)))
    order = mixed_precision.ranked(noises, [sum(part.cost for part in group) for group in groups])
    allowed = _MARGIN * 10 ** (-job.thresholds.snr_db / 10)
    count = max(1, mixed_precision.fewest(noises, order, allowed))
    for attempt in range(_TRIES):
        job.at("search layers", 0.7 + 0.3 * attempt / _TRIES)
        left = [part for block in order[:count] for part in groups[block]]
        names = frozenset(name for part in left for name in part.names)
        mixed = surgery.left_out(best, exact, names)
        found = judge.fidelity(mixed)
        _log.info("%d of %d layers in FP32: %s", len(left), len(parts), describe(found))
        if _passes(found, job) or count >= len(groups):
            return mixed
        count += 1
    return mixed


def _passes(found: Fidelity, job: BuildJob) -> bool:
    """Whether the guard would let it pass, and its noise is low, too."""
    quiet = found.snr_db >= job.thresholds.snr_db
    return quiet and not faults(found, job.thresholds, synthetic=False)
