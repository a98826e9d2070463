"""What a builder is asked to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from corral.accuracy import Thresholds
from corral.backends.calibration import Calibration
from corral.models.spec import ModelSpec, Weights
from corral.settings import BackendName, Precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildJob:
    """An artefact to write, for an engine's ``build.write``.

    Attributes:
        backend: the engine; several may share a builder.
        spec: the model.
        weights: its weights.
        precision: FP32 or INT8.
        narrow_sums: whether the CPU sums u8 x i8 products in 16 bits, where they can saturate:
            weights or activations are then left one bit less.
        left_out_in_bf16: whether layers that stay out of INT8 may run in BF16.
        at: called with a step and the share of it that is done, 0 to 1.
        remark: called with a phrase on why what was made is not what was asked for.
        thresholds: what the guard lets pass, for a builder that searches.
        calibration: a folder of a user's own pictures, or None.
        fp32: makes or finds the same engine's FP32 artefact, for an INT8 that is made of it.
        file: the first file, to be written; the others lie beside it.
        source: a user's model file, to be read: ``spec.file``, or a copy of it where that lies
            behind links; words are about ``spec.file``.
    """

    backend: BackendName
    spec: ModelSpec
    weights: Weights
    precision: Precision
    narrow_sums: bool
    left_out_in_bf16: bool
    thresholds: Thresholds
    calibration: str | None
    at: Callable[..., None]
    remark: Callable[[str], None]
    fp32: Callable[[], Path]
    file: Path
    source: Path | None = None

    def pictures(self) -> Calibration:
        """What INT8 is calibrated on."""
        return Calibration(
            self.spec, self.at, synthetic=self.weights.synthetic, folder=self.calibration
        )
